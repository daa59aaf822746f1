"""The guard against regressions: what it lets pass and what it does not."""

from dataclasses import replace

import pytest
from benchmarks.compare import Row, Side
from benchmarks.judging import Agreement

from benchmarks import reference, table

ROW = Row(
    net="resnet20",
    runtime="litert",
    kind="int8",
    images=10_000,
    torch_accuracy=0.9173,
    agreement=Agreement(images=10_256, top1=0.998, max_steps=3.0, mean_steps=0.1, within_one=0.99),
    ours=Side(0.9170, 300_000, {"quantize": 2.0, "lower": 1.0}, p50_ms=0.5),
    peer=Side(0.9160, 330_000, {"export": 5.0}, p50_ms=0.6),
    ratio=(0.83, 0.8, 0.9),
    speedup=1.5,
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FILE", tmp_path / "reference.json")
    reference.save([ROW, replace(ROW, net="resnet56")], {"date": "2026-11-22"})
    return reference.FILE


@pytest.mark.usefixtures("file")
def test_what_is_as_good_passes_and_what_is_worse_is_named():
    within = replace(ROW, ours=replace(ROW.ours, accuracy=0.9160))
    below = replace(ROW, ours=replace(ROW.ours, accuracy=0.9150))
    astray = replace(ROW, agreement=replace(ROW.agreement, top1=0.98))
    assert reference.failures([ROW, within]) == []
    (failure,) = reference.failures([below])
    assert failure.startswith("resnet20 litert int8: accuracy 91.50%, reference 91.70%")
    (failure,) = reference.failures([astray])
    assert "agreement 98.00%" in failure
    (failure,) = reference.failures([replace(ROW, net="resnet32")])
    assert "no reference" in failure


def test_saving_replaces_only_the_rows_that_were_measured(file):
    better = replace(ROW, ours=replace(ROW.ours, accuracy=0.93))
    reference.save([better], {"date": "2026-11-23"})
    assert reference.failures([ROW])  # it has the new figure
    assert reference.failures([replace(ROW, net="resnet56")]) == []
    assert file.read_text().count('"litert"') == 2


def test_the_table_has_a_line_a_row_and_leaves_out_what_was_not_measured():
    alone = replace(ROW, peer=None, ratio=None, speedup=None, ours=replace(ROW.ours, p50_ms=None))
    head, rule, with_peer, without = table.render([ROW, alone]).splitlines()
    assert {len(line) for line in (head, rule, with_peer, without)} == {len(head)}
    assert "0.83 (0.80-0.90)" in with_peer
    assert "0.500 / 0.600" in with_peer
    assert "3.0 / 5.0" in with_peer
    assert " / " not in without

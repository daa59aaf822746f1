"""The record of a run, and the verb that makes a page of it."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from hypothesis import given, settings

import edgewise as ew
from edgewise.edge.artifact import Artifact
from edgewise.errors import InputError, ModelError
from edgewise.record import Event
from edgewise.reporting import record, report
from edgewise.reporting.findings import findings
from edgewise.reporting.report import FILE, read, save
from edgewise.reporting.terminal import console
from edgewise.reporting.terminal import report as shown

from .reports import REPORTS, SIGNATURE, demo_like


@given(REPORTS)
@settings(max_examples=40)
def test_a_record_comes_back_as_it_was(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("run")
    save(found, folder / FILE)
    assert read(folder) == found
    assert read(folder / FILE) == found


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"title": "a"}', "\0"])
def test_what_is_no_record_is_refused(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match="not a valid Report"):
        report(tmp_path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        report(tmp_path)


def test_figures_find_the_record_of_their_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # away from whatever files lie here
    file = tmp_path / "small.onnx"
    file.write_bytes(b"bytes")
    made = Artifact.of("onnxruntime", file, SIGNATURE, precision="int8", lineage=(Event("load"),))
    made.save_record()
    rows = demo_like().rows
    measured = [SimpleNamespace(subject=str(file)), *(r.measurement for r in rows[1:])]
    found = record(SimpleNamespace(measurements=measured, differences=[None] * len(rows)))
    origin = found.rows[0].origin
    assert (origin.precision, origin.sha256, origin.lineage) == ("int8", made.sha256, made.lineage)
    assert found.rows[1].origin is None
    file.write_bytes(b"other")
    with pytest.raises(ModelError, match="sha256"):
        record(SimpleNamespace(measurements=measured[:1], differences=[None]))


def test_one_measurement_is_a_report(tmp_path):
    path = tmp_path / "page.html"
    found = ew.report(demo_like().rows[0].measurement, path, title="One")
    assert len(found.rows) == 1
    assert "<title>One</title>" in path.read_text()


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    for path in (tmp_path / "gone" / "page.html", tmp_path / "folder"):
        with pytest.raises(InputError, match="cannot be written"):
            report(demo_like(), path)
    assert sorted(os.listdir(tmp_path)) == before


def test_findings_say_what_the_figures_say():
    assert findings(demo_like()) == (
        "Fastest: int8 on litert, 19.0 µs at p50.",
        "Smallest: int8 on onnxruntime, 64.0 kB.",
        "Faster than float on the same runtime: int8 on onnxruntime (0.57×), int8 on litert "
        "(0.40×).",
        "Slower than float on the same runtime: int8 on openvino (1.20×).",
        "Largest loss of accuracy against float on the same runtime: int8 on openvino, 2.50 "
        "(0.7 to 4.8) percentage points.",
    )


@given(REPORTS)
@settings(max_examples=40)
def test_any_report_is_printed(found):
    terminal = console()
    with terminal.capture() as text:
        terminal.print(shown(found))
    assert not [c for c in text.get() if not c.isprintable() and c != "\n"]
    assert len(text.get().splitlines()) >= 1 + len(found.rows)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = console()
    with terminal.capture() as text:
        terminal.print(shown(demo_like()))
    lines = text.get().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("litert" in line and "µs" in line and "×" in line for line in lines[:8]) == 1
    assert ("(0.38 to 0.42)" in text.get()) == (width == 160)

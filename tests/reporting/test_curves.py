"""Sensitivity on the page: every group a line, within its box, harmless whatever the names are."""

from __future__ import annotations

import pytest

from edgewise.errors import InputError
from edgewise.record import Curves, Damage, encode
from edgewise.reporting import report
from edgewise.reporting.curves import panels
from edgewise.reporting.html import page
from edgewise.reporting.report import Report, now, read

ROWS = (
    Damage("first", 0.25, 0.01, 0.0, 0.9),
    Damage("first", 0.5, 0.4, 0.2, 0.6),
    Damage("<b>second</b>", 0.25, 0.0, 0.0, 0.91),
    Damage("<b>second</b>", 0.5, 9.0, 0.8, 0.1),
)
LABELLED = Curves("l1", 64, ROWS, "accuracy", 0.9)
UNLABELLED = Curves("fpgm", 64, ROWS)


def made(*curves: Curves) -> Report:
    return Report("Sensitivity", now(), (), curves=curves)


def test_losses_are_of_the_metric_or_of_the_outputs():
    labelled, unlabelled = panels((LABELLED, UNLABELLED))
    first, second = labelled.lines
    assert first.points == ((0, 0), (25, 0), (50, 37.5)) and first.text == "0.00 · 30.00"
    assert second.points == ((0, 0), (25, 0), (50, 100)) and second.text == "-1.00 · 80.00"
    assert "80.0 points" in labelled.note and "accuracy" in labelled.note
    first, second = unlabelled.lines
    assert first.points == ((0, 0), (25, 1), (50, 40)) and second.points[-1] == (50, 100)
    assert second.text == "0 · 9" and "variance" in unlabelled.note


def test_nothing_lost_is_a_flat_line():
    curves = Curves("l1", 4, (Damage("a", 0.5, 0.0, 0.0),))
    assert panels((curves,))[0].lines[0].points == ((0, 0), (50, 0))
    assert panels((Curves("l1", 4),)) == ()


def test_names_are_escaped():
    text = page(made(LABELLED))
    assert "<b>second" not in text and "&lt;b&gt;second" in text
    assert text.count("<polyline") == 2


def test_a_folder_of_curves_is_a_report(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path)
    (tmp_path / "sensitivity-1.json").write_bytes(encode(LABELLED))
    found = report(tmp_path, tmp_path / "page.html")
    assert found.curves == (LABELLED,) and "What cutting" in (tmp_path / "page.html").read_text()
    (tmp_path / "measurements.json").write_bytes(encode(Report("Both", now(), ())))
    assert read(tmp_path).title == "Both" and read(tmp_path).curves == (LABELLED,)
    (tmp_path / "sensitivity-1.json").write_text("{}")
    with pytest.raises(InputError, match="not a valid"):
        read(tmp_path)

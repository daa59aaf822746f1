"""The demo: honest splits, and the whole story end to end."""

from __future__ import annotations

import numpy as np
import pytest

import edgewise as ew
from edgewise import demo as module
from edgewise.cli import main
from edgewise.edge.doctor import examine
from edgewise.reporting.report import read


def test_no_image_is_in_two_parts():
    parts = module._images()
    seen = {}
    for part, (x, y) in parts.items():
        assert x.shape[1:] == (1, 8, 8) and x.dtype == np.float32
        assert x.min() >= 0 and x.max() <= 1
        assert len(x) == len(y)
        assert np.bincount(y).min() >= 0.09 * len(y)
        seen[part] = {image.tobytes() for image in x}
    assert sum(len(y) for _, y in parts.values()) == 1797
    assert not seen["training"] & seen["test"]
    assert not seen["training"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


@pytest.mark.slow
def test_the_whole_story(tmp_path, capfd):
    folder = tmp_path / "new" / "run"
    with pytest.raises(SystemExit) as end:
        main(["demo", "-o", str(folder), "--runs", "10"])
    out, err = capfd.readouterr()
    assert end.value.code in (0, None), err

    works = [probe.runtime for probe in examine() if probe.state == "works"]
    report = read(folder)
    assert [row.measurement.runtime for row in report.rows] == [r for r in works for _ in (0, 1)]
    for float_row, int8_row in zip(report.rows[::2], report.rows[1::2], strict=True):
        assert (float_row.origin.precision, int8_row.origin.precision) == ("float32", "int8")
        assert float_row.difference is None
        assert int8_row.difference.to == float_row.measurement.subject
        assert float_row.measurement.value > 0.97
        assert int8_row.measurement.value > float_row.measurement.value - 0.01
        assert float_row.measurement.n == module.HELD_OUT
        assert int8_row.measurement.agreement.top1 >= 0.98
        assert int8_row.measurement.size_bytes < float_row.measurement.size_bytes / 2
    page = (folder / "report.html").read_text()
    for row in report.rows:
        assert row.origin.sha256 in page
        assert ew.Artifact.open(row.measurement.subject).sha256 == row.origin.sha256
    assert ew.load(folder / "digits-int8.pt2").quantized
    assert out.count("int8") >= len(works)
    assert "wrote" in err


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        main(["demo", "-o", str(tmp_path / "file" / "run")])
    assert end.value.code == 2
    assert capfd.readouterr().err.startswith("error: ")

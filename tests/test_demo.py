"""The demo: honest splits, and the whole story end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgewise import Fitted
from edgewise import demo as module
from edgewise.cli import main


def test_no_image_is_in_two_parts():
    (x, y), (held_x, held_y) = module._images()
    for images, classes in ((x, y), (held_x, held_y)):
        assert images.shape[1:] == (1, 8, 8) and images.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1
        assert np.bincount(classes).min() >= 0.09 * len(classes)
    assert len(y) + len(held_y) == 1797 and len(held_y) == module.HELD_OUT
    assert not {image.tobytes() for image in x} & {image.tobytes() for image in held_x}


@pytest.mark.slow
def test_the_whole_story(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "new" / "demo"
    with pytest.raises(SystemExit) as end:
        main(["demo", "-o", str(folder), "--time", "40s", "--json"])
    out, err = capfd.readouterr()
    run = Fitted.open(folder / "run")
    assert end.value.code == (0 if run.holds else 1), err
    told = json.loads(out)
    assert told["holds"] == run.holds
    proof = run.record.proof
    assert proof.before.value > 0.97
    assert proof.figures.n == run.record.samples.selection == module.HELD_OUT // 2
    assert proof.figures.size_bytes < 0.4 * run.record.trial(0).figures.size_bytes
    page = (folder / "run" / "report.html").read_text()
    assert run.artifact.path.name in page
    assert "edgewise fit" in err


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        main(["demo", "-o", str(tmp_path / "file" / "run")])
    assert end.value.code == 2
    assert capfd.readouterr().err.startswith("error: ")

"""The example runs, and does what it says."""

import re
import runpy
from pathlib import Path

import numpy as np

import edgewise as ew
from edgewise.recipes import read_recipe, write_recipe

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "deep_compression.py"


def test_far_fewer_bytes_at_no_loss(tmp_path, capsys):
    example = runpy.run_path(str(EXAMPLE))
    example["main"](tmp_path)
    dense, small = re.findall(r"([\d.]+)% of 360, ([\d,]+) bytes", capsys.readouterr().out)
    assert float(small[0]) >= float(dense[0]) - 0.5
    before, after = (int(each[1].replace(",", "")) for each in (dense, small))
    assert after * 25 < before
    model = ew.load(tmp_path / "small.pt2")
    assert model.clustered and ew.coded_size(model) == after
    with np.load(tmp_path / "data.npz") as data:
        assert np.isfinite(model(data["x_test"])).all()


def test_the_recipe_is_written_as_it_is_read(tmp_path):
    recipe = read_recipe(EXAMPLE.with_suffix(".yaml"))
    assert read_recipe(write_recipe(recipe, tmp_path / "again.yaml")) == recipe

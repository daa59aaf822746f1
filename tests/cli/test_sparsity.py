"""sparsify: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import edgewise as ew
from edgewise.cli import sparsity

from .conftest import SHAPE


def test_the_plan_comes_first_and_weights_are_zero(folder, run):
    done = run(
        "sparsify", "nets:small", *SHAPE, "--criterion", "sparsegpt", "--data", "floats.npz",
        "-o", "s.pt2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "weights are zero (50.0%)" in done.err
    assert done.json["plan"]["params"] == {"criterion": "sparsegpt"}
    small = ew.load(folder / "s.pt2")
    weight = dict(small.graph.named_parameters())["4.weight"]
    assert int((weight == 0).sum()) == 288


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--amount", "1.5"), "[0, 1)"),
        (("--amount", "9=0.5"), "matches nothing"),
        (("--pattern", "4:2"), "N:M"),
        (("--criterion", "wanda"), "give data="),
        (("--allocation", "fair"), "lamp"),
    ],
)
def test_a_bad_call_is_one_sentence(folder, run, options, said):
    done = run("sparsify", "nets:small", *SHAPE, *options, "-o", "new.pt2")
    assert done.code == 2
    assert done.err.startswith("error: ") and said in done.err
    assert not (folder / "new.pt2").exists()


def test_the_options_are_the_fields():
    options = inspect.signature(sparsity.sparsify).parameters
    for field in dataclasses.fields(ew.Sparsify):
        default = 0.5 if field.name == "amount" else options[field.name].default or field.default
        assert default == field.default

"""The space is read from the steps, and Optuna and the stages speak of the same points."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest

from edgewise import Condense, Distill, Prune, Quantize, RoundWeights, Training
from edgewise.errors import InputError
from edgewise.fitting.lessons import Learning
from edgewise.fitting.space import FLOAT, Space, schemes_for
from edgewise.recipes import rows
from edgewise.step import Interval, searched_fields

RUNTIMES = ("onnxruntime", "litert")


@pytest.fixture
def space() -> Space:
    schemes = {name: schemes_for(name, {"conv": 9, "linear": 1}) for name in RUNTIMES}
    learning = Learning(Training(epochs=1), rungs=3)
    return Space(RUNTIMES, schemes, bits=True, learning=learning)


def test_every_point_that_optuna_draws_is_a_recipe(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(50):
        point = space.ask(study.ask())
        assert space.near({}, point) == point
        recipe = space.recipe(point)
        assert rows(recipe) is not None
        assert sum(isinstance(s, Distill) for s in recipe.steps) == point["recovery"]
        assert any(isinstance(s, Prune) for s in recipe.steps) == point["prune"]


def test_what_is_enqueued_is_what_is_asked(space):
    point = space.near({}, {"prune": True, "prune.amount": 0.45, "recovery": 2,
                            "runtime": "litert", "scheme.litert": "int8",
                            "quantize.weight_bits": 4, "roundweights": True})  # fmt: skip
    study = optuna.create_study()
    study.enqueue_trial(point)
    assert space.ask(study.ask()) == point


def test_a_recipe_has_the_steps_in_the_order_that_makes_sense(space):
    point = space.near({}, {"prune": True, "prune.amount": 0.45, "recovery": 2,
                            "scheme.onnxruntime": "int8", "roundweights": True})  # fmt: skip
    steps = space.recipe(point).steps
    assert [type(s) for s in steps] == [Prune, Distill, Distill, Quantize, RoundWeights]
    assert steps[0].amount == 0.45
    assert [s.training.epochs for s in steps[1:3]] == [1, 2]
    assert space.recipe(space.near({}, {})).steps == ()


def test_condensed_weights_have_their_bits_by_rate(space):
    point = space.near({}, {"scheme.onnxruntime": "int8", "condense": True, "condense.bits": 3.0})
    steps = space.recipe(point).steps
    assert [type(s) for s in steps] == [Condense, Quantize]
    assert (steps[0].bits, steps[1].weight_bits) == (3.0, 8)
    for other in ({"roundweights": True}, {"quantize.weight_bits": 4}):
        with pytest.raises(InputError, match="means nothing"):
            space.near(point, other)
    files = replace(space, bits=False)
    assert "condense" not in files.near({}, {"scheme.onnxruntime": "int8"})


def test_choices_stand_beside_the_fields(space):
    for kind in (Condense, Prune, Quantize, RoundWeights):
        for _, (_, of) in searched_fields(kind).items():
            for value in (of.low, of.high) if isinstance(of, Interval) else of:
                assert value is not None
    assert searched_fields(Distill) == {}


def test_what_means_nothing_is_refused(space):
    with pytest.raises(InputError, match=r"prune\.amount means nothing"):
        space.near({}, {"prune.amount": 0.5})


def test_schemes_are_those_that_the_runtime_and_the_layers_take():
    assert schemes_for("litert", {"conv": 9, "linear": 1})[:2] == (FLOAT, "int8")
    assert "int8-dynamic" not in schemes_for("litert", {"conv": 9, "linear": 1})
    assert "int8-dynamic" in schemes_for("litert", {"conv": 1, "linear": 9})
    assert "int4-weights" not in schemes_for("executorch", {"conv": 0, "linear": 9})

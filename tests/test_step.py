import json
from dataclasses import dataclass, field

import pytest

from edgewise.errors import StepError
from edgewise.loading import load
from edgewise.model import Model
from edgewise.step import Plan, Recipe, Step

from .nets import make


@dataclass(frozen=True)
class ScalePlan(Plan):
    factor: float
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale(Step):
    """Multiply the last bias; refuses to run twice."""

    factor: float = 2.0
    cheat: bool = False

    def requires(self, model):
        if any(e.step == "scale" for e in model.lineage):
            raise StepError("the model is scaled already")

    def plan(self, model, data):
        return ScalePlan(self.factor, {"layers.0": "it is not the last"})

    def apply(self, model, plan):
        if self.cheat:
            return model
        module = model.module()
        module.layers.get_submodule("2").bias.data.mul_(plan.factor)
        return Model(module, model.signature)


def model_of():
    net, x = make("perceptron")
    return load(net, x[:1]), x


def test_a_step_gives_a_new_model_and_writes_the_lineage():
    model, x = model_of()
    before = model(x)
    scaled = Scale(3.0)(model)
    assert (model(x) == before).all()
    assert not (scaled(x) == before).all()
    event = scaled.lineage[-1]
    assert (event.step, event.params) == ("scale", {"factor": 3.0})
    assert event.skipped == {"layers.0": "it is not the last"}
    json.dumps(event.params)


def test_a_step_that_changes_its_input_is_caught():
    model, _ = model_of()
    with pytest.raises(StepError, match="new Model"):
        Scale(cheat=True)(model)


def test_samples_of_the_data_travel_on():
    model, x = model_of()
    scaled = Scale()(model, {"calibration": x.numpy()})
    assert len(scaled.samples[0]) == 32


def test_a_recipe_says_what_had_run_when_it_fails():
    model, _ = model_of()
    assert Recipe((Scale(),))(model).lineage[-1].step == "scale"
    with pytest.raises(StepError, match=r"Scale \(after Scale\): the model is scaled already"):
        Recipe((Scale(), Scale()))(model)

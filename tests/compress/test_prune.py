"""Prune: what it plans, what it cuts, what it refuses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.prune import GroupCut, Prune, PrunePlan
from edgewise.compress.quantize import Quantize
from edgewise.errors import DataError, InputError, StepError
from edgewise.loading.torch import load_module
from edgewise.math.importance import CRITERIA

from ..nets import loaded


@cache
def model_of(name: str):
    model, x = loaded(name)
    return model, x.numpy()


def size(model) -> int:
    return sum(p.numel() for p in model.graph.parameters())


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_every_criterion_prunes(criterion, scope):
    model, x = model_of("inverted")
    data = {"calibration": (x, np.arange(len(x)) % 5)}
    step = Prune(0.3, of="macs", scope=scope, criterion=criterion, samples=64)
    plan = step.plan(model, None) if not CRITERIA[criterion].needs else None
    small = step(model, data)
    assert size(small) < size(model)
    if plan:
        assert plan.macs[1] <= 0.7 * plan.macs[0]
        assert plan.parameters == (size(model), size(small))
    assert small(x[:2]).shape == (2, 5)
    assert small.lineage[-1].step == "prune"


def test_gradients_need_no_labels():
    model, x = model_of("residual")
    assert size(Prune(0.3, criterion="taylor", samples=32)(model, {"calibration": x})) < size(model)


def test_what_measures_is_asked_for_the_share_that_is_left():
    model, _ = model_of("inverted")
    asked = []

    def share(small, whole):
        assert whole is model and small.signature == model.signature
        asked.append(size(small) / size(whole))
        return asked[-1]

    small = Prune(0.4, share)(model)
    assert 0.5 < size(small) / size(model) <= 0.6 and size(small) / size(model) in asked
    assert small.lineage[-1].params["of"].endswith("share") and len(asked) < 10
    with pytest.raises(StepError, match=r"at most 10\.0 % of the time"):
        Prune(0.4, lambda small, whole: 0.9)(model)


def test_the_least_important_units_go():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    for layer in (net[0].weight.data, net[2].weight.data.T):
        layer[:] = torch.tensor([3.0, 0.1, 2.0, 0.2, 1.0, 5.0])[:, None]
    plan = Prune(0.34).plan(load_module(net, torch.zeros(1, 4)), None)
    assert plan.groups == (GroupCut("0", 6, (1, 3), ("0.weight[0]", "0.bias[0]", "2.weight[1]")),)
    assert "6 -> 4" in str(plan)


def test_shares_by_group_and_groups_left_whole():
    model, _ = model_of("inverted")
    plan = Prune({"expand*": 0.5, "squeeze.0": 0.25}).plan(model, None)
    assert {row.group: len(row.units) for row in plan.groups} == {"expand.0": 8, "squeeze.0": 1}
    for scope in ("layer", "global"):
        plan = Prune(0.2, of="macs", scope=scope, keep=("stem*",)).plan(model, None)
        assert "stem.0" not in {row.group for row in plan.groups}
        assert plan.skipped["stem.0"] == "kept as asked"


def test_widths_are_left_in_multiples():
    model, _ = model_of("inverted")
    for step in (Prune(0.3, multiple=4), Prune(0.2, of="macs", scope="global", multiple=4)):
        for row in step.plan(model, None).groups:
            assert (row.size - len(row.units)) % 4 == 0


def test_a_function_is_a_criterion():
    model, _ = model_of("perceptron")
    plan = Prune(0.5, criterion=lambda e: torch.arange(e.size)).plan(model, None)
    assert plan.groups[0].units == tuple(range(8))


def test_bad_calls_are_refused_with_a_sentence():
    model, x = model_of("perceptron")
    before = model(x)
    for amount in (-0.1, 1, 1.5):
        with pytest.raises(InputError, match=r"\[0, 1\)"):
            Prune(amount)
    with pytest.raises(InputError, match="taylor"):
        Prune(criterion="tailor")
    with pytest.raises(InputError, match=r"layers\.0"):
        Prune(keep=("layer.0",))(model)
    with pytest.raises(InputError, match=r"layers\.0"):
        Prune({"layer.0": 0.5})(model)
    with pytest.raises(StepError, match=r"\(3,\).*16 units"):
        Prune(criterion=lambda e: torch.zeros(3))(model)
    with pytest.raises(StepError, match="NaN"):
        Prune(criterion=lambda e: torch.full((e.size,), float("nan")))(model)
    with pytest.raises(StepError, match="at most"):
        Prune(0.99, of="macs")(model)
    with pytest.raises(DataError, match="calibration"):
        Prune(criterion="taylor")(model)
    with pytest.raises(StepError, match="vanish"):
        Prune().apply(
            model, PrunePlan((GroupCut("layers.0", 16, tuple(range(16)), ()),), (1, 1), (1, 1))
        )
    with pytest.raises(StepError, match="quantized already"):
        Prune()(Quantize("int8")(model, {"calibration": x}))
    with pytest.raises(StepError, match="nothing in this model"):
        Prune()(load_module(nn.Linear(4, 3), torch.zeros(1, 4)))
    np.testing.assert_array_equal(model(x), before)


def test_operators_whose_products_are_not_counted_can_be_pruned_by_units():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(2, 6, 1, padding="same"), nn.ConvTranspose3d(6, 2, 1))
    model = load_module(net.eval(), torch.zeros(1, 2, 3, 3, 3))
    step = Prune(0.5)
    assert "6 -> 3" in str(step.plan(model, None))
    assert size(step(model)) == (2 * 3 + 3) + (3 * 2 + 2)
    with pytest.raises(StepError, match="no macs are counted"):
        Prune(0.5, of="macs")(model)


def test_a_pruned_model_is_quantized_like_any_other():
    model, x = model_of("residual")
    data = {"calibration": x}
    small = Quantize("int8")(Prune(0.3)(model), data)
    assert small.quantized and [e.step for e in small.lineage] == ["load", "prune", "quantize"]

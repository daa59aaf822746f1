"""Zeros where they were asked for, and through what comes after."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgewise.compress.quantize import Quantize
from edgewise.compress.saliency import SALIENCIES
from edgewise.compress.sparsify import ALLOCATIONS, Sparsify
from edgewise.data import as_data
from edgewise.errors import DataError, InputError, StepError

from ..nets import NETS, loaded


def whole(name="residual", n=48):
    model, x = loaded(name)
    inputs = torch.randn(n, *x.shape[1:], generator=torch.Generator().manual_seed(0)).numpy()
    return model, {"calibration": inputs}, inputs


def weights(model):
    return {n: p.detach() for n, p in model.graph.named_parameters() if p.ndim > 1}


def zeros(model):
    found = weights(model).values()
    return sum(int((w == 0).sum()) for w in found) / sum(w.numel() for w in found)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("criterion", SALIENCIES)
def test_the_share_that_was_asked_for_is_zero(name, criterion):
    model, data, x = whole(name)
    step = Sparsify(0.5, criterion)
    plan = step.plan(model, as_data(data, signature=model.signature))
    small = step.apply(model, plan)
    assert np.isfinite(small(x)).all()
    assert plan.weights
    for row in plan.weights:
        assert row.zeros == int((weights(small)[row.weight] == 0).sum())
        assert abs(row.zeros - row.size / 2) <= 1
    assert "weights are zero" in str(plan)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_allocations_make_the_same_whole(allocation):
    model, data, _ = whole()
    assert zeros(Sparsify(0.7, "wanda", allocation)(model, data)) == pytest.approx(0.7, abs=0.005)


@pytest.mark.parametrize("criterion", ["magnitude", "wanda", "sparsegpt", "random"])
def test_two_of_four(criterion):
    model, data, _ = whole()
    small = weights(Sparsify(0.9, criterion, pattern="2:4")(model, data))
    groups = small["conv2.weight"].permute(0, 2, 3, 1).reshape(-1, 4)
    assert ((groups == 0).sum(1) == 2).all()
    assert (small["conv1.weight"] != 0).all()  # three inputs


def test_blocks():
    model, data, _ = whole()
    small = weights(Sparsify(0.5, pattern="4x2", reconstruct=True)(model, data))
    matrix = small["conv2.weight"].permute(0, 2, 3, 1).reshape(16, 72)
    share = (matrix.reshape(4, 4, 36, 2) == 0).float().mean((1, 3))
    assert set(share.flatten().tolist()) == {0.0, 1.0} and share.mean() == 0.5


@pytest.mark.parametrize("criterion", ["sparsegpt", "wanda"])
def test_solving_brings_outputs_closer(criterion):
    model, data, x = whole("residual", 96)
    data = {"calibration": x[:64]}
    plain = Sparsify(0.6, "wanda")(model, data)
    solved = Sparsify(0.6, criterion, reconstruct=True)(model, data)
    errors = [np.square(m(x[64:]) - model(x[64:])).mean() for m in (plain, solved)]
    assert errors[1] < 0.7 * errors[0]


def test_shares_by_layer_and_layers_that_stay_whole():
    model, _, _ = whole()
    small = weights(Sparsify({"conv*": 0.5, "conv2": 0.25})(model))
    share = {name: float((w == 0).float().mean()) for name, w in small.items()}
    assert share == {"conv1.weight": 0.5, "conv2.weight": 0.25, "head.weight": 0.0}
    assert zeros(Sparsify(0.5, keep=("conv*",))(model)) < 0.1


def test_a_criterion_of_ones_own():
    model, _, _ = whole()
    small = Sparsify(0.5, lambda weight, name: -weight.abs())(model)
    kept = weights(small)["head.weight"]
    assert kept.abs().max() < weights(model)["head.weight"].abs().max()
    with pytest.raises(StepError, match="with NaN"):
        Sparsify(0.5, lambda weight, name: weight * float("nan"))(model)


def test_zeros_stay_through_folding_and_quantization():
    model, data, _ = whole()
    sparse = Sparsify(0.5)(model)
    small = Quantize("int8", weight_bits=4)(sparse, data)
    for name, before in weights(sparse).items():
        assert (weights(small)[name][before == 0] == 0).all()


def test_bad_calls_are_refused():
    model, data, _ = whole()
    for bad, said in (
        ({"amount": 1.0}, "share"),
        ({"amount": {"conv1": -0.1}}, "share"),
        ({"criterion": "best"}, "magnitude"),
        ({"allocation": "best"}, "erdos-renyi"),
        ({"pattern": "4:2"}, "N:M"),
        ({"pattern": "2:4", "allocation": "global"}, "allocation"),
        ({"pattern": "2x2", "criterion": "sparsegpt"}, "wanda"),
        ({"samples": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            Sparsify(**bad)
    with pytest.raises(InputError, match="matches nothing"):
        Sparsify(keep=("nothing",))(model)
    with pytest.raises(StepError, match="can be made sparse"):
        Sparsify(keep=("*",))(model)
    with pytest.raises(DataError, match="give data="):
        Sparsify(criterion="wanda")(model)
    with pytest.raises(StepError, match="quantized already"):
        Sparsify()(Quantize("int8")(model, data))

"""Condense: about as many bits as were asked for, the closest outputs that these allow."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
import pytest
import torch

from edgewise.compress.coded_size import coded_size
from edgewise.compress.condense import Condense
from edgewise.compress.quantize import Quantize
from edgewise.compress.sparsify import Sparsify
from edgewise.data import as_data
from edgewise.errors import DataError, InputError, StepError
from edgewise.graph.canonical import FAKE_QUANTIZE

from ..nets import NETS, loaded


def whole(name="residual"):
    model, x = loaded(name)
    inputs = torch.randn(64, *x.shape[1:], generator=torch.Generator().manual_seed(0)).numpy()
    return model, {"calibration": inputs}, inputs


def weights(model):
    return {n: p.detach() for n, p in model.graph.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("name", NETS)
def test_fewer_bits_and_the_model_is_not_touched(name):
    model, data, x = whole(name)
    before = {n: w.clone() for n, w in weights(model).items()}
    plan = Condense(3).plan(model, as_data(data, signature=model.signature))
    assert all(torch.equal(w, before[n]) for n, w in weights(model).items())
    spent = sum(row.bits * row.size for row in plan.weights) / sum(r.size for r in plan.weights)
    assert 1 < spent < 4
    small = Condense(3).apply(model, plan)
    assert np.isfinite(small(x)).all() and "weights of" in str(plan)


def test_more_bits_come_closer_and_fewer_take_less():
    model, data, x = whole()
    found = [Condense(bits)(model, data) for bits in (1.5, 3, 5)]
    errors = [float(np.square(m(x) - model(x)).mean()) for m in found]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    sizes = [coded_size(m) for m in found]
    assert sizes[0] < sizes[1] < sizes[2] < coded_size(model)


def test_zeros_stay():
    model, data, _ = whole()
    sparse = Sparsify(0.5)(model)
    for name, after in weights(Condense(3)(sparse, data)).items():
        assert (after[weights(sparse)[name] == 0] == 0).all()


def test_bad_calls_are_refused():
    model, data, _ = whole()
    for bad, said in (({"bits": 0}, "above 0"), ({"samples": 0}, "at least 1")):
        with pytest.raises(InputError, match=said):
            Condense(**bad)
    with pytest.raises(DataError, match="give data="):
        Condense()(model)
    with pytest.raises(StepError, match="can be condensed"):
        Condense(keep=("*",))(model, data)
    with pytest.raises(StepError, match="before that"):
        Condense()(Quantize("int8")(model, data), data)


def test_int8_has_the_integers_that_were_chosen():
    model, data, _ = whole()
    small = Condense(3)(model, data)
    int8 = Quantize("int8")(small, data)
    for node in int8.graph.graph.nodes:
        if node.target is FAKE_QUANTIZE and node.args[0].op == "get_attr":
            weight, scale = (attrgetter(a.target)(int8.graph).detach() for a in node.args[:2])
            rows = weight.flatten(1) / scale[:, None]
            assert rows.abs().max() < 60  # of 127: not stretched over the range
            assert (rows - rows.round()).abs().max() < 0.45
    assert coded_size(int8) < coded_size(small)

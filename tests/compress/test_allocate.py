from itertools import product

import numpy as np
import pytest

from edgewise.compress.allocate import Width, allocate, choose
from edgewise.compress.quantize import Quantize
from edgewise.errors import InputError, StepError
from edgewise.loading.torch import load_module

from ..nets import loaded, make


@pytest.mark.parametrize("seed", range(5))
def test_no_other_choice_has_a_smaller_error(seed):
    generator = np.random.default_rng(seed)
    rows = [
        Width(name, bits, float(generator.exponential() * 4.0**-bits), size * bits / 8)
        for name, size in (("a", 100), ("b", 700), ("c", 50), ("d", 300))
        for bits in (2, 3, 4, 8)
    ]
    budget = 600.0
    found = choose(rows, budget)
    by_layer = [[r for r in rows if r.layer == name] for name in "abcd"]
    every = [c for c in product(*by_layer) if sum(r.cost for r in c) <= budget]
    assert found.cost <= budget
    assert found.error == pytest.approx(min(sum(r.error for r in c) for c in every))


def test_a_model_keeps_within_the_size_and_beats_the_same_width_everywhere():
    model, x = loaded("residual")
    data = {"calibration": x.numpy()}
    count = sum(p.numel() for n, p in model.graph.named_parameters() if p.ndim > 1)
    seen = []
    found = allocate(model, data, count * 4 / 8, progress=lambda done, total: seen.append(done))
    assert seen == list(range(1, len(found.measured) + 1))
    assert set(found.bits) == {"conv1", "conv2", "head"}
    uniform = sum(row.error for row in found.measured if row.bits == 4)
    assert found.cost <= count * 4 / 8 and found.error <= uniform
    small = Quantize("int8", weight_bits=found.bits)(model, data)
    assert small.quantized


def test_more_bits_change_outputs_less():
    net, x = make("inverted")
    found = allocate(load_module(net, x[:1]), {"calibration": x.numpy()}, 1e6, widths=(2, 4, 8))
    for name in found.bits:
        errors = [row.error for row in found.measured if row.layer == name]
        assert errors[0] > errors[1] > errors[2]
    assert set(found.bits.values()) == {8}


def test_bad_calls_are_refused():
    model, x = loaded("perceptron")
    data = {"calibration": x.numpy()}
    with pytest.raises(InputError, match="at the least width"):
        allocate(model, data, 1)
    with pytest.raises(InputError, match="2 to 8 bits"):
        allocate(model, data, 1e6, widths=(1, 4))
    with pytest.raises(StepError, match="float model"):
        allocate(Quantize("int8")(model, data), data, 1e6)


def test_measured_costs_decide_who_stays_in_float():
    net, x = make("residual")
    model, data = load_module(net, x[:1]), {"calibration": x.numpy()}
    names = ("conv1", "conv2", "head")
    costs = {name: {8: 1.0, 32: 4.0} for name in names}
    everything = allocate(model, data, 12, cost=costs)
    assert (everything.keep_float, everything.bits, everything.error) == (names, {}, 0)
    some = allocate(model, data, 6, cost=costs)
    errors = {r.layer: r.error for r in some.measured if r.bits == 8}
    assert some.keep_float == (max(errors, key=errors.get),)
    assert some.cost == 6
    step = Quantize("int8", keep_float=some.keep_float)
    assert step(model, data).quantized
    slow = {name: {8: 5.0, 32: 4.0} for name in names}  # where int8 does not pay
    assert allocate(model, data, 12, cost=slow).bits == {}
    with pytest.raises(InputError, match="no cost was given of head"):
        allocate(model, data, 12, cost={n: costs[n] for n in names[:2]})


def test_bit_operations_are_products_times_bits():
    net, x = make("residual")
    model, data = load_module(net, x[:1]), {"calibration": x.numpy()}
    rows = allocate(model, data, 1e15, cost="bit-operations", widths=(4, 8, 32)).measured
    head = {r.bits: r.cost for r in rows if r.layer == "head"}
    weights = net.head.weight.numel()
    assert head == {4: weights * 4 * 8, 8: weights * 8 * 8, 32: weights * 32 * 32}
    least = sum(r.cost for r in rows if r.bits == 4)
    assert set(allocate(model, data, least, cost="bit-operations").bits.values()) <= {
        2,
        3,
        4,
        5,
        6,
        8,
    }
    with pytest.raises(InputError, match="unknown cost 'watts'"):
        allocate(model, data, 1, cost="watts")

import numpy as np
import pytest
import torch

from edgewise.compress.quantize import Quantize
from edgewise.compress.round_weights import METHODS, RoundWeights
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import DataError, InputError, StepError
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.lowering import lower

from ..nets import NETS, loaded


def few_bits(name, bits=4):
    model, x = loaded(name)
    data = {"calibration": x.numpy()}
    return model, Quantize("int8", weight_bits=bits)(model, data), data, x.numpy()


def error(model, reference, x):
    return float(np.square(model(x) - reference(x)).mean())


@pytest.mark.parametrize("name", NETS)
def test_what_layers_give_comes_closer_to_the_float_model(name):
    _, small, data, _ = few_bits(name)
    rows = RoundWeights().plan(small, _as_data(data, small)).layers.values()
    assert rows
    assert all(row.error <= row.nearest * (1 + 1e-9) for row in rows)
    assert any(row.error < row.nearest for row in rows)


def test_biases_take_up_the_mean_error():
    model, small, data, x = few_bits("residual", bits=3)
    done = RoundWeights("nearest")(small, data)
    assert error(done, model, x) < 0.9 * error(small, model, x)
    shift = np.abs(done(x) - model(x)).mean(0)
    assert np.abs((done(x) - model(x)).mean(0)).max() < 0.2 * shift.max()


@pytest.mark.parametrize("method", METHODS)
def test_weights_stay_on_their_grids_and_biases_on_theirs(method):
    _, small, data, _ = few_bits("residual", bits=3)
    done = RoundWeights(method)(small, data)
    constants = {**dict(done.graph.named_parameters()), **dict(done.graph.named_buffers())}
    checked = 0
    for node in done.graph.graph.nodes:
        if node.target is FAKE_QUANTIZE and node.args[0].op == "get_attr":
            weight, scale = (constants[a.target].detach() for a in node.args[:2])
            steps = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
            assert node.args[3:5] == (-3, 3)
            if method != "nearest":
                assert torch.allclose(steps, steps.round(), atol=1e-4) and steps.abs().max() < 3.01
            (reader,) = node.users
            step = scale.double() * float(constants[reader.args[0].args[1].target])
            bias = constants[reader.args[2].target].detach().double() / step
            assert torch.allclose(bias, bias.round(), atol=1e-2)
            checked += 1
    assert checked == 3


@pytest.mark.parametrize("method", METHODS)
def test_each_layer_says_what_it_gained(method):
    _, small, data, _ = few_bits("residual", bits=3)
    plan = RoundWeights(method).plan(small, _as_data(data, small))
    assert {row.layer for row in plan.layers.values()} == {"conv1", "conv2", "head"}
    for row in plan.layers.values():
        assert 0 < row.error <= row.nearest * (1 + 1e-9)


def test_the_runtimes_give_the_integers_of_the_model(tmp_path):
    _, small, data, x = few_bits("residual", bits=4)
    done = RoundWeights()(small, data)
    for name, runtime in RUNTIMES.items():
        file = lower(done, name, tmp_path / f"net{runtime.suffixes[0]}", data=x)
        assert file.agreement.max_steps < 0.01


@pytest.mark.parametrize("scheme", ["int8-weights", "int4-weights", "int4-affine", "int4-dynamic"])
def test_weights_beside_floats_are_rounded_too(scheme):
    model, x = loaded("perceptron")
    data = {"calibration": x.numpy()}
    small = Quantize(scheme, group=4 if "int4" in scheme else None)(model, data)
    plan = RoundWeights().plan(small, _as_data(data, small))
    assert len(plan.layers) == 2
    assert sum(r.error for r in plan.layers.values()) < sum(r.nearest for r in plan.layers.values())
    done = RoundWeights()(small, data)
    assert not np.array_equal(done(x.numpy()), small(x.numpy()))
    again = RoundWeights("nearest")(done, data)  # what is on the grid stays
    for name, weight in done.graph.named_parameters():
        if name.endswith("weight"):
            assert torch.allclose(dict(again.graph.named_parameters())[name], weight, atol=1e-6)


def test_the_same_seed_gives_the_same_weights():
    _, small, data, x = few_bits("branches")
    assert np.array_equal(RoundWeights()(small, data)(x), RoundWeights()(small, data)(x))


def test_bad_calls_are_refused():
    model, x = loaded("perceptron")
    with pytest.raises(StepError, match="quantize the model first"):
        RoundWeights()(model, {"calibration": x.numpy()})
    with pytest.raises(DataError, match="give data="):
        RoundWeights()(Quantize("int8")(model, {"calibration": x.numpy()}))
    with pytest.raises(InputError, match="gptq, adaround, nearest"):
        RoundWeights("up")
    with pytest.raises(InputError, match="2 to 8"):
        Quantize("int8", weight_bits=1)
    with pytest.raises(InputError, match="weight_bits 'nothing'"):
        Quantize("int8", weight_bits={"nothing": 4})(model, {"calibration": x.numpy()})


def _as_data(data, model):
    from edgewise.data import as_data

    return as_data(data, signature=model.signature)

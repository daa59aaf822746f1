"""Files that edgewise's own LiteRT lowering writes load back, and lower to the same again."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise import lower
from edgewise.edge.runners.litert import open as open_file
from edgewise.errors import ModelError
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.loading import load

from ...nets import NETS, make, quantized

MIXED = {"residual", "shuffle", "tokens"}


def run(path, *inputs):
    """The file's outputs on inputs as it takes them, sample by sample."""
    runner = open_file(path, 1)
    results = [runner.run(*(x[i : i + 1] for x in inputs)) for i in range(len(inputs[0]))]
    return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))


def as_taken(model, x):
    """Inputs N, C, ... as a model from a file takes them."""
    spec = model.signature.inputs[0]
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if spec.layout == "NHWC" else x


@pytest.mark.parametrize("name", NETS)
def test_a_float_file_loads_back(name, tmp_path):
    net, x = make(name)
    first = lower(load(net, x[:1]), "litert", tmp_path / "first.tflite")
    model = load(first.path)
    assert not model.quantized
    inputs = as_taken(model, x.numpy()[:8])
    want = run(first.path, inputs)[0]
    assert np.allclose(model(inputs), want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    second = lower(model, "litert", tmp_path / "second.tflite")
    again = run(second.path, inputs)[0]
    assert np.allclose(again, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", NETS)
def test_an_int8_file_loads_back_bit_for_bit(name, tmp_path):
    small, x = quantized(name)
    first = lower(small, "litert", tmp_path / "first.tflite")
    model = load(first.path)
    assert model.quantized
    inputs = as_taken(model, x.numpy())
    want = run(first.path, inputs)[0]
    second = lower(model, "litert", tmp_path / "second.tflite")
    assert np.array_equal(run(second.path, inputs)[0], want)
    assert count(model) <= count(small) + 2


@pytest.mark.parametrize("name", NETS)
def test_a_file_for_four_samples_takes_any_number(name, tmp_path):
    """Or says that it mixes them: reshapes of ours may join the batch with other axes."""
    net, x = make(name)
    first = lower(load(net, x[:1]), "litert", tmp_path / "first.tflite", batch=4)
    inputs = x.numpy()
    if name in MIXED:
        with pytest.raises(ModelError, match="mixes the 4 samples"):
            load(first.path)
        return
    model = load(first.path)
    want = np.concatenate([first.run(inputs[i : i + 4]) for i in range(0, 8, 4)])
    have = model(as_taken(model, inputs[:7]))
    assert np.allclose(have, want[:7], rtol=1e-4, atol=1e-4 * np.abs(want).max())


def count(model):
    return sum(n.target is FAKE_QUANTIZE for n in model.graph.graph.nodes)

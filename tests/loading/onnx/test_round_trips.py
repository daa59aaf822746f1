"""What others, and edgewise itself, wrote as ONNX comes back as the same Model."""

import warnings

import numpy as np
import pytest
import torch

from edgewise import load
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.graph.fold import fold
from edgewise.lowering.onnxruntime import write

from ...nets import NETS, loaded, make, quantized


def exported(name, path, **options):
    net, x = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x[:1],), path, dynamo=False, opset_version=17, **options)
    with torch.no_grad():
        return x.numpy(), net(x).numpy()


def written(model, path, batch=1):
    write(fold(model.module()), model.signature, batch, path)
    return path


def fakes(model):
    return sum(node.target is FAKE_QUANTIZE for node in model.graph.graph.nodes)


def run(path, x):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(path)
    (name,) = (value.name for value in session.get_inputs())
    return np.concatenate([session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


@pytest.mark.parametrize("name", NETS)
def test_a_file_of_torch_with_a_free_batch(name, tmp_path):
    axes = {"image": {0: "n"}, "scores": {0: "n"}}
    names = {"input_names": ["image"], "output_names": ["scores"]}
    x, want = exported(name, tmp_path / "net.onnx", dynamic_axes=axes, **names)
    model = load(tmp_path / "net.onnx")
    assert np.abs(model(x) - want).max() < 1e-5
    (given,), (result,) = model.signature.inputs, model.signature.outputs
    assert (given.name, given.shape) == ("image", (None, *x.shape[1:]))
    assert (result.name, result.shape) == ("scores", (None, *want.shape[1:]))


@pytest.mark.parametrize("name", NETS)
def test_a_file_for_a_batch_of_one_takes_any(name, tmp_path):
    x, want = exported(name, tmp_path / "net.onnx")
    assert np.abs(load(tmp_path / "net.onnx")(x) - want).max() < 1e-5


def test_parameters_and_layers_keep_their_names(tmp_path):
    exported("perceptron", tmp_path / "net.onnx")
    graph = load(tmp_path / "net.onnx").graph
    assert {name for name, _ in graph.named_parameters()} == {
        "layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"
    }  # fmt: skip
    names = [node.name for node in graph.graph.nodes if node.op == "call_function"]
    assert names == [
        "layers_layers_0_Gemm_linear", "layers_layers_1_Relu_relu", "layers_layers_2_Gemm_linear"
    ]  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_our_own_files_come_back(name, tmp_path):
    model, x = loaded(name)
    back = load(written(model, tmp_path / "net.onnx"))
    assert np.abs(back(x.numpy()) - model(x.numpy())).max() < 1e-5


@pytest.mark.parametrize("name", NETS)
def test_our_own_int8_files_come_back_bit_for_bit(name, tmp_path):
    model, x = quantized(name)
    first = written(model, tmp_path / "first.onnx")
    back = load(first)
    assert fakes(back)
    assert np.array_equal(back(x.numpy()), model(x.numpy()))
    second = written(back, tmp_path / "second.onnx")
    assert np.array_equal(run(second, x.numpy()), run(first, x.numpy()))

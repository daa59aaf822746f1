"""Quantized files: a float graph with fake-quantize nodes that computes what ONNX Runtime does."""

import logging

import numpy as np
import pytest
import torch
from onnx import TensorProto

from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.graph.fold import fold
from edgewise.loading import load
from edgewise.lowering.onnxruntime import write

from .files import constant, made, node, value
from .test_round_trips import exported, fakes, run

ort = pytest.importorskip("onnxruntime")
INT8, UINT8 = TensorProto.INT8, TensorProto.UINT8


class Samples:
    def __init__(self, x):
        self.left = iter([{"x": x[i : i + 8]} for i in range(0, len(x), 8)])

    def get_next(self):
        return next(self.left, None)


def quantized(name, folder, **options):
    from onnxruntime.quantization import quantize_static

    axes = {"x": {0: "n"}, "y": {0: "n"}}
    x, _ = exported(name, folder / "float.onnx", dynamic_axes=axes, input_names=["x"],
                    output_names=["y"])  # fmt: skip
    logging.disable()
    quantize_static(folder / "float.onnx", folder / "int8.onnx", Samples(x), **options)
    logging.disable(logging.NOTSET)
    return x, folder / "int8.onnx"


FORMS = {
    "qdq-uint8": {"quant_format": "QDQ", "per_channel": True},
    "qdq-int8": {"quant_format": "QDQ", "activation_type": "QInt8"},
    "qoperator": {"quant_format": "QOperator"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["residual", "inverted", "shuffle", "perceptron"])
def test_files_of_quantize_static(name, form, tmp_path):
    from onnxruntime.quantization import QuantFormat, QuantType

    options = dict(FORMS[form], quant_format=QuantFormat[FORMS[form]["quant_format"]])
    if "activation_type" in options:
        options["activation_type"] = QuantType[options["activation_type"]]
    x, path = quantized(name, tmp_path, **options)
    model, want = load(path), run(path, x)
    assert fakes(model)
    assert np.array_equal(model(x), want)
    kinds = {node.target for node in model.graph.graph.nodes if node.op == "call_function"}
    assert not kinds & {torch.ops.aten.round.default, torch.ops.aten.to.dtype}
    again = tmp_path / "again.onnx"
    write(fold(model.module()), model.signature, 1, again)
    assert np.array_equal(run(again, x), want)


def test_the_weights_of_a_quantized_file_are_real_and_on_the_grid(tmp_path):
    from onnxruntime.quantization import QuantFormat

    _, path = quantized("perceptron", tmp_path, quant_format=QuantFormat.QDQ, per_channel=True)
    model = load(path)
    parameters = dict(model.graph.named_parameters())
    names = {f"layers.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")}
    assert set(parameters) == names
    for n in model.graph.graph.nodes:
        if n.target is not FAKE_QUANTIZE:
            continue
        assert n.args[3:5] in ((-128, 127), (-127, 127))
        if n.args[0].op == "get_attr":
            scale = model.graph.get_buffer(n.args[1].target)
            steps = parameters[n.args[0].target].detach() / scale[:, None]
            assert n.args[5] == 0
            assert (steps.round() - steps).abs().max() < 1e-4
    assert parameters["layers.0.weight"].requires_grad


def test_integers_in_and_out(tmp_path):
    """A file whose input and output are uint8 keeps them; inside are real numbers."""
    grid = [constant("s", 0.5), constant("z", np.uint8(3)), constant("t", 0.25)]
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["a"]), node("Relu", ["a"], ["b"]),
        node("QuantizeLinear", ["b", "t", "z"], ["y"]),
    ]  # fmt: skip
    inputs, outputs = [value("x", ("n", 4), UINT8)], [value("y", ("n", 4), UINT8)]
    path = made(tmp_path / "net.onnx", nodes, grid, inputs, outputs)
    x = np.arange(256, dtype=np.uint8).reshape(64, 4)
    have = load(path)(x)
    assert have.dtype == np.uint8
    assert np.array_equal(have, run(path, x))


def test_stored_integers_are_moved_clamped_and_padded_on_their_grid(tmp_path):
    grid = [constant("s", 0.5), constant("z", np.uint8(100)), constant("low", np.uint8(100)),
            constant("high", np.uint8(140)), constant("pads", np.array([0, 1, 0, 2])),
            constant("edge", np.uint8(7)), constant("shape", np.array([0, -1, 1]))]  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("Clip", ["q", "low", "high"], ["c"]),
        node("Pad", ["c", "pads", "edge"], ["p"]), node("Reshape", ["p", "shape"], ["r"]),
        node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]  # fmt: skip
    path = made(tmp_path / "net.onnx", nodes, grid, None, [value("y", ("n", 7, 1))])
    model = load(path)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32) * 20
    assert np.array_equal(model(x), run(path, x))
    assert fakes(model) == 1


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_products_of_integers(kind, tmp_path):
    rng = np.random.default_rng(0)
    w = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (4, 5), kind)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT), node("Mul", ["s", "ws"], ["m"]),
        node("Mul", ["f", "m"], ["y"]),
    ]  # fmt: skip
    constants = [constant("w", w), constant("wz", kind(9)), constant("ws", 0.01)]
    path = made(tmp_path / "net.onnx", nodes, constants, None, [value("y", ("n", 5))])
    x = rng.normal(size=(8, 4)).astype(np.float32)
    session = ort.InferenceSession(path)
    assert np.allclose(load(path)(x), session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_sums_of_quantized_tensors(tmp_path):
    grid = [constant("s", 0.1), constant("z", np.uint8(120)), constant("t", 0.15)]
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearAdd", ["q", "s", "z", "q", "s", "z", "t", "z"], ["r"], domain="com.microsoft"),
        node("DequantizeLinear", ["r", "t", "z"], ["y"]),
    ]
    path = made(tmp_path / "net.onnx", nodes, grid)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32) * 5
    assert np.abs(load(path)(x) - run(path, x)).max() <= 0.15 * 1.01
    assert (load(path)(x) == run(path, x)).mean() > 0.95


@pytest.mark.parametrize("name", ["perceptron", "signal"])
def test_files_of_quantize_dynamic(name, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    axes = {"x": {0: "n"}, "y": {0: "n"}}
    x, _ = exported(name, tmp_path / "float.onnx", dynamic_axes=axes, input_names=["x"],
                    output_names=["y"])  # fmt: skip
    logging.disable()
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    logging.disable(logging.NOTSET)
    model = load(tmp_path / "int8.onnx")
    want = ort.InferenceSession(tmp_path / "int8.onnx").run(None, {"x": x})[0]
    assert np.abs(model(x) - want).max() < 1e-5
    targets = [n.target for n in model.graph.graph.nodes]
    assert targets.count(FAKE_QUANTIZE) >= 4
    assert torch.float64 not in [a for n in model.graph.graph.nodes for a in n.args]

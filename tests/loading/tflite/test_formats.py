"""What numbers are stored as: float16, int4, int8 beside floats, int8, uint8, int16x8."""

import operator

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise import lower
from edgewise.errors import InputError, ModelError, UnsupportedOperator
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.loading import load
from edgewise.lowering import litert
from edgewise.model import Model

from ...lowering.programs import CASES
from ...lowering.test_litert import signature_of
from .files import Made, original

CONV = {"options": "Conv2DOptions", "strideH": 1, "strideW": 1,
        "dilationHFactor": 1, "dilationWFactor": 1}  # fmt: skip
FULL = {"options": "FullyConnectedOptions"}


@pytest.fixture
def random():
    return np.random.default_rng(1)


def permutes(model):
    return sum(n.target is torch.ops.aten.permute.default for n in model.graph.graph.nodes)


def grids(model):
    """(lowest, highest, axis) of each fake-quantize; of weights first the parameter's name."""
    found = []
    for node in model.graph.graph.nodes:
        if node.target is FAKE_QUANTIZE:
            source = node.args[0]
            found.append((source.target if source.op == "get_attr" else "", *node.args[3:]))
    return found


def steps_from(model, path, raw, grid_in, grid_out):
    """Differences between the Model and LiteRT's own run, in steps of the output."""
    x = ((raw.astype(np.int32) - grid_in[1]) * np.float32(grid_in[0])).astype(np.float32)
    (want,) = original(path, raw)
    have = model(x)
    want = (want.reshape(have.shape).astype(np.float32) - grid_out[1]) * np.float32(grid_out[0])
    return np.abs(have - want) / grid_out[0], x, want


def test_weights_stored_as_float16_are_float32_parameters(random, tmp_path):
    weight = random.normal(size=(4, 3, 3, 3)).astype(np.float16)
    net = Made()
    x = net.input(1, 6, 6, 3)
    w = net.operator("DEQUANTIZE", [net.constant(weight)], name="net/conv/Conv2D")
    b = net.constant(random.normal(size=4).astype(np.float32))
    y = net.operator("CONV_2D", [x, w, b], name="net/act/Relu;net/conv/Conv2D", **CONV)
    model = load(net.write(tmp_path / "net.tflite", y))
    parameters = dict(model.graph.named_parameters())
    assert set(parameters) == {"net.conv.weight", "net.conv.bias"}
    assert parameters["net.conv.weight"].dtype == torch.float32
    assert np.array_equal(
        parameters["net.conv.weight"].detach(), weight.transpose(0, 3, 1, 2).astype(np.float32)
    )
    x = random.normal(size=(2, 6, 6, 3)).astype(np.float32)
    (want,) = original(tmp_path / "net.tflite", x)
    assert np.allclose(model(x), want[:, 0], atol=1e-5)
    assert permutes(model) <= 2


@pytest.mark.parametrize("axis", [None, 0])
def test_int8_weights_beside_floats(axis, random, tmp_path):
    """Dynamic range: LiteRT rounds what flows to 8 bits as it runs, the Model does not."""
    integers = random.integers(-127, 128, (5, 12)).astype(np.int8)
    scale = random.uniform(0.01, 0.02, 5 if axis == 0 else 1).astype(np.float32)
    net = Made()
    x = net.input(1, 12)
    w = net.constant(integers, (scale, np.zeros(len(scale)), 0))
    b = net.constant(random.normal(size=5).astype(np.float32))
    y = net.operator("FULLY_CONNECTED", [x, w, b], name="head/MatMul", **FULL)
    model = load(net.write(tmp_path / "net.tflite", y))
    assert grids(model) == [("head.weight", -127, 127, axis)]
    weight = dict(model.graph.named_parameters())["head.weight"].detach().numpy()
    assert np.array_equal(weight, integers * scale[:, None])
    x = random.normal(size=(8, 12)).astype(np.float32)
    (want,) = original(tmp_path / "net.tflite", x)
    assert np.abs(model(x) - want[:, 0]).max() < 0.02 * np.abs(want).max()
    again = lower(model, "litert", tmp_path / "again.tflite")
    assert np.allclose(np.concatenate([again.run(one[None]) for one in x]), model(x), atol=1e-4)


def test_int4_weights_are_unpacked(random, tmp_path):
    integers = random.integers(-7, 8, (3, 5))
    flat = np.append(integers.reshape(-1), 0) & 15
    packed = (flat[::2] | flat[1::2] << 4).astype(np.uint8)
    net = Made()
    x = net.input(1, 5)
    w = net.tensor((3, 5), "INT4", packed.tobytes(), (0.5, 0))
    y = net.operator("FULLY_CONNECTED", [x, w, -1], name="head", **FULL)
    model = load(net.write(tmp_path / "net.tflite", y))
    weight = dict(model.graph.named_parameters())["head.weight"].detach().numpy()
    assert np.array_equal(weight, integers * 0.5)
    assert grids(model) == [("head.weight", -8, 7, None)]


def quantized(random, dtype, path):
    """A convolution and a linear in integers; gives the grids of input and output."""
    wide = dtype == "INT16"
    grid_in, between, grid_out = (
        ((0.001, 0), (0.001, 0), (0.002, 0)) if wide else ((0.05, 3), (0.043, -128), (0.11, -7))
    )
    bias = np.int64 if wide else np.int32
    w1 = random.integers(-127, 128, (4, 3, 3, 2)).astype(np.int8)
    w2 = random.integers(-127, 128, (3, 100)).astype(np.int8)
    scale1 = random.uniform(0.001, 0.01, 4).astype(np.float32)
    scale2 = np.float32(0.0021)
    net = Made()
    x = net.input(1, 5, 5, 2, dtype=dtype, grid=grid_in)
    w = net.constant(w1, (scale1, np.zeros(4), 0))
    step = np.float32(grid_in[0]) * scale1
    b = net.constant(random.integers(-900, 900, 4).astype(bias), (step, np.zeros(4), 0))
    y = net.operator("CONV_2D", [x, w, b], dtype=dtype, grid=between, name="a",
                     shape=(1, 5, 5, 4), fusedActivationFunction=1, **CONV)  # fmt: skip
    sizes = net.constant(np.int32([1, 100]))
    y = net.operator("RESHAPE", [y, sizes], "ReshapeOptions", dtype=dtype, grid=between,
                     shape=(1, 100))  # fmt: skip
    w = net.constant(w2, (scale2, 0))
    step = np.float32(between[0]) * scale2
    b = net.constant(random.integers(-900, 900, 3).astype(bias), (step, 0))
    y = net.operator("FULLY_CONNECTED", [y, w, b], dtype=dtype, grid=grid_out, name="b",
                     shape=(1, 3), **FULL)  # fmt: skip
    net.write(path, y)
    return grid_in, grid_out


@pytest.mark.parametrize("dtype", ["INT8", "INT16"])
def test_a_quantized_file_comes_back_bit_for_bit(dtype, random, tmp_path):
    path = tmp_path / "net.tflite"
    ends = quantized(random, dtype, path)
    model = load(path)
    limits = np.iinfo(dtype.lower())
    low, high = limits.min, limits.max
    assert [(n, a) for n, *_, a in grids(model)] == [
        ("", None), ("a.weight", 0), ("", None), ("b.weight", None), ("", None)
    ]  # fmt: skip
    assert {g[1:3] for g in grids(model) if not g[0]} == {(low, high)}
    assert permutes(model) == 1
    raw = random.integers(low // 2, high // 2, (32, 5, 5, 2)).astype(dtype.lower())
    steps, x, want = steps_from(model, path, raw, *ends)
    assert steps.max() < 1.01
    # TFLite's kernels for int16 know the ratio of two grids to 15 bits only.
    assert (steps > 0.5).mean() < (0.02 if dtype == "INT8" else 0.3)
    again = lower(model, "litert", tmp_path / "again.tflite")
    have = np.concatenate([again.run(one[None]) for one in x])
    assert np.array_equal(have, want)


def test_int16_is_refused_by_name_where_it_cannot_run(random, tmp_path):
    quantized(random, "INT16", tmp_path / "net.tflite")
    model = load(tmp_path / "net.tflite")
    for runtime, suffix in (("onnxruntime", "onnx"), ("openvino", "xml"), ("executorch", "pte")):
        pytest.importorskip(runtime)
        with pytest.raises(UnsupportedOperator, match="takes int8, found int16"):
            lower(model, runtime, tmp_path / f"net.{suffix}")


def test_uint8_with_asymmetric_weights_comes_back_bit_for_bit(random, tmp_path):
    """What quantization-aware training wrote in 2018; our lowering writes such files too."""
    case = next(c for c in CASES if c.name == "net_zero_points-int8")
    data, _ = litert.to_tflite(case.program, signature_of(case.program))
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    model = load(path)
    assert {g[1:3] for g in grids(model) if not g[0]} == {(-128, 127)}
    offsets = [
        operator.attrgetter(n.args[2].target)(model.graph)
        for n in model.graph.graph.nodes
        if n.target is FAKE_QUANTIZE and n.args[0].op == "get_attr"
    ]
    assert len(offsets) == 4
    assert all(bool(offset.any()) for offset in offsets)
    shape = [s or 16 for s in model.signature.inputs[0].shape]
    x = random.uniform(-2, 3, shape).astype(np.float32)
    (want,) = original(path, x)
    again = lower(model, "litert", tmp_path / "again.tflite")
    have = np.concatenate([again.run(one[None]) for one in x])
    assert np.array_equal(have, want.reshape(have.shape))


# --- inputs, names, signatures ------------------------------------------------------------------


def test_a_range_is_told_where_it_is_that_of_pixels(tmp_path):
    for grid, dtype, want in (
        ((1.0, -128), "INT8", (0.0, 255.0)),
        ((1.0, 0), "UINT8", (0.0, 255.0)),
        ((0.0078125, 128), "UINT8", None),
    ):
        net = Made()
        x = net.input(1, 4, 4, 3, dtype=dtype, grid=grid)
        y = net.operator("DEQUANTIZE", [x])
        model = load(net.write(tmp_path / "net.tflite", y))
        (spec,) = model.signature.inputs
        assert (spec.dtype, spec.layout, spec.range) == ("float32", "NHWC", want)
        far = np.full((1, 4, 4, 3), 1e4, np.float32)
        ends = np.iinfo(dtype.lower())
        assert model(far).max() == np.float32(grid[0]) * (ends.max - grid[1])


def test_names_that_are_no_identifiers(tmp_path):
    names = ["a/weight/Conv2D", "forward", "1x1/conv", "übung/Conv2D", "a/weight/Conv2D"]
    net = Made()
    x = net.input(1, 3)
    for name in names:
        x = net.operator(
            "FULLY_CONNECTED", [x, net.constant(np.eye(3, dtype=np.float32)), -1], name=name, **FULL
        )
    model = load(net.write(tmp_path / "net.tflite", x))
    parameters = dict(model.graph.named_parameters())
    assert len(parameters) == len(names)
    assert "a.m_weight.weight" in parameters
    model.save(tmp_path / "net.pt2")
    x = np.float32([[1, 2, 3]])
    assert np.array_equal(load(tmp_path / "net.pt2")(x), model(x))


@pytest.fixture
def two_signatures(tmp_path):
    net = Made()
    net.graph.outputs.append(net.operator("NEG", [net.input(1, 3)]))
    net.subgraph()
    net.graph.outputs.append(net.operator("EXP", [net.input(1, 4)]))
    net.signature("negate", 0)
    net.signature("grow", 1)
    return net.write(tmp_path / "net.tflite")


def test_a_signature_is_chosen_by_name(two_signatures):
    for name, want in (("negate", [[-1.0]]), ("grow", [[np.exp(np.float32(1))]])):
        model = load(two_signatures, signature=name)
        assert isinstance(model, Model)
        assert model.signature.inputs[0].name == f"{name}_0"
        x = np.ones((1, *model.signature.inputs[0].shape[1:]), np.float32)
        assert np.allclose(model(x), want)


def test_the_signatures_are_listed_when_none_or_another_is_given(two_signatures):
    with pytest.raises(InputError, match="'negate', 'grow': choose one with signature="):
        load(two_signatures)
    with pytest.raises(InputError, match="no signature 'shrink': it has 'negate', 'grow'"):
        load(two_signatures, signature="shrink")


def test_a_signature_is_of_tflite_files_only(tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"")
    with pytest.raises(InputError, match="no signatures to choose from"):
        load(tmp_path / "net.pt2", signature="main")
    with pytest.raises(InputError, match=r"only a \.tflite file has signatures"):
        load(torch.nn.Linear(2, 2), torch.zeros(1, 2), signature="main")


def test_several_inputs_and_outputs_keep_their_order(random, tmp_path):
    net = Made()
    a, b = net.input(1, 3), net.input(1, 4)
    sums = net.operator("ADD", [a, net.operator("NEG", [a])], "AddOptions")
    net.write(tmp_path / "net.tflite", net.operator("EXP", [b]), sums, a)
    model = load(tmp_path / "net.tflite")
    assert [s.name for s in model.signature.inputs] == ["input0", "input1"]
    x, y = (random.normal(size=(5, n)).astype(np.float32) for n in (3, 4))
    have = model(x, y)
    assert [h.shape for h in have] == [(5, 4), (5, 3), (5, 3)]
    assert np.allclose(have[0], np.exp(y))
    assert np.array_equal(have[2], x)


def test_operators_that_no_model_can_hold_are_refused_by_name(tmp_path):
    net = Made()
    y = net.operator("CUSTOM", [net.input(1, 3)], custom="TFLite_Detection_PostProcess")
    with pytest.raises(ModelError, match="custom operator 'TFLite_Detection_PostProcess'"):
        load(net.write(tmp_path / "net.tflite", y))
    for name in ("WHILE", "IF", "CALL_ONCE", "VAR_HANDLE"):
        net = Made()
        y = net.operator(name, [net.input(1, 3)])
        with pytest.raises(ModelError, match=f"has the operator {name}, which no Model can hold"):
            load(net.write(tmp_path / "net.tflite", y))


def test_what_an_operator_cannot_do_is_said_with_its_name(tmp_path):
    net = Made()
    sizes = net.constant(np.int32([7, 7]))
    y = net.operator(
        "RESIZE_BILINEAR", [net.input(1, 4, 4, 3), sizes], "ResizeBilinearOptions", name="up/scale"
    )
    with pytest.raises(ModelError, match=r"RESIZE_BILINEAR at 'up.scale': .*half_pixel_centers"):
        load(net.write(tmp_path / "net.tflite", y))

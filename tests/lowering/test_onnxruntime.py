"""Programs as ONNX files: the right numbers, and the kernels that are fast."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import ModelError, UnsupportedOperator
from edgewise.lowering import onnxruntime as lowering
from edgewise.lowering.onnxruntime import to_onnx, write
from edgewise.lowering.program import NO_CLAMP, Dynamic, Program, Quant, Tensor

from . import reference
from .narrow import cases as narrow
from .programs import CASES, INF, RELU, Case, Sketch

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

INT8 = {str(c).removesuffix("-int8"): c for c in CASES if c.quantized}


def session(model, optimized: Path | None = None):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(case: Case, **how) -> list[np.ndarray]:
    names = (t.name for t in case.program.inputs)
    feeds = dict(zip(names, case.inputs, strict=True))
    return session(to_onnx(case.program, **how)).run(None, feeds)


def kernels(case: Case, folder: Path) -> Counter:
    """The operators that ONNX Runtime runs in the end; for integer data, moves left out."""
    session(to_onnx(case.program), folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def check(case: Case, have: list[np.ndarray]) -> None:
    """Float outputs to rounding errors, int8 outputs to one step."""
    want = reference.run(case.program, *case.inputs)
    for tensor, w, h in zip(case.program.outputs, want, have, strict=True):
        assert (h.shape, h.dtype) == (w.shape, w.dtype)
        step = reference.output_step(case.program, tensor)
        if step is not None:
            assert np.abs(h - w).max() <= 1.01 * step
            # A few sums lie so near to the middle of two steps that float32 decides otherwise.
            assert np.count_nonzero(np.abs(h - w) > 0.01 * step) <= max(1, 0.05 * h.size)
        else:
            assert np.allclose(h, w, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(w).max()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_the_program_says(case):
    onnx.checker.check_model(to_onnx(case.program), full_check=True)
    check(case, run(case))


@given(
    channels=st.integers(1, 5),
    outputs=st.sampled_from([3, 16, 17]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    clamp=st.sampled_from([NO_CLAMP, RELU, (0.0, 6.0), (-0.3, INF), (-INF, 0.4)]),
    quantized=st.booleans(),
)
def test_every_geometry_of_convolution(
    channels, outputs, kernel, stride, dilation, padding, clamp, quantized
):
    s = Sketch(channels, quantized)
    x = s.input(1, channels, 9, 8)
    window = {"stride": (stride, 1), "padding": padding, "dilation": (dilation, dilation)}
    weight = s.weight(outputs, channels, kernel, kernel)
    y = s.op("conv", x, weight, s.parameter(outputs), **window, groups=1, clamp=clamp)
    case = s.close("conv", y)
    check(case, run(case))


FUSED = {
    "conv": "QLinearConv",
    "conv_relu": "QLinearConv",
    "conv_relu6": "QLinearConv",
    "conv_no_bias": "QLinearConv",
    "conv_per_tensor": "QLinearConv",
    "conv_depthwise": "QLinearConv",
    "conv_1d": "QLinearConv",
    "linear": "QGemm",
    "linear_relu": "QGemm",
    "linear_no_bias": "QGemm",
    "linear_3d": "QGemm",
    "matmul": "QLinearMatMul",
    "matmul_constant": "QLinearMatMul",
    "add": "QLinearAdd",
    "add_relu": "QLinearAdd",
    "add_constant": "QLinearAdd",
    "mul": "QLinearMul",
    "mul_scalar": "QLinearMul",
    "clamp_relu": "QLinearAdd",
    "sigmoid": "QLinearSigmoid",
    "leaky_relu": "QLinearLeakyRelu",
    "softmax": "QLinearSoftmax",
    "avg_pool": "QLinearAveragePool",
    "mean_image": "QLinearGlobalAveragePool",
    "max_pool": "MaxPool",
    "concat": "Concat",
    "pad": "Pad",
    "slice": "Slice",
}


@pytest.mark.parametrize("name", FUSED)
def test_quantized_operators_become_integer_kernels(name, tmp_path):
    case = INT8[name]
    have = kernels(case, tmp_path)
    assert have[FUSED[name]] == 1
    inputs = sum(op.kind == "quantize" for op in case.program.ops)
    assert (have["QuantizeLinear"], have["DequantizeLinear"]) == (inputs, 1)


@pytest.mark.parametrize("name", ["net_residual", "net_branches"])
def test_networks_are_integer_from_end_to_end(name, tmp_path):
    have = kernels(INT8[name], tmp_path)
    assert (have["QuantizeLinear"], have["DequantizeLinear"]) == (1, 1)
    assert not have.keys() & {"Conv", "FusedConv", "Gemm", "MatMul", "Relu", "Clip", "Add"}
    assert have["QLinearConv"] == sum(op.kind == "conv" for op in INT8[name].program.ops)


def test_bounds_inside_the_grid_clamp_integers(tmp_path):
    s = Sketch(0, quantized=True)
    wide = Quant(np.float32(0.1).reshape(()), np.zeros((), np.int32))
    case = s.close("clamped", s.conv(s.input(1, 8, 6, 6), 16, clamp=(-1.0, 6.0), quant=wide))
    check(case, run(case))
    have = kernels(case, tmp_path)
    assert (have["QLinearConv"], have["Clip"], have["DequantizeLinear"]) == (1, 1, 1)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.3, 3.0])
def test_a_change_of_grid_happens_as_written(factor, tmp_path):
    s = Sketch(0, quantized=True)
    x = s.conv(s.input(1, 4, 8, 8), 8)
    scale = np.float32(factor * x.quant.scale).reshape(())
    y = s.quantize(s.dequantize(x), Quant(scale, np.asarray(7, np.int32)))
    case = s.close("grids", s.conv(y, 8))
    check(case, run(case))
    have = kernels(case, tmp_path)
    assert (have["QLinearConv"], have["QLinearAdd"], have["DequantizeLinear"]) == (2, 1, 1)


def kept_float(kind: str, rank: int, clamp: tuple[float, float]) -> Case:
    """A float operator on int8 values, whose weights would suffer from rounding."""
    s = Sketch(0, quantized=True)
    if kind == "linear":
        x = s.input(4, 16) if rank == 2 else s.input(2, 4, 16)
        weight, window = s.random.normal(0, 1, (16, 16)), {}
    else:
        x = s.input(1, 8, 8, 8)
        weight = s.random.normal(0, 1, (8, 8, 3, 3))
        window = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
        if kind == "conv_transpose":
            window["output_padding"] = (0, 0)
    weight[0] *= 1000
    weight = s.constant(weight.astype(np.float32), quantized=False)
    y = s.op(kind, s.dequantize(x), weight, s.parameter(weight.shape[0]), **window, clamp=clamp)
    return s.close("kept_float", s.quantize(y))


@pytest.mark.parametrize("clamp", [NO_CLAMP, RELU])
@pytest.mark.parametrize(
    ("kind", "rank"), [("conv", 4), ("conv_transpose", 4), ("linear", 2), ("linear", 3)]
)
def test_weights_kept_float_stay_float(kind, rank, clamp, tmp_path):
    case = kept_float(kind, rank, clamp)
    check(case, run(case))
    name = {"conv": "Conv", "conv_transpose": "ConvTranspose", "linear": "Gemm"}[kind]
    assert kernels(case, tmp_path)[name] == 1


def test_a_product_kept_float_stays_float(tmp_path):
    s = Sketch(0, quantized=True)
    weight = s.random.normal(0, 1, (16, 16)).astype(np.float32)
    weight[0] *= 1000
    y = s.op("matmul", s.dequantize(s.input(4, 16)), s.constant(weight, quantized=False))
    y = s.op("add", y, s.parameter(16), clamp=NO_CLAMP)
    case = s.close("kept_float", s.quantize(y))
    check(case, run(case))
    assert "QGemm" not in kernels(case, tmp_path)


def test_a_bias_beyond_int32_keeps_its_value():
    s = Sketch(0, quantized=True)
    x, weight, bias = s.input(1, 4, 6, 6), s.weight(8, 4, 1, 1), s.parameter(8)
    scale = weight.quant.scale.copy()
    scale[3] = 1e-30  # a channel whose weights are all but zero
    weight = replace(weight, quant=replace(weight.quant, scale=scale))
    window = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    s._values[weight.name] = reference.real(weight)
    case = s.close("dead", s.op("conv", x, weight, bias, **window, clamp=NO_CLAMP))
    check(case, run(case))


def test_one_bias_read_by_two_layers_is_rounded_for_each():
    s = Sketch(0, quantized=True)
    x, bias = s.input(4, 16), s.parameter(16)
    x = s.op("linear", x, s.weight(16, 16), bias, clamp=NO_CLAMP)
    case = s.close("shared", s.op("linear", x, s.weight(16, 16), bias, clamp=NO_CLAMP))
    check(case, run(case))


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("net_")], ids=str)
def test_parameters_inputs_and_outputs_keep_their_names(case):
    graph = to_onnx(case.program).graph
    assert [i.name for i in graph.input] == [t.name for t in case.program.inputs]
    assert [o.name for o in graph.output] == [t.name for t in case.program.outputs]
    parameters = {t.name for op in case.program.ops for t in op.inputs if t and t.data is not None}
    assert parameters <= {i.name for i in graph.initializer}


def test_outputs_may_be_inputs_constants_or_read_again():
    s = Sketch()
    x = s.input(2, 3)
    y = s.op("neg", x)
    case = s.close("outputs", s.op("exp", y), y, x, s.constant(np.ones((2, 3), np.float32)))
    check(case, run(case))


def test_an_output_may_be_given_twice():
    s = Sketch(0, quantized=True)
    y = s.dequantize(s.op("sigmoid", s.input(2, 3)))
    case = s.close("twice", y, y)
    check(case, run(case))


def test_half_stores_weights_in_two_bytes():
    s = Sketch()
    x = s.conv(s.input(1, 16, 8, 8), 64)
    case = s.close("half", s.op("linear", s.op("mean", x, axes=(2, 3), keepdim=False),
                                s.weight(10, 64), s.parameter(10), clamp=NO_CLAMP))  # fmt: skip
    full, half = to_onnx(case.program), to_onnx(case.program, half=True)
    assert half.ByteSize() < 0.6 * full.ByteSize()
    (want,), (have,) = run(case), run(case, half=True)
    assert np.allclose(have, want, atol=2e-3 * np.abs(want).max())
    assert not np.array_equal(have, want)


def test_half_is_computed_in_float32_without_casts(tmp_path):
    case = next(c for c in CASES if c.name == "conv_relu-float")
    session(to_onnx(case.program, half=True), tmp_path / "optimized.onnx")
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert "Cast" not in {n.op_type for n in nodes}


def test_half_refuses_weights_beyond_float16():
    s = Sketch()
    weight = s.constant(np.full((8, 8), 1e5, np.float32))
    case = s.close("large", s.op("matmul", s.input(2, 8), weight))
    with pytest.raises(ModelError, match=r"'constant\d' reaches 1e\+05 and float16 ends"):
        to_onnx(case.program, half=True)


def test_weights_beyond_two_gigabytes_are_refused(monkeypatch):
    monkeypatch.setattr(lowering, "LARGEST_FILE", 1000)
    with pytest.raises(ModelError, match=r"an \.onnx file ends at 2 GiB"):
        to_onnx(INT8["conv"].program)


def test_widths_that_it_lacks_are_refused_by_layer():
    program = INT8["sigmoid"].program
    narrow = replace(program.ops[0].output.quant, dtype="int4")
    ops = (replace(program.ops[0], output=replace(program.ops[0].output, quant=narrow)),)
    with pytest.raises(UnsupportedOperator, match="onnxruntime takes int8, found int4 at quantize"):
        to_onnx(Program(program.inputs, (Tensor("y", (1,)),), ops))


def test_a_model_becomes_a_file(tmp_path):
    from edgewise.graph.fold import fold

    from ..nets import quantized

    model, x = quantized("inverted")
    path = tmp_path / "net.onnx"
    assert write(fold(model.module()), model.signature, 2, path) == {}
    (name,) = (spec.name for spec in model.signature.inputs)
    (have,) = session(onnx.load(path)).run(None, {name: x[:2].numpy()})
    want = model(x[:2]).numpy()
    assert np.abs(have - want).max() <= 2.01 * np.ptp(want) / 255
    assert torch.equal(torch.from_numpy(have).argmax(1), torch.from_numpy(want).argmax(1))


# --- narrow weights -----------------------------------------------------------------------------

SAMPLE = Dynamic(-128, 127, 0)
GROUPS = Dynamic(-127, 127, -1, 32)


@pytest.mark.parametrize(
    ("bits", "group"), [(8, None), (4, None), (4, 16), (4, 32), (4, 8), (8, 32)]
)
@pytest.mark.parametrize("number", range(7))
def test_narrow_weights_compute_what_the_program_says(bits, group, number):
    case = narrow(bits, group)[number]
    onnx.checker.check_model(to_onnx(case.program))
    check(case, run(case))


@pytest.mark.parametrize(("number", "group"), [(0, 16), (1, 32), (2, 32), (4, 32)])
def test_zero_points_are_kept(number, group, tmp_path):
    case = narrow(4, group, affine=True)[number]
    check(case, run(case))
    assert kernels(case, tmp_path)["MatMulNBits"] == (4 if number == 4 else 1)


@pytest.mark.parametrize(
    ("bits", "group", "dynamic"),
    [(8, None, SAMPLE), (4, 32, GROUPS), (8, 32, GROUPS), (4, None, GROUPS)],
)
@pytest.mark.parametrize("number", range(5))
def test_inputs_rounded_at_run_time_to_one_step(bits, group, dynamic, number):
    case = narrow(bits, group, dynamic)[number]
    (want,), (have,) = reference.run(case.program, *case.inputs), run(case)
    # A few of the roundings tie, or fall to the other side in float32: one step of one input.
    assert np.abs(have - want).mean() <= 1e-4 * np.ptp(want)
    assert np.abs(have - want).max() <= 3e-2 * np.ptp(want)


def test_narrow_weights_reach_the_kernels_made_for_them(tmp_path):
    def found(*what):
        return kernels(narrow(*what)[0], tmp_path), kernels(narrow(*what)[4], tmp_path)

    one, many = found(4, 32)
    assert one == {"MatMulNBits": 1} and many["MatMulNBits"] == 4
    one, many = found(8, None, SAMPLE)
    assert one["DynamicQuantizeMatMul"] == 1 and "MatMulInteger" not in {*one, *many}
    assert many["DynamicQuantizeMatMul"] + many["MatMulIntegerToFloat"] == 4
    # Weights without a kernel are real numbers once the file is loaded.
    one, _ = found(8, None)
    assert one == {"Gemm": 1}


@pytest.mark.parametrize("dynamic", [Dynamic(-128, 127, -1), Dynamic(-127, 127, -1, 16), SAMPLE])
def test_other_ways_to_round_at_run_time_are_refused(dynamic):
    with pytest.raises(UnsupportedOperator, match="layer 'layer0' is quantized at run time"):
        to_onnx(narrow(8, None, dynamic, batch=3)[1].program)

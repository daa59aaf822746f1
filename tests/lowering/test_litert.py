"""LiteRT files: they compute what the Program says, in one XNNPACK partition, without detours."""

import builtins
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgewise.errors import MissingExtra, ModelError, UnsupportedOperator
from edgewise.lowering import litert, tflite_file
from edgewise.lowering.litert_ops import KERNELS
from edgewise.lowering.program import KINDS, NO_CLAMP, Op, Program, Quant, Tensor
from edgewise.record import Signature, TensorSpec

from . import reference
from .programs import CASES, NETWORKS, RELU, RELU6, Case, Sketch

LETTERS = {2: "NC", 4: "NCHW"}
# XNNPACK has no kernel for these; the rest of a graph around them still runs there.
OUTSIDE = {"gather", "log_softmax", "cast_to_int", "add_integers", "resize_nearest"}
OUTSIDE |= {"pad_value", "pad_reflect", "pow"}
OUTSIDE |= {"max_pool_1d"}  # padded uneven, of numbers that may be negative
BY_NAME = {str(case): case for case in CASES}


def signature_of(program: Program) -> Signature:
    def specs(tensors, letter):
        return tuple(
            TensorSpec(f"{letter}{i}", t.shape, t.dtype, LETTERS.get(len(t.shape), ""))
            for i, t in enumerate(tensors)
        )

    return Signature(specs(program.inputs, "in"), specs(program.outputs, "out"))


def lowered(case: Case, half: bool = False) -> tuple[bytes, dict[str, str]]:
    return litert.to_tflite(case.program, signature_of(case.program), half=half)


def run(case: Case, half: bool = False, **options) -> tuple[np.ndarray, ...]:
    """The file's outputs, each in the layout of the signature."""
    data, layouts = lowered(case, half)
    interpreter = Interpreter(model_content=data, **options)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    signature = signature_of(case.program)

    def turned(array, spec, back):
        letters = (spec.layout, layouts.get(spec.name, spec.layout))
        have, want = letters[::-1] if back else letters
        return np.ascontiguousarray(
            array.transpose([have.index(c) for c in want]) if want else array
        )

    given = zip(signature.inputs, case.inputs, strict=True)
    results = runner(**{spec.name: turned(array, spec, False) for spec, array in given})
    return tuple(turned(results[spec.name], spec, True) for spec in signature.outputs)


def check(case: Case, have: tuple[np.ndarray, ...], steps: float = 1.01, share: float = 0.01):
    """Integers within one step and nearly all equal, floats to float32's precision."""
    want = reference.run(case.program, *case.inputs)
    for h, w, tensor in zip(have, want, case.program.outputs, strict=True):
        assert h.shape == w.shape and h.dtype == w.dtype
        difference = np.abs(h.astype(np.float64) - w)
        step = reference.output_step(case.program, tensor)
        if step is None:
            assert difference.max(initial=0) <= 1e-5 * max(1.0, np.abs(w).max(initial=0))
        else:
            assert difference.max() <= steps * step
            assert (difference > step / 2).mean() <= share


def table(data: bytes):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def operators(data: bytes) -> list[str]:
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    model = table(data)
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return [codes[op.opcodeIndex] for op in model.subgraphs[0].operators]


def partitions(data: bytes) -> int:
    """Into how many parts XNNPACK takes the graph; 0 when it leaves out any operator."""
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    parts = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    read = {t for part in parts for t in part["inputs"]}
    written = {t for part in parts for t in part["outputs"]}
    ends = (interpreter.get_input_details(), interpreter.get_output_details())
    inputs, outputs = ({detail["index"] for detail in details} for details in ends)
    return len(parts) if inputs <= read and outputs <= written else 0


# --- every kind -------------------------------------------------------------------------------


def test_every_kind_has_a_row():
    assert KERNELS.keys() == KINDS.keys()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_the_program_says(case):
    check(case, run(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_runs_in_xnnpack_as_a_whole(case):
    data, _ = lowered(case)
    if str(case).rpartition("-")[0] in OUTSIDE:
        assert partitions(data) != 1
    else:
        assert partitions(data) == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_plain_kernels_take_it_too(case):
    """They round twice where XNNPACK rounds once."""
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    check(case, run(case, experimental_op_resolver_type=plain), steps=2.01, share=1.0)


@pytest.mark.parametrize("case", [c for c in CASES if not c.quantized], ids=str)
def test_half_keeps_three_digits(case):
    want = reference.run(case.program, *case.inputs)
    for h, w in zip(run(case, half=True), want, strict=True):
        assert np.abs(h - w).max() <= 2e-3 * max(1.0, np.abs(w).max())


# --- layout -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_networks_are_not_transposed(case):
    data, layouts = lowered(case)
    assert "TRANSPOSE" not in operators(data)
    assert all(layout in ("NHWC", "NWC") for layout in layouts.values())


def sketch(quantized: bool, write) -> Case:
    s = Sketch(seed=1, quantized=quantized)
    return s.close("sketch", write(s))


def flattened(s: Sketch) -> Tensor:
    x = s.conv(s.input(2, 3, 6, 5), 8, clamp=RELU)
    x = s.op("reshape", x, shape=(2, 8 * 30))
    return s.op("linear", x, s.weight(7, 240), s.parameter(7), clamp=NO_CLAMP)


def shuffled(s: Sketch) -> Tensor:
    """ShuffleNet: grouped convolution, channels dealt anew, convolution."""
    x = s.conv(s.input(1, 6, 6, 6), 12, kernel=1, groups=3)
    x = s.op("reshape", x, shape=(1, 3, 4, 6, 6))
    x = s.op("permute", x, order=(0, 2, 1, 3, 4))
    x = s.op("reshape", x, shape=(1, 12, 6, 6))
    return s.conv(x, 8, clamp=RELU)


def signal(s: Sketch) -> Tensor:
    """A chain of 1-D convolutions and pools, flattened."""
    line = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1, "clamp": RELU}
    x = s.op("conv", s.input(2, 3, 26), s.weight(8, 3, 3), s.parameter(8), **line)
    window = {"kernel": (2,), "stride": (2,), "padding": ((0, 0),)}
    x = s.op("max_pool", x, **window, dilation=(1,))
    y = s.op("conv", x, s.weight(8, 8, 3), s.parameter(8), **line)
    x = s.op("add", x, y, clamp=NO_CLAMP)
    x = s.op("avg_pool", x, **window, count_include_pad=True)
    x = s.op("reshape", x, shape=(2, 48))
    return s.op("linear", x, s.weight(4, 48), s.parameter(4), clamp=NO_CLAMP)


def pointwise(s: Sketch) -> Tensor:
    """ConvNeXt: permuted to channels-last and back around a normalisation and two linears."""
    x = s.conv(s.input(1, 8, 6, 6), 8, groups=8)
    y = s.op("permute", x, order=(0, 2, 3, 1))
    y = s.op("linear", y, s.weight(16, 8), s.parameter(16), clamp=RELU)
    y = s.op("linear", y, s.weight(8, 16), s.parameter(8), clamp=NO_CLAMP)
    return s.op("add", x, s.op("permute", y, order=(0, 3, 1, 2)), clamp=NO_CLAMP)


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("write", [flattened, shuffled, signal, pointwise])
def test_permutes_are_folded_away(write, quantized):
    case = sketch(quantized, write)
    check(case, run(case))
    data, _ = lowered(case)
    # The signal's layout has no letters: its input alone is brought into channels-last.
    assert operators(data).count("TRANSPOSE") == (write is signal)
    assert partitions(data) == 1


def heads(s: Sketch) -> Tensor:
    """Attention with two heads over a sequence, from one projection."""
    x = s.input(1, 5, 8)
    y = s.op("linear", x, s.weight(24, 8), s.parameter(24), clamp=NO_CLAMP)
    y = s.op("reshape", y, shape=(1, 5, 3, 2, 4))
    y = s.op("permute", y, order=(2, 0, 3, 1, 4))

    def part(i):
        one = s.op("slice", y, start=(i, 0, 0, 0, 0), stop=(i + 1, 1, 2, 5, 4), step=(1,) * 5)
        return s.op("reshape", one, shape=(1, 2, 5, 4))

    q, k, v = map(part, range(3))
    scores = s.op("matmul", q, s.op("permute", k, order=(0, 1, 3, 2)))
    y = s.op("matmul", s.op("softmax", scores, axis=-1), v)
    y = s.op("reshape", s.op("permute", y, order=(0, 2, 1, 3)), shape=(1, 5, 8))
    return s.op("linear", y, s.weight(8, 8), s.parameter(8), clamp=NO_CLAMP)


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
def test_attention_with_heads(quantized):
    case = sketch(quantized, heads)
    check(case, run(case))
    assert partitions(lowered(case)[0]) == 1


def test_matrices_with_zero_point_zero_are_multiplied_as_integers():
    symmetric = Quant(np.float32(3 / 127), np.int32(0))

    def write(s: Sketch) -> Tensor:
        a = s.input(2, 5, 8)
        b = s.quantize(s.raw_input(s.random.uniform(-3, 3, (2, 8, 6)).astype("f4")), symmetric)
        return s.op("matmul", a, b)

    case = sketch(True, write)
    check(case, run(case))
    assert operators(lowered(case)[0]) == ["QUANTIZE", "QUANTIZE", "BATCH_MATMUL", "DEQUANTIZE"]


def test_inputs_and_outputs_that_are_the_same_are_kept_apart():
    x = Tensor("x", (1, 2, 3, 4))
    case = Case(
        "same", Program((x,), (x, x), ()), (np.arange(24.0, dtype="f4").reshape(x.shape),), False
    )
    check(case, run(case))


def test_images_without_letters_keep_their_order():
    case = BY_NAME["conv-float"]
    signature = signature_of(case.program)
    nameless = Signature(
        *(
            tuple(replace(s, layout="") for s in specs)
            for specs in (signature.inputs, signature.outputs)
        )
    )
    data, layouts = litert.to_tflite(case.program, nameless)
    assert layouts == {}
    runner = Interpreter(model_content=data).get_signature_runner("serving_default")
    check(case, (runner(in0=case.inputs[0])["out0"],))


# --- windows ----------------------------------------------------------------------------------


@st.composite
def windows(draw):
    quantized = draw(st.booleans())
    size = draw(st.tuples(st.integers(5, 12), st.integers(5, 12)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel)
    kind = draw(st.sampled_from(["conv", "depthwise", "conv_transpose", "max_pool", "avg_pool"]))
    s = Sketch(seed=draw(st.integers(0, 9)), quantized=quantized)
    x = s.input(draw(st.integers(1, 2)), 4, *size)
    attrs = {"stride": stride, "padding": padding}
    if kind == "max_pool":
        y = s.op(kind, x, kernel=kernel, dilation=(1, 1), **attrs)
    elif kind == "avg_pool":
        y = s.op(kind, x, kernel=kernel, count_include_pad=draw(st.booleans()), **attrs)
    elif kind == "conv_transpose":
        more = {"output_padding": tuple(draw(st.integers(0, n - 1)) for n in stride)}
        more |= {"dilation": draw(st.sampled_from([(1, 1), (2, 1)])), "groups": 1}
        y = s.op(
            kind, x, s.weight(4, 6, *kernel, axis=1), s.parameter(6), **attrs, **more, clamp=RELU
        )
    else:
        groups = 4 if kind == "depthwise" else draw(st.sampled_from([1, 2]))
        more = {"dilation": draw(st.sampled_from([(1, 1), (2, 1)])), "groups": groups}
        y = s.op("conv", x, s.weight(8, 4 // groups, *kernel), None, **attrs, **more, clamp=RELU6)
    return s.close(kind, y)


@settings(
    max_examples=60,
    deadline=None,
)
@given(windows())
def test_windows_fall_as_in_pytorch(case):
    check(case, run(case), share=0.05)


def conv_of(size: int, stride: int, before: int, after: int, clamp=NO_CLAMP, quantized=False):
    s = Sketch(quantized=quantized)
    x, weight, bias = s.input(1, 4, size, size), s.weight(8, 4, 3, 3), s.parameter(8)
    attrs = {"stride": (stride, stride), "padding": ((before, after),) * 2, "dilation": (1, 1)}
    return s, s.op("conv", x, weight, bias, **attrs, groups=1, clamp=clamp)


@pytest.mark.parametrize(
    ("size", "stride", "before", "after", "written"),
    [
        (8, 1, 1, 1, ["CONV_2D"]),
        (8, 1, 0, 0, ["CONV_2D"]),
        (8, 2, 0, 1, ["CONV_2D"]),
        (9, 2, 1, 1, ["CONV_2D"]),
        (8, 2, 1, 1, ["PAD", "CONV_2D"]),  # TFLite's SAME would pad at the end only
        (8, 1, 2, 0, ["PAD", "CONV_2D"]),
    ],
)
def test_padding_is_an_operator_of_its_own_only_where_it_has_to_be(
    size, stride, before, after, written
):
    s, y = conv_of(size, stride, before, after)
    assert operators(lowered(s.close("conv", y))[0]) == written


# --- what the format wants --------------------------------------------------------------------


def quantized_conv(clamp=NO_CLAMP, quant: Quant | None = None):
    s = Sketch(quantized=True)
    x, weight, bias = s.input(1, 4, 6, 6), s.weight(8, 4, 3, 3), s.parameter(8)
    attrs = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
    case = s.close("conv", s.op("conv", x, weight, bias, quant=quant, clamp=clamp, **attrs))
    return case, x, weight, bias


def test_integers_are_written_as_the_specification_says():
    case, x, weight, bias = quantized_conv()
    model = table(lowered(case)[0])
    graph = model.subgraphs[0]
    conv = next(op for op in graph.operators if len(op.inputs) == 3)
    taken = [graph.tensors[i] for i in conv.inputs]
    types = schema.TensorType
    assert [t.type for t in taken] == [types.INT8, types.INT8, types.INT32]
    assert (taken[1].quantization.quantizedDimension, taken[2].quantization.quantizedDimension) == (
        0,
        0,
    )
    assert np.array_equal(taken[1].quantization.scale, weight.quant.scale)
    scale = x.quant.scale * weight.quant.scale
    assert np.array_equal(taken[2].quantization.scale, scale)
    stored = model.buffers[taken[2].buffer].data.view(np.int32)
    assert np.abs(stored - bias.data / scale).max() <= 0.5 + 1e-3
    held = model.buffers[taken[1].buffer].data.view(np.int8).reshape(8, 3, 3, 4)
    assert np.array_equal(held, weight.data.transpose(0, 2, 3, 1))


def test_depthwise_scales_lie_along_the_last_axis():
    graph = table(lowered(BY_NAME["conv_depthwise-int8"])[0]).subgraphs[0]
    weight = next(t for t in graph.tensors if t.shape.tolist() == [1, 3, 3, 8])
    assert weight.quantization.quantizedDimension == 3


@pytest.mark.parametrize(
    ("clamp", "low", "high", "name", "more"),
    [
        ((0.0, math.inf), 0.0, 4.0, "NONE", []),
        (RELU6, 0.0, 6.0, "NONE", []),
        (RELU6, 0.0, 4.0, "NONE", []),
        (RELU6, 0.0, 8.0, "RELU6", []),
        (RELU, -1.0, 4.0, "RELU", []),
        ((-1.0, 1.0), -2.0, 2.0, "RELU_N1_TO_1", []),
        ((-1.0, 2.0), -1.0, 2.0, "NONE", []),
        ((0.0, 3.0), 0.0, 4.0, "NONE", ["DEQUANTIZE", "MAXIMUM", "MINIMUM", "QUANTIZE"]),
    ],
)
def test_clamps_that_the_grid_implies_cost_nothing(clamp, low, high, name, more):
    scale = np.float32((high - low) / 255)
    case, *_ = quantized_conv(clamp, Quant(scale, np.int32(round(-128 - low / scale))))
    data, _ = lowered(case)
    assert operators(data) == ["QUANTIZE", "CONV_2D", *more, "DEQUANTIZE"]
    conv = table(data).subgraphs[0].operators[1]
    wanted = getattr(schema.ActivationFunctionType, name)
    assert conv.builtinOptions.fusedActivationFunction == wanted
    check(case, run(case))


@pytest.mark.parametrize(
    ("case", "code", "version"),
    [
        ("conv-float", "CONV_2D", 1),
        ("conv-int8", "CONV_2D", 3),
        ("conv_groups-float", "CONV_2D", 6),
        ("conv_depthwise-int8", "DEPTHWISE_CONV_2D", 3),
        ("linear-int8", "FULLY_CONNECTED", 4),
        ("linear_3d-int8", "FULLY_CONNECTED", 5),
        ("add-int8", "ADD", 2),
        ("add_integers-float", "ADD", 4),
        ("conv_transpose-float", "TRANSPOSE_CONV", 3),
        ("conv_transpose_stride-float", "TRANSPOSE_CONV", 4),
        ("resize_linear-float", "RESIZE_BILINEAR", 3),
        ("conv-int8", "DEQUANTIZE", 2),
    ],
)
def test_versions_of_operators(case, code, version):
    codes = table(lowered(BY_NAME[case])[0]).operatorCodes
    wanted = getattr(schema.BuiltinOperator, code)
    assert [c.version for c in codes if c.builtinCode == wanted] == [version]


def test_names_runtime_version_and_alignment():
    data, _ = lowered(BY_NAME["net_residual-int8"])
    assert data[4:8] == b"TFL3"
    model = table(data)
    (signature,) = model.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [m.name for m in signature.inputs + signature.outputs] == [b"in0", b"out0"]
    (note,) = model.metadata
    assert note.name == b"min_runtime_version"
    assert bytes(model.buffers[note.buffer].data).rstrip(b"\0") == b"1.14.0"
    raw = schema.Model.GetRootAs(data, 0)
    for i in range(1, raw.BuffersLength()):
        buffer = raw.Buffers(i)
        assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0


def test_equal_constants_are_stored_once():
    s = Sketch()
    weight, bias = s.weight(8, 8, 3, 3), s.parameter(8)
    x = s.input(1, 8, 6, 6)
    attrs = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
    for _ in range(3):
        x = s.op("conv", x, weight, bias, clamp=RELU, **attrs)
    assert len(lowered(s.close("tied", x))[0]) < 1.5 * weight.data.nbytes


# --- what is refused --------------------------------------------------------------------------


CUBE = Tensor("w", (2, 2, 1, 1, 1), data=np.ones((2, 2, 1, 1, 1), np.float32))


def program_of(kind: str, shape: tuple[int, ...], *more: Tensor | None, **attrs) -> Program:
    x, y = Tensor("x", shape), Tensor("y", shape)
    return Program((x,), (y,), (Op(kind, (x, *more), y, attrs, layer="block.3"),))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (program_of("fold", (1, 2)), "'fold'.*block.3"),
        (
            program_of(
                *("max_pool", (1, 2, 8, 8)),
                kernel=(2, 2), stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(2, 2),
            ),
            "max_pool with dilation.*block.3",
        ),
        (
            program_of(
                *("conv", (1, 2, 4, 4, 4), CUBE, None),
                stride=(1,) * 3, padding=((0, 0),) * 3, dilation=(1,) * 3, groups=1, clamp=NO_CLAMP,
            ),
            "conv over 3 spatial axes.*block.3",
        ),
    ],
)  # fmt: skip
def test_what_litert_lacks_is_named_with_its_layer(program, words):
    with pytest.raises(UnsupportedOperator, match=f"LiteRT.*{words}"):
        litert.to_tflite(program, signature_of(program))


def test_a_model_too_large_for_the_format_is_refused(monkeypatch):
    monkeypatch.setattr(tflite_file, "LARGEST", 10_000)
    with pytest.raises(ModelError, match="GB of constants"):
        lowered(BY_NAME["conv-float"])


def test_the_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("ai_edge_litert"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"edgewise\[litert\]"):
        lowered(BY_NAME["conv-float"])

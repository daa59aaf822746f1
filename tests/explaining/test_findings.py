"""Rows on profiles made up for them: what each names, what it costs, and what it leaves alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge.profilers import Operator
from edgewise.explaining.findings import ROWS, WORTH, findings
from edgewise.explaining.trace import PRODUCTS, Trace

X86 = {"architecture": "x86_64", "flags": ["avx512_vnni", "avx512_bf16"]}
ARM = {"architecture": "aarch64", "flags": ["asimddp"]}
CONV = Operator("conv", "QLinearConv", "CPU", 90.0, ("uint8", "float"))


def names(runtime, *operators, machine=X86):
    return {f.name for f in findings(Trace(runtime, machine, operators))}


def test_a_signed_activation_is_slow_on_x86_only():
    signed = Operator("conv", "QLinearConv", "CPU", 90.0, ("int8", "float"))
    assert names("onnxruntime", signed) == {"int8 activations"}
    assert names("onnxruntime", signed, machine=ARM) == set()
    assert names("onnxruntime", CONV) == set()


def test_float_layers_between_conversions_are_counted_with_them():
    floats = Operator("conv", "Conv", "CPU", 80.0, ("float", "float"))
    before = Operator("x", "DequantizeLinear", "CPU", 20.0, ("uint8", "float"))
    (found,) = findings(Trace("onnxruntime", X86, (before, floats)))
    assert (found.name, found.us, found.share) == ("Q/DQ that did not fuse", 100.0, 1.0)
    assert set(found.layers) == {"conv", "x"}
    assert names("onnxruntime", floats) == set()  # a float file


def test_sixteen_bits_are_named_before_the_built_in_kernels():
    wide = Operator("a", "CONV_2D", "built-in", 50.0, ("int16", "int8"), fallback=True)
    slice_ = Operator("b", "STRIDED_SLICE", "built-in", 50.0, ("int8",), fallback=True)
    both = findings(Trace("litert", X86, (wide, slice_)))
    assert {f.name: f.layers for f in both} == {
        "int16 activations": ("a",),
        "built-in kernels": ("b",),
    }


@pytest.mark.parametrize(
    "operator",
    [
        Operator("c", "DEPTHWISE_CONV_2D", "built-in", 9.0, ("float32", "int8"), fallback=True),
        Operator("c", "Convolution (NHWC, QDU8, F32, QC8W) IGEMM", "XNNPACK", 9.0),
    ],
)
def test_convolutions_quantized_at_run_time(operator):
    assert names("litert", operator) == {"dynamic convolutions"}


def test_a_transformer_in_int8_beside_bfloat16():
    linear = Operator("fc", "FullyConnected", "brgemm_avx512_I8", 60.0)
    softmax = Operator("s", "Softmax", "jit_avx512_f32", 40.0)
    assert "bfloat16 unused" in names("openvino", linear, softmax)
    assert "bfloat16 unused" not in names("openvino", linear, softmax, machine=ARM)
    assert "bfloat16 unused" not in names("openvino", linear)


@pytest.mark.parametrize("runtime", PRODUCTS)
def test_a_float_file_with_nothing_amiss_gives_no_finding(runtime):
    word = PRODUCTS[runtime][0]
    kernel = "jit_avx512_f32" if runtime == "openvino" else "any"
    assert names(runtime, Operator("c", word, kernel, 100.0)) == set()


def test_little_is_not_worth_a_word_unless_it_is_a_trap():
    cheap = 100 * WORTH / 2
    transpose = Operator("t", "Transpose", "CPU", cheap, ("uint8",))
    assert names("onnxruntime", CONV, transpose) == set()
    signed = Operator("s", "QLinearConv", "CPU", cheap, ("int8", "float"))
    assert names("onnxruntime", CONV, signed) == {"int8 activations"}


KINDS = st.sampled_from(
    ["Conv", "QLinearConv", "Transpose", "QuantizeLinear", "CONV_2D", "Softmax", "Convert (NC)",
     "Convolution (NHWC, QC8) IGEMM", "Reorder", "FullyConnected", "addmm"]
)  # fmt: skip
OPERATORS = st.builds(
    Operator,
    name=st.sampled_from(["a", "b", ""]),
    kind=KINDS,
    kernel=st.sampled_from(["CPU", "ref_f32", "jit_I8", "XNNPACK"]),
    us=st.floats(0, 1e6),
    inputs=st.sampled_from([(), ("int8", "int8"), ("float32", "int8"), ("int16", "int8")]),
    fallback=st.booleans(),
)


@given(st.sampled_from(sorted(PRODUCTS)), st.lists(OPERATORS, max_size=12))
def test_no_time_is_counted_twice(runtime, operators):
    trace = Trace(runtime, X86, tuple(operators))
    found = findings(trace)
    assert sum(f.us for f in found) <= trace.us * (1 + 1e-9)
    assert [f.us for f in found] == sorted((f.us for f in found), reverse=True)
    assert len({f.name for f in found}) == len(found)
    assert all("" not in f.layers for f in found)


def test_rows_have_names_of_their_own():
    assert len({row.name for row in ROWS}) == len(ROWS)

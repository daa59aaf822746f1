"""What costs time in a profile and what to change: one row, one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..edge.profilers import Operator
from .trace import BYTES, Trace

__all__ = ["Finding", "findings"]

WORTH = 0.05  # of the time; what costs less is not said, unless it is a known trap
X86 = ("x86_64", "AMD64", "i686")
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Finding:
    """Something that costs time.

    Attributes:
        name: of the row.
        what: what was found, in a sentence.
        change: what to do about it.
        us: microseconds that those operators take in one inference.
        share: of what all operators take.
        layers: names of the operators, those that have one.
    """

    name: str
    what: str
    change: str
    us: float
    share: float
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One kind of finding.

    Attributes:
        find: the operators that it is about; none where it does not hold.
        what: with ``{n}``, how many those are.
        trap: whether it is said however little it costs.
    """

    name: str
    find: Callable[[Trace], Sequence[Operator]]
    what: str
    change: str
    trap: bool = False


def findings(trace: Trace, name: Callable[[str], str] = str) -> tuple[Finding, ...]:
    """Every row that holds, the dearest first; an operator counts for the first row that finds it.

    Args:
        name: turns an operator's name into its layer's.
    """
    taken: set[int] = set()
    found = []
    for row in ROWS:
        own = [o for o in row.find(trace) if id(o) not in taken]
        us = sum(o.us for o in own)
        share = us / (trace.us or 1.0)
        if not own or (share < WORTH and not row.trap):
            continue
        taken |= {id(o) for o in own}
        layers = dict.fromkeys(name(o.name) for o in own if o.name)
        what = row.what.format(n=len(own), s="" if len(own) == 1 else "s")
        found.append(Finding(row.name, what, row.change, us, share, tuple(layers)))
    return tuple(sorted(found, key=lambda f: -f.us))


def _where(runtime: str, operators: Callable[[Trace], Iterable[Operator]]):
    return lambda trace: list(operators(trace)) if trace.runtime == runtime else []


def _signed_on_x86(trace: Trace) -> list[Operator]:
    if trace.runtime != "onnxruntime" or trace.machine.get("architecture") not in X86:
        return []
    return [o for o in trace.products if o.kind.startswith("QLinear") and o.inputs[0] == "int8"]


def _dynamic_convolutions(trace: Trace) -> list[Operator]:
    if trace.runtime == "onnxruntime":
        return [o for o in trace.products if o.kind == "ConvInteger"]
    if trace.runtime != "litert":
        return []
    named = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
    built_in = [
        o for o in trace.products
        if o.kind in named and o.inputs[:1] == ("float32",) and o.inputs[1] in BYTES
    ]  # fmt: skip
    return built_in + [
        o for o in trace.products if o.kind.startswith("Convolution") and ", QD" in o.kind
    ]


def _unfused(trace: Trace) -> list[Operator]:
    """Layers in float between conversions, and the conversions."""
    if trace.runtime != "onnxruntime":
        return []
    pairs = [o for o in trace.conversions if o.kind in ("QuantizeLinear", "DequantizeLinear")]
    layers = [o for o in trace.products if not trace.integer(o)]
    return [*layers, *pairs] if pairs and layers else []


def _float_layers(trace: Trace) -> list[Operator]:
    if not trace.quantized:
        return []
    return [o for o in trace.products if not trace.integer(o)]


def _float_beside(trace: Trace) -> list[Operator]:
    if not trace.quantized:
        return []
    rest = {id(o) for o in (*trace.products, *trace.conversions, *trace.layouts)}
    return [o for o in trace.operators if id(o) not in rest and _is_float(o)]


def _is_float(operator: Operator) -> bool:
    if operator.inputs:
        return operator.inputs[0].startswith("float")
    words = f"{operator.kind} {operator.kernel}".lower()
    return "f32" in words


def _attention(trace: Trace) -> list[Operator]:
    """What an int8 transformer still runs in float32 where the processor has bfloat16."""
    words = ("Softmax", "ScaledDotProductAttention", "MVN", "SDPA", "MHA", "RMSNorm")
    if trace.runtime != "openvino" or not BF16 & set(trace.machine.get("flags", ())):
        return []
    products = any(trace.integer(o) for o in trace.products)
    if not products or not any(o.kind.startswith(words) for o in trace.operators):
        return []
    return [o for o in trace.operators if _is_float(o)]


ROWS = (
    Row(
        "int8 activations",
        _signed_on_x86,
        "{n} layer{s} with int8 activations (S8S8), for which ONNX Runtime has no fast kernels on "
        "x86: ten times the time of uint8 activations",
        "quantize the activations to uint8: `edgewise lower` does; ONNX Runtime's own tool with "
        "activation_type=QUInt8 in the QDQ format",
        trap=True,
    ),
    Row(
        "int16 activations",
        _where("litert", lambda t: (o for o in t.operators if o.inputs[:1] == ("int16",))),
        "{n} operator{s} with int16 activations (16x8), which XNNPACK does not take: the built-in "
        "kernels for them run one number at a time",
        "quantize to int8, for which `edgewise quantize --max-drop` keeps the accuracy, or stay "
        "with float",
        trap=True,
    ),
    Row(
        "dynamic convolutions",
        _dynamic_convolutions,
        "{n} convolution{s} whose input is quantized at run time, by kernels that are slower than "
        "those for float",
        "quantize with calibration data (scheme int8), or only linears at run time",
        trap=True,
    ),
    Row(
        "bfloat16 unused",
        _attention,
        "{n} operator{s} of an int8 transformer in float32, on a processor that has bfloat16, in "
        "which OpenVINO would run all of the float file",
        "measure the float file with the inference precision bf16 beside this one, and keep the "
        "faster",
        trap=True,
    ),
    Row(
        "Q/DQ that did not fuse",
        _unfused,
        "{n} float layers and conversions around them: ONNX Runtime fuses a layer only where Q/DQ "
        "pairs stand before and after it, with uint8 activations",
        "write Q/DQ around each layer on both sides: `edgewise lower` does, of any file that "
        "`edgewise` loads",
        trap=True,
    ),
    Row(
        "built-in kernels",
        _where("litert", lambda t: (o for o in t.operators if o.fallback)),
        "{n} operator{s} not taken by XNNPACK, which cuts the graph there: the built-in kernels "
        "are slower",
        "lower the model with edgewise, which writes strided slices and such in a form that "
        "XNNPACK takes, or change the operator",
    ),
    Row(
        "portable kernels",
        _where("executorch", lambda t: (o for o in t.operators if o.fallback)),
        "{n} operator{s} not taken by XNNPACK: the portable kernels run one number at a time",
        "lower the model with edgewise, or change the operator",
    ),
    Row(
        "reference kernels",
        _where("openvino", lambda t: (o for o in t.operators if o.fallback)),
        "{n} operator{s} on reference kernels, which are written for no processor",
        "change the operator or its order of axes, or leave it in float",
    ),
    Row(
        "float layers",
        _float_layers,
        "{n} layer{s} of a quantized file in float",
        "quantize them, too, unless they were kept in float for accuracy",
    ),
    Row(
        "conversions",
        lambda trace: trace.conversions if trace.quantized else (),
        "{n} conversion{s} between integers and floats",
        "quantize what stands between them; take integers as inputs where the sensor gives them",
    ),
    Row(
        "float operators",
        _float_beside,
        "{n} operator{s} without weights, of a quantized file, in float",
        "use activations that have integer kernels (relu, relu6), or leave the layers around "
        "them in float",
    ),
    Row(
        "order of axes",
        lambda trace: trace.layouts,
        "{n} operator{s} for nothing but another order of axes",
        "give the input in the order that the file has inside (channels last), and avoid "
        "permutations in the model",
    ),
)

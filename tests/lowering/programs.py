"""Small Programs with random weights, covering every kind: what each lowering is tried on.

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_computes_what_the_program_says(case): ...

Each kind comes as float, and as int8 where it is among `QUANTIZABLE`. `NETWORKS` are the
chains of operators that real models are made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgewise.lowering.program import (
    NO_CLAMP,
    QUANTIZABLE,
    VALUE_PRESERVING,
    Op,
    Program,
    Quant,
    Tensor,
)

from .reference import compute, real, to_grid

__all__ = ["CASES", "NETWORKS", "Case", "Sketch"]

INF = math.inf
RELU, RELU6 = (0.0, INF), (0.0, 6.0)


@dataclass(frozen=True, eq=False)
class Case:
    """A Program, inputs for it, and the name under which a test reports it."""

    name: str
    program: Program
    inputs: tuple[np.ndarray, ...]
    quantized: bool

    def __str__(self) -> str:
        return self.name

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(op.kind for op in self.program.ops)


class Sketch:
    """Writes a Program operator by operator, running each one to learn its shape and range."""

    def __init__(self, seed: int = 0, quantized: bool = False):
        self.random = np.random.default_rng(seed)
        self.quantized = quantized
        self._inputs: list[Tensor] = []
        self._arrays: list[np.ndarray] = []
        self._ops: list[Op] = []
        self._values: dict[str, np.ndarray] = {}

    def input(self, *shape: int, low: float = -2.0, high: float = 3.0) -> Tensor:
        """A float input of uniform numbers, quantized at once in a quantized Program."""
        x = self.raw_input(self.random.uniform(low, high, shape).astype(np.float32))
        return self.quantize(x) if self.quantized else x

    def raw_input(self, array: np.ndarray) -> Tensor:
        """An input with these values, as it is."""
        x = Tensor(f"x{len(self._inputs)}", array.shape, str(array.dtype))
        self._inputs.append(x)
        self._arrays.append(array)
        self._values[x.name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        return x

    def constant(self, array: np.ndarray, quantized: bool | None = None) -> Tensor:
        """A constant; float numbers are quantized per tensor in a quantized Program."""
        array = np.asarray(array)
        name = f"constant{len(self._values)}"
        if array.dtype.kind != "f":
            tensor = Tensor(name, array.shape, str(array.dtype), data=array)
        elif self.quantized if quantized is None else quantized:
            quant = asymmetric(array)
            integers = np.rint(array / quant.scale) + quant.zero_point
            data = np.clip(integers, -128, 127).astype(np.int8)
            tensor = Tensor(name, array.shape, quant=quant, data=data)
        else:
            tensor = Tensor(name, array.shape, data=array.astype(np.float32))
        self._values[name] = real(tensor)
        return tensor

    def parameter(self, *shape: int, around: float = 0.0) -> Tensor:
        """A bias or a normalisation's weight: float also in a quantized Program."""
        values = around + self.random.normal(0, 0.5, shape)
        return self.constant(values.astype(np.float32), quantized=False)

    def weight(self, *shape: int, axis: int | None = 0) -> Tensor:
        """A weight of conv or linear, scaled to keep the variance of what passes."""
        array = self.random.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
        array = array.astype(np.float32)
        name = f"weight{len(self._values)}"
        if not self.quantized:
            tensor = Tensor(name, shape, data=array)
        else:
            others = tuple(a for a in range(len(shape)) if a != axis)
            largest = np.abs(array).max(axis=others if axis is not None else None)
            scale = np.asarray(largest / 127, np.float32)
            along = scale.reshape([-1 if a == axis else 1 for a in range(len(shape))])
            data = np.rint(array / (along if axis is not None else scale)).astype(np.int8)
            quant = Quant(scale, np.zeros(scale.shape, np.int32), axis=axis)
            tensor = Tensor(name, shape, quant=quant, data=data)
        self._values[name] = real(tensor)
        return tensor

    def quantize(self, x: Tensor, quant: Quant | None = None) -> Tensor:
        return self._append("quantize", (x,), quant or asymmetric(self._values[x.name]), {})

    def dequantize(self, x: Tensor) -> Tensor:
        return self._append("dequantize", (x,), None, {})

    def op(self, kind: str, *inputs: Tensor | None, quant: Quant | None = None, **attrs) -> Tensor:
        """One operator; quantized when its first input is, to `quant` or to the range it has.

        A kind that is never quantized stands between ``dequantize`` and ``quantize`` then.
        """
        if inputs[0].quant is None:
            return self._append(kind, inputs, None, attrs)
        if kind not in QUANTIZABLE:
            inputs = tuple(self.dequantize(t) if t and t.quant else t for t in inputs)
            return self.quantize(self._append(kind, inputs, None, attrs), quant)
        if quant is None and kind in VALUE_PRESERVING:
            quant = inputs[0].quant
        return self._append(kind, inputs, quant or "own", attrs)

    def conv(
        self,
        x: Tensor,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        clamp: tuple[float, float] = NO_CLAMP,
        **op,
    ) -> Tensor:
        """A square convolution with "same" padding and a bias."""
        weight = self.weight(channels, x.shape[1] // groups, kernel, kernel)
        return self.op(
            "conv",
            *(x, weight, self.parameter(channels)),
            stride=(stride, stride),
            padding=((kernel // 2, kernel // 2),) * 2,
            dilation=ONE,
            groups=groups,
            clamp=clamp,
            **op,
        )

    def close(self, name: str, *outputs: Tensor) -> Case:
        """The finished Program; quantized outputs are dequantized."""
        outputs = tuple(t if t.quant is None else self.dequantize(t) for t in outputs)
        program = Program(tuple(self._inputs), outputs, tuple(self._ops))
        return Case(name, program, tuple(self._arrays), self.quantized)

    def _append(self, kind, inputs, quant, attrs) -> Tensor:
        values = [None if t is None else self._values[t.name] for t in inputs]
        result = compute(kind, values, attrs)
        if quant == "own":
            quant = asymmetric(result)
        dtype = "float32" if result.dtype.kind == "f" else str(result.dtype)
        output = Tensor(f"{kind}{len(self._ops)}", result.shape, dtype, quant)
        self._values[output.name] = to_grid(result, quant)
        self._ops.append(Op(kind, tuple(inputs), output, attrs, layer=f"layer{len(self._ops)}"))
        return output


def asymmetric(values: np.ndarray) -> Quant:
    """The int8 grid from the least to the greatest value, zero included."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32(max(high - low, 1e-6) / 255)
    return Quant(np.asarray(scale), np.asarray(round(-128 - low / float(scale)), np.int32))


ROWS: list[tuple[str, Callable[[Sketch], Tensor]]] = []


def row(name: str) -> Callable:
    """The decorated function is a case under this name."""

    def register(function: Callable[[Sketch], Tensor]) -> Callable[[Sketch], Tensor]:
        ROWS.append((name, function))
        return function

    return register


def add(name: str, size: tuple[int, ...], kind: str, /, low=-2.0, high=3.0, **attrs) -> None:
    """A case of one operator on one input."""
    ROWS.append((name, lambda s: s.op(kind, s.input(*size, low=low, high=high), **attrs)))


def add_conv(name, shape, weight, *, bias=True, clamp=NO_CLAMP, axis=0, kind="conv", **attrs):
    n = len(shape) - 2
    attrs = {
        "stride": (1,) * n,
        "padding": ((0, 0),) * n,
        "dilation": (1,) * n,
        "groups": 1,
        **attrs,
    }
    outputs = weight[0] if kind == "conv" else weight[1] * attrs["groups"]

    def write(s: Sketch) -> Tensor:
        x, w = s.input(*shape), s.weight(*weight, axis=axis)
        return s.op(kind, x, w, s.parameter(outputs) if bias else None, clamp=clamp, **attrs)

    ROWS.append((name, write))


def add_two(name, kind, a, b, *, low=-2.0, high=3.0, constant=False, **attrs):
    """A case of one operator on two inputs, or on an input and a constant."""

    def write(s: Sketch) -> Tensor:
        x = s.input(*a, low=low, high=high)
        if constant:
            y = s.constant(s.random.uniform(low, high, b).astype(np.float32))
        else:
            y = s.input(*b, low=low, high=high)
        return s.op(kind, x, y, **attrs)

    ROWS.append((name, write))


IMAGE = (1, 8, 9, 7)
ONE, TWO = (1, 1), (2, 2)
PAD0, PAD1 = ((0, 0), (0, 0)), ((1, 1), (1, 1))

add_conv("conv", IMAGE, (16, 8, 3, 3), padding=PAD1)
add_conv("conv_relu", IMAGE, (16, 8, 3, 3), padding=PAD1, clamp=RELU)
add_conv("conv_relu6", IMAGE, (16, 8, 3, 3), padding=PAD1, clamp=RELU6)
add_conv("conv_hardtanh", IMAGE, (16, 8, 3, 3), padding=PAD1, clamp=(-0.5, 0.75))
add_conv("conv_no_bias", IMAGE, (16, 8, 3, 3), bias=False)
add_conv("conv_per_tensor", IMAGE, (16, 8, 3, 3), axis=None)
add_conv("conv_1x1", IMAGE, (16, 8, 1, 1))
add_conv("conv_stride_uneven", IMAGE, (5, 8, 3, 2), stride=(2, 1), padding=((0, 1), (1, 0)))
add_conv("conv_dilated", IMAGE, (8, 8, 3, 3), dilation=TWO, padding=((2, 2), (2, 2)))
add_conv("conv_groups", IMAGE, (12, 4, 3, 3), groups=2, padding=PAD1)
add_conv("conv_depthwise", IMAGE, (8, 1, 3, 3), groups=8, padding=PAD1, clamp=RELU6)
add_conv("conv_depthwise_twofold", IMAGE, (16, 1, 3, 3), groups=8, padding=PAD1)
add_conv("conv_batch", (3, 8, 9, 7), (16, 8, 3, 3), padding=PAD1)
add_conv("conv_1d", (2, 6, 20), (8, 6, 5), padding=((2, 2),), clamp=RELU)
add_conv("conv_1d_depthwise", (2, 6, 20), (6, 1, 5), groups=6, stride=(2,))
add_transpose = partial(add_conv, kind="conv_transpose", output_padding=(0, 0))
add_transpose("conv_transpose", IMAGE, (8, 6, 3, 3), axis=1)
add_transpose("conv_transpose_groups", IMAGE, (8, 3, 2, 2), axis=None, groups=2, stride=TWO)
up = {"stride": TWO, "padding": PAD1, "output_padding": ONE}
add_transpose("conv_transpose_stride", IMAGE, (8, 6, 3, 3), axis=1, **up, clamp=RELU)


def add_linear(name, shape, outputs, *, bias=True, clamp=NO_CLAMP, axis=0):
    def write(s: Sketch) -> Tensor:
        x, w = s.input(*shape), s.weight(outputs, shape[-1], axis=axis)
        return s.op("linear", x, w, s.parameter(outputs) if bias else None, clamp=clamp)

    ROWS.append((name, write))


add_linear("linear", (4, 24), 10)
add_linear("linear_relu", (1, 24), 10, clamp=RELU)
add_linear("linear_no_bias", (4, 24), 10, bias=False)
add_linear("linear_per_tensor", (4, 24), 10, axis=None)
add_linear("linear_3d", (2, 5, 24), 10, clamp=RELU6)

add_two("matmul", "matmul", (2, 3, 5, 8), (2, 3, 8, 4))
add_two("matmul_constant", "matmul", (2, 5, 8), (8, 4), constant=True)
for kind_ in ("add", "sub", "mul"):
    add_two(kind_, kind_, IMAGE, IMAGE, clamp=NO_CLAMP)
    add_two(f"{kind_}_broadcast", kind_, IMAGE, (1, 8, 1, 1), clamp=NO_CLAMP)
    add_two(f"{kind_}_constant", kind_, IMAGE, (8, 1, 1), constant=True, clamp=NO_CLAMP)
    add_two(f"{kind_}_relu", kind_, IMAGE, IMAGE, clamp=RELU)
add_two("mul_scalar", "mul", IMAGE, (), constant=True, clamp=NO_CLAMP)
add_two("div", "div", IMAGE, IMAGE, low=0.5, high=3.0)
add_two("div_constant", "div", IMAGE, (), low=0.5, high=3.0, constant=True)
add_two("pow", "pow", IMAGE, (), low=0.5, high=3.0, constant=True)
add_two("maximum", "maximum", IMAGE, IMAGE)
add_two("minimum", "minimum", IMAGE, (8, 1, 1), constant=True)

add("clamp_relu", IMAGE, "clamp", clamp=RELU)
add("clamp_hardtanh", IMAGE, "clamp", clamp=(-1.0, 1.0))
for kind_ in (
    *("neg", "abs", "exp", "erf", "sin", "cos", "floor", "sigmoid", "tanh"),
    *("silu", "hardswish", "hardsigmoid", "softplus"),
):
    add(kind_, IMAGE, kind_, low=-4.0, high=4.0)
for kind_ in ("log", "sqrt", "rsqrt"):
    add(kind_, IMAGE, kind_, low=0.25, high=4.0)
add("gelu", IMAGE, "gelu", approximate="none")
add("gelu_tanh", IMAGE, "gelu", approximate="tanh")
add("elu", IMAGE, "elu", alpha=0.7)
add("leaky_relu", IMAGE, "leaky_relu", slope=0.1)
add("softmax", (2, 3, 10), "softmax", axis=2)
add("softmax_channels", IMAGE, "softmax", axis=1)
add("log_softmax", (2, 10), "log_softmax", axis=1)


@row("layer_norm")
def _layer_norm(s: Sketch) -> Tensor:
    weight, bias = s.parameter(16, around=1.0), s.parameter(16)
    return s.op("layer_norm", s.input(2, 5, 16), weight, bias, axes=1, eps=1e-5)


@row("layer_norm_two_axes_plain")
def _layer_norm_plain(s: Sketch) -> Tensor:
    return s.op("layer_norm", s.input(2, 5, 16), None, None, axes=2, eps=1e-3)


add_pool = partial(add, stride=TWO)
add_pool("max_pool", IMAGE, "max_pool", kernel=TWO, padding=PAD0, dilation=ONE)
add_pool("max_pool_padded", IMAGE, "max_pool", kernel=(3, 3), padding=PAD1, dilation=ONE)
add_pool("avg_pool", IMAGE, "avg_pool", kernel=TWO, padding=PAD0, count_include_pad=True)
padded = {"kernel": (3, 3), "padding": PAD1}
add_pool("avg_pool_included", IMAGE, "avg_pool", **padded, count_include_pad=True)
add_pool("avg_pool_excluded", IMAGE, "avg_pool", **padded, count_include_pad=False)
line = {"kernel": (3,), "stride": (3,), "padding": ((1, 0),)}
add("max_pool_1d", (2, 6, 20), "max_pool", **line, dilation=(1,))
add("avg_pool_1d", (2, 6, 20), "avg_pool", **line, count_include_pad=False)
add("mean_image", IMAGE, "mean", axes=(2, 3), keepdim=False)
add("mean_image_keepdim", IMAGE, "mean", axes=(2, 3), keepdim=True)
add("mean_last", (2, 5, 16), "mean", axes=(2,), keepdim=True)
for kind_ in ("sum", "amax", "amin"):
    add(kind_, IMAGE, kind_, axes=(1,), keepdim=False)


@row("concat")
def _concat(s: Sketch) -> Tensor:
    a = s.input(*IMAGE)
    b = s.op("clamp", a, quant=a.quant, clamp=(-1.0, 1.0))
    return s.op("concat", a, b, a, axis=1)


add("pad", IMAGE, "pad", padding=((0, 0), (2, 3), (1, 0), (0, 1)), mode="constant", value=0.0)
add("pad_value", (2, 6), "pad", padding=((0, 0), (2, 3)), mode="constant", value=1.5)
for mode_ in ("reflect", "edge"):
    add(f"pad_{mode_}", IMAGE, "pad", padding=(*PAD0, (2, 1), (1, 2)), mode=mode_, value=0.0)
add("slice", IMAGE, "slice", start=(0, 2, 0, 1), stop=(1, 8, 9, 6), step=(1, 1, 2, 2))
add("reshape", IMAGE, "reshape", shape=(1, 8 * 63))
add("permute", IMAGE, "permute", order=(0, 2, 3, 1))
add("expand", (1, 8, 1, 7), "expand", shape=(2, 8, 9, 7))
add("resize_nearest", IMAGE, "resize", size=(18, 14), mode="nearest", align_corners=False)
add("resize_linear", IMAGE, "resize", size=(18, 14), mode="linear", align_corners=False)
add("resize_linear_corners", IMAGE, "resize", size=(12, 11), mode="linear", align_corners=True)


def _embedding(s: Sketch) -> Tensor:
    table = s.constant(s.random.normal(0, 1, (11, 6)).astype(np.float32))
    return s.op("gather", table, s.raw_input(s.random.integers(0, 11, (2, 5))))


def _pixels(s: Sketch) -> Tensor:
    x = s.raw_input(s.random.integers(0, 256, (1, 3, 8, 8)).astype(np.uint8))
    x = s.op("cast", x, dtype="float32")
    return s.op("mul", x, s.constant(np.float32(1 / 255)), clamp=NO_CLAMP)


def _cast_to_int(s: Sketch) -> Tensor:
    return s.op("cast", s.input(2, 5), dtype="int64")


def _integer_arithmetic(s: Sketch) -> Tensor:
    x = s.raw_input(s.random.integers(0, 11, (2, 5)))
    return s.op("add", x, s.constant(np.arange(5)), clamp=NO_CLAMP)


FLOAT_ONLY = {
    "gather": _embedding,
    "cast_pixels": _pixels,
    "cast_to_int": _cast_to_int,
    "add_integers": _integer_arithmetic,
}


@row("net_residual")
def _residual(s: Sketch) -> Tensor:
    """The blocks of a CIFAR ResNet: the shortcut sliced and padded with zero channels."""
    x = s.conv(s.input(2, 3, 16, 16), 8, clamp=RELU)
    y = s.conv(s.conv(x, 8, clamp=RELU), 8)
    x = s.op("add", x, y, clamp=RELU)
    y = s.conv(s.conv(x, 16, stride=2, clamp=RELU), 16)
    x = s.op("slice", x, start=(0, 0, 0, 0), stop=x.shape, step=(1, 1, 2, 2))
    x = s.op("pad", x, padding=((0, 0), (4, 4), (0, 0), (0, 0)), mode="constant", value=0.0)
    x = s.op("add", x, y, clamp=RELU)
    x = s.op("mean", x, axes=(2, 3), keepdim=False)
    return s.op("linear", x, s.weight(10, 16), s.parameter(10), clamp=NO_CLAMP)


@row("net_inverted_residual")
def _inverted_residual(s: Sketch) -> Tensor:
    """The blocks of MobileNetV2 and V3: depthwise, linear bottleneck, squeeze and excite."""
    x = s.conv(s.input(1, 3, 16, 16), 8, stride=2, clamp=RELU6)
    y = s.conv(x, 24, kernel=1, clamp=RELU6)
    y = s.conv(y, 24, groups=24, clamp=RELU6)
    gate = s.op("mean", y, axes=(2, 3), keepdim=True)
    gate = s.conv(gate, 8, kernel=1, clamp=RELU)
    gate = s.op("hardsigmoid", s.conv(gate, 24, kernel=1))
    y = s.op("mul", y, gate, clamp=NO_CLAMP)
    y = s.op("add", x, s.conv(y, 8, kernel=1), clamp=NO_CLAMP)
    y = s.op("hardswish", s.conv(y, 32, kernel=1))
    average = {"kernel": (8, 8), "stride": (8, 8), "padding": PAD0, "count_include_pad": True}
    y = s.op("avg_pool", y, **average)
    y = s.op("reshape", y, shape=(1, 32))
    return s.op("linear", y, s.weight(10, 32), s.parameter(10), clamp=NO_CLAMP)


@row("net_branches")
def _branches(s: Sketch) -> Tensor:
    """Branches that meet in a concatenation; the range is shared, as a quantizer shares it."""
    x = s.conv(s.input(1, 3, 12, 12), 8, clamp=RELU)
    shared = x.quant
    a = s.conv(x, 8, kernel=1, clamp=RELU, quant=shared)
    b = s.conv(s.conv(x, 4, kernel=1, clamp=RELU), 8, clamp=RELU, quant=shared)
    c = s.op("max_pool", x, kernel=(3, 3), stride=ONE, padding=PAD1, dilation=ONE)
    y = s.op("concat", a, b, c, axis=1)
    y = s.op("max_pool", y, kernel=TWO, stride=TWO, padding=PAD0, dilation=ONE)
    y = s.op("reshape", y, shape=(1, math.prod(y.shape)))
    y = s.op("linear", y, s.weight(6, y.shape[1]), s.parameter(6), clamp=NO_CLAMP)
    return s.op("softmax", y, axis=1)


row("net_masks")(lambda s: s.op("softmax", s.conv(s.input(1, 3, 12, 12), 5, kernel=1), axis=1))


@row("net_attention")
def _attention(s: Sketch) -> Tensor:
    """One head of attention with its residual and feed-forward part."""
    n, d = 6, 16
    x = s.input(1, n, d)
    y = s.op("layer_norm", x, s.parameter(d, around=1.0), s.parameter(d), axes=1, eps=1e-5)

    def linear(value, outputs):
        weight = s.weight(outputs, value.shape[-1])
        return s.op("linear", value, weight, s.parameter(outputs), clamp=NO_CLAMP)

    q, k, v = linear(y, d), linear(y, d), linear(y, d)
    scores = s.op("matmul", q, s.op("permute", k, order=(0, 2, 1)))
    scores = s.op("mul", scores, s.constant(np.float32(0.25)), clamp=NO_CLAMP)
    y = s.op("matmul", s.op("softmax", scores, axis=2), v)
    x = s.op("add", x, linear(y, d), clamp=NO_CLAMP)
    y = linear(s.op("gelu", linear(x, 32), approximate="none"), d)
    return s.op("add", x, y, clamp=NO_CLAMP)


def _mixed(s: Sketch) -> Tensor:
    """A quantized Program with a float operator between dequantize and quantize."""
    x = s.conv(s.input(1, 3, 8, 8), 8, clamp=RELU)
    y = s.op("softplus", s.dequantize(x))
    return s.conv(s.quantize(y), 4)


def _zero_points(s: Sketch) -> Tensor:
    """What old uint8 files hold: weights on an asymmetric grid, none with scales by channel."""

    def weight(*shape: int) -> Tensor:
        array = s.random.normal(0.3, 1 / math.sqrt(math.prod(shape[1:])), shape)
        return s.constant(array.astype(np.float32))

    window = {"stride": ONE, "padding": PAD1, "dilation": ONE, "clamp": RELU}
    x = s.input(1, 3, 8, 8)
    uneven = {**window, "padding": ((0, 2), (0, 2))}
    y = s.op("conv", x, weight(8, 3, 3, 3), s.parameter(8), groups=1, **uneven)
    z = s.op("conv", y, weight(8, 1, 3, 3), s.parameter(8), groups=8, **window)
    z = s.op("add", y, z, clamp=NO_CLAMP)
    z = s.op("conv", z, weight(2, 8, 3, 3), None, groups=1, **window)
    z = s.op("reshape", z, shape=(1, 128))
    return s.op("linear", z, weight(64, 128), s.parameter(64), clamp=NO_CLAMP)


def _two_outputs(s: Sketch) -> tuple[Tensor, Tensor]:
    x = s.conv(s.input(1, 3, 8, 8), 8, clamp=RELU)
    return s.conv(x, 4), s.op("mean", x, axes=(2, 3), keepdim=False)


def _case(name: str, write: Callable[[Sketch], Tensor], quantized: bool) -> Case:
    sketch = Sketch(seed=len(name), quantized=quantized)
    result = write(sketch)
    outputs = result if isinstance(result, tuple) else (result,)
    return sketch.close(f"{name}-{'int8' if quantized else 'float'}", *outputs)


ROWS += [("net_two_outputs", _two_outputs)]
_float = [_case(name, write, False) for name, write in ROWS]
_int8 = [
    _case(name, write, True)
    for case, (name, write) in zip(_float, ROWS, strict=True)
    if case.kinds <= QUANTIZABLE or name.startswith("net_")
]
_rest = [_case(name, write, False) for name, write in FLOAT_ONLY.items()]
_odd = [_case("net_mixed", _mixed, True), _case("net_zero_points", _zero_points, True)]
CASES: list[Case] = [*_float, *_rest, *_int8, *_odd]
NETWORKS = [case for case in CASES if case.name.startswith("net_")]

"""Program operators as TFLite operators: one row a kind.

A row says how the kind is written and when it can be written on integers. Where XNNPACK, which
runs the file, has no kernel for integers, the operator is written as float between DEQUANTIZE and
QUANTIZE: the whole graph then still runs in XNNPACK, and rounds only where the Program does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..errors import UnsupportedOperator
from . import litert_spatial as spatial
from .litert_graph import Graph, Value, activation
from .program import NO_CLAMP, Dynamic, Op, Quant
from .strides import axes_of, complete, minor

__all__ = ["KERNELS", "Kernel"]

MOST_CONCATENATED = 5  # inputs that XNNPACK takes

# The only grids on which TFLite has these functions.
SIGMOID_GRID = Quant(np.float32(1 / 256), np.int32(-128))
TANH_GRID = Quant(np.float32(1 / 128), np.int32(0))

# erf(x) = x P(x^2) / Q(x^2) on [-4, 4], highest power first (Eigen, generic_fast_erf_float).
ERF_P = (
    *(-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06),
    *(-5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
)
ERF_Q = (
    *(-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03),
    *(-7.37332916720468e-03, -1.42647390514189e-02),
)


class Kernel(NamedTuple):
    """How a kind is written.

    Attributes:
        write: ``write(graph, op, *inputs)`` adds the operators and gives the output; `op` tells
            the attributes and the output's shape and grid, an absent input is None.
        integers: whether `write` can be given quantized values; else it gets floats.
    """

    write: Callable[..., Value]
    integers: Callable[[Op], bool]


def always(op: Op) -> bool:
    return True


def never(op: Op) -> bool:
    return False


# --- on each number ---------------------------------------------------------------------------


def each(operator: str, **options) -> Callable[..., Value]:
    """One operator on each number."""
    return lambda g, op, x: g.unary(operator, x, op.output.quant, **options)


def pairs(operator: str) -> Callable[..., Value]:
    """One operator on pairs of numbers."""
    return lambda g, op, a, b: g.binary(operator, a, b, op.output.quant)


def pairs_clamped(operator: str) -> Callable[..., Value]:
    """One operator on pairs of numbers, with a clamp fused into it."""

    def write(g: Graph, op: Op, a: Value, b: Value) -> Value:
        quant, features = op.output.quant, []
        if operator == "MUL" and quant and a.quant.scale * b.quant.scale >= quant.scale:
            features = ["upscaling"]
        return g.binary(operator, a, b, quant, op.attrs.get("clamp", NO_CLAMP), features)

    return write


def cast(g: Graph, op: Op, x: Value) -> Value:
    """CAST; pixels become float by DEQUANTIZE, for which XNNPACK has a kernel."""
    if x.quant is not None and op.output.dtype == "float32":
        return g.dequantized(x)
    dtypes = {"inDataType": x.dtype.upper(), "outDataType": op.output.dtype.upper()}
    return g.unary("CAST", x, None, op.output.dtype, **dtypes)


def clamp(g: Graph, op: Op, x: Value) -> Value:
    if x.quant is None:
        return g.clamped(x, op.attrs["clamp"])
    return g.requantized(x, op.output.quant, op.attrs["clamp"])


def clamp_is_activation(op: Op) -> bool:
    return activation(op.attrs["clamp"], op.output.quant)[1] is None


def silu(g: Graph, op: Op, x: Value) -> Value:
    return g.binary("MUL", x, g.unary("LOGISTIC", x))


def gelu(g: Graph, op: Op, x: Value) -> Value:
    return g.unary("GELU", x, approximate=op.attrs["approximate"] == "tanh")


def hardsigmoid(g: Graph, op: Op, x: Value) -> Value:
    return g.binary("MUL", g.binary("ADD", x, 3.0, clamp=(0.0, 6.0)), 1 / 6)


def elu(g: Graph, op: Op, x: Value) -> Value:
    if op.attrs["alpha"] == 1:
        return g.unary("ELU", x)
    below = g.unary("ELU", g.binary("MINIMUM", x, 0.0))
    below = g.binary("MUL", below, op.attrs["alpha"])
    return g.binary("ADD", g.unary("RELU", x), below)


def softplus(g: Graph, op: Op, x: Value) -> Value:
    """max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    small = g.unary("EXP", g.unary("NEG", g.unary("ABS", x)))
    log = g.unary("LOG", g.binary("ADD", small, 1.0))
    return g.binary("ADD", g.unary("RELU", x), log)


def erf(g: Graph, op: Op, x: Value) -> Value:
    """A rational function, to about 1e-7: TFLite has no erf."""
    x = g.clamped(x, (-4.0, 4.0))
    square = g.binary("MUL", x, x)

    def polynomial(first: float, *rest: float) -> Value | float:
        y = first
        for coefficient in rest:
            y = g.binary("ADD", g.binary("MUL", square, y), coefficient)
        return y

    return g.binary("DIV", g.binary("MUL", x, polynomial(*ERF_P)), polynomial(*ERF_Q))


def power(g: Graph, op: Op, a: Value, b: Value) -> Value:
    """The usual exponents by operators that XNNPACK has, others as POW."""
    exponent = float(b.data) if b.data is not None and b.data.size == 1 else None
    if exponent == 2:
        return g.binary("MUL", a, a)
    if exponent == 3:
        return g.binary("MUL", g.binary("MUL", a, a), a)
    if exponent in (0.5, -0.5):
        return g.unary("SQRT" if exponent > 0 else "RSQRT", a)
    if exponent == -1:
        return g.binary("DIV", g.scalar(1.0), a)
    return g.binary("POW", a, b)


# --- products ---------------------------------------------------------------------------------


def linear(g: Graph, op: Op, x: Value, weight: Value, bias: Value | None) -> Value:
    """FULLY_CONNECTED; inputs that lie shuffled in memory shuffle the weight's columns."""
    last, outputs = len(x.shape) - 1, weight.shape[0]
    inside = minor(x.axes, last)
    if inside is None or (weight.data is None and len(inside[0]) > 1):
        frame = complete(tuple(k for k in x.frame if k != last), last)
        x = g.arranged(x, (*frame, last))
    elif len(inside[0]) > 1:
        sizes, order = inside
        columns = weight.data.reshape(outputs, *sizes).transpose(0, *(1 + k for k in order))
        weight = g.constant(columns.reshape(weight.shape), weight.quant, weight.dtype)
        x = replace(x, axes=(*x.axes[:-1], ((weight.shape[1], 1),)))
    keep = last > 1
    frame = (None, 0) if last == 0 else (0, 1)
    if keep:
        frame = complete(tuple(k for k in x.frame if k != last), last)
        x = g.arranged(x, (*frame, last))
        frame = (*frame, last)
    fused, rest = activation(op.attrs["clamp"], op.output.quant)
    at_run_time = rounds_inputs(op)
    matrix = g.arranged(weight, (0, 1))
    matrix = matrix if at_run_time else spatial.real_filter(g, x, matrix)
    y = g.emit(
        "FULLY_CONNECTED",
        [x, matrix, spatial.bias_of(g, x, weight, bias, outputs)],
        op.output.shape,
        frame,
        op.output.quant,
        features=["keep_num_dims"] * keep + ["at_run_time"] * at_run_time,
        keepNumDims=keep,
        asymmetricQuantizeInputs=at_run_time,
        fusedActivationFunction=fused,
    )
    return y if rest is None else g.clamped(y, rest)


def rounds_inputs(op: Op) -> bool:
    """Whether a linear rounds its inputs at run time, each row to its own range.

    Raises:
        UnsupportedOperator: it does so in a way that TFLite has no kernel for, or its weight has
            one scale for every few inputs.
    """
    how, quant = op.attrs.get("dynamic"), op.inputs[1].quant
    if how is None and (quant is None or (quant.dtype == "int8" and quant.scale.ndim < 2)):
        return False
    rows = how == Dynamic(-128, 127, -1)
    if not rows or quant.axis != 0:
        raise UnsupportedOperator(
            f"LiteRT has no kernel for the way in which layer '{op.layer}' is quantized: quantize "
            "with target=capabilities('litert')"
        )
    return True


def matmul(g: Graph, op: Op, a: Value, b: Value) -> Value:
    """BATCH_MATMUL; FULLY_CONNECTED by a constant matrix."""
    if b.data is not None and b.data.ndim == 2 and b.quant is None:
        weight = g.constant(np.ascontiguousarray(b.data.T))
        return linear(g, replace(op, attrs={"clamp": NO_CLAMP}), a, weight, None)
    a = a if len(a.shape) > 1 else g.reshaped(a, (1, *a.shape))
    b = b if len(b.shape) > 1 else g.reshaped(b, (*b.shape, 1))
    rank = max(len(a.shape), len(b.shape))
    a, b = g.lifted(a, rank), g.lifted(b, rank)
    (a, turned_a), (b, turned_b) = matrices(g, a), matrices(g, b)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    frame = tuple(range(rank))
    y = g.emit("BATCH_MATMUL", [a, b], shape, frame, op.output.quant, adjX=turned_a, adjY=turned_b)
    return g.reshaped(y, op.output.shape)


def matrices(g: Graph, x: Value) -> tuple[Value, bool]:
    """The value with each matrix in one piece, and whether it lies there transposed."""
    rank = len(x.shape)
    plain = tuple(range(rank))
    turned = (*plain[:-2], rank - 1, rank - 2)
    if x.data is None and x.frame == turned:
        return g.arranged(x, turned), True
    return g.arranged(x, plain), False


# --- along axes -------------------------------------------------------------------------------


def reduced(
    g: Graph, operator: str, x: Value, axes: Sequence[int], keep: bool, quant: Quant | None = None
) -> Value:
    """MEAN, SUM, REDUCE_MAX or REDUCE_MIN over axes."""
    axes = {k % len(x.shape) for k in axes}
    shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    left = [k for k in range(len(x.shape)) if k not in axes]
    if shape == x.shape:
        y = x if quant is None else g.requantized(x, quant)
        return y if keep else g.reshaped(y, [shape[k] for k in left])
    frame = x.frame
    x = g.arranged(x, frame)
    inputs = [x, g.numbers([d for d, k in enumerate(frame) if k in axes])]
    if keep:
        return g.emit(operator, inputs, shape, frame, quant, keepDims=True)
    frame = tuple(None if k is None else left.index(k) for k in frame if k not in axes)
    return g.emit(operator, inputs, [shape[k] for k in left], frame, quant, keepDims=False)


def reduction(operator: str) -> Callable[..., Value]:
    return lambda g, op, x: reduced(
        g, operator, x, op.attrs["axes"], op.attrs["keepdim"], op.output.quant
    )


def along_last(operator: str, **options) -> Callable[..., Value]:
    """An operator along one axis, which TFLite wants to be the last."""

    def write(g: Graph, op: Op, x: Value) -> Value:
        axis = op.attrs["axis"] % len(x.shape)
        others = complete(tuple(k for k in x.frame if k != axis), len(x.shape))
        frame = (*(k for k in others if k != axis), axis)
        x = g.arranged(x, frame)
        return g.emit(operator, [x], x.shape, frame, op.output.quant, **options)

    return write


def layer_norm(g: Graph, op: Op, x: Value, weight: Value | None, bias: Value | None) -> Value:
    rank = len(x.shape)
    axes = range(rank - op.attrs["axes"], rank)
    x = g.binary("SUB", x, reduced(g, "MEAN", x, axes, True))
    variance = reduced(g, "MEAN", g.binary("MUL", x, x), axes, True)
    shifted = g.binary("ADD", variance, op.attrs["eps"])
    y = g.binary("MUL", x, g.unary("RSQRT", shifted))
    y = y if weight is None else g.binary("MUL", y, weight)
    return y if bias is None else g.binary("ADD", y, bias)


# --- moving values ----------------------------------------------------------------------------


def concat(g: Graph, op: Op, *values: Value) -> Value:
    return joined(g, values, op.attrs["axis"])


def joined(g: Graph, values: Sequence[Value], axis: int) -> Value:
    """CONCATENATION, of a few at a time."""
    while len(values) > 1:
        few, values = values[:MOST_CONCATENATED], values[MOST_CONCATENATED:]
        leader = max(few, key=lambda v: (v.data is None, math.prod(v.shape)))
        rank = len(leader.shape)
        axis %= rank
        frame = leader.frame if axis in leader.frame else complete(leader.frame, rank)
        shape = list(leader.shape)
        shape[axis] = sum(v.shape[axis] for v in few)
        inputs = [g.arranged(v, frame) for v in few]
        options = {"axis": frame.index(axis), "fusedActivationFunction": "NONE"}
        y = g.emit("CONCATENATION", inputs, shape, frame, leader.quant, leader.dtype, **options)
        values = (y, *values)
    return values[0]


def pad(g: Graph, op: Op, x: Value) -> Value:
    """PAD with zeros, PADV2 with another number, MIRROR_PAD, or the edge joined to the value."""
    padding, mode = op.attrs["padding"], op.attrs["mode"]
    if mode == "edge":
        for axis, (before, after) in enumerate(padding):
            first, last = (cut(g, x, axis, k, k + 1) for k in (0, x.shape[axis] - 1))
            x = joined(g, [first] * before + [x] + [last] * after, axis)
        return x
    if mode == "reflect":
        return padded(g, x, padding, "MIRROR_PAD", mode="REFLECT")
    number = op.attrs.get("value", 0.0)
    if number == 0:
        return padded(g, x, padding, "PAD")
    if x.quant is None:
        data = np.array([number], x.dtype)
    else:
        steps = np.rint(number / x.quant.scale) + x.quant.zero_point
        data = np.clip(np.reshape(steps, (1,)), -128, 127).astype(np.int8)
    return padded(g, x, padding, "PADV2", g.arranged(g.constant(data, x.quant), (0,)))


def padded(
    g: Graph, x: Value, padding: Sequence[Sequence[int]], operator: str, *more: Value, **options
) -> Value:
    frame = x.frame
    if any(any(pair) and k not in frame for k, pair in enumerate(padding)):
        frame = complete(frame, len(x.shape))
    table = [(0, 0) if k is None else tuple(padding[k]) for k in frame]
    shape = [n + sum(pair) for n, pair in zip(x.shape, padding, strict=True)]
    inputs = [g.arranged(x, frame), g.numbers(table), *more]
    return g.emit(operator, inputs, shape, frame, x.quant, x.dtype, **options)


def cut(g: Graph, x: Value, axis: int, start: int, stop: int) -> Value:
    """SLICE along one axis."""
    starts = [start if k == axis else 0 for k in range(len(x.shape))]
    stops = [stop if k == axis else n for k, n in enumerate(x.shape)]
    return block(g, x, starts, stops)


def block(g: Graph, x: Value, starts: Sequence[int], stops: Sequence[int]) -> Value:
    """SLICE of consecutive elements."""
    shape = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
    if shape == x.shape:
        return x
    frame = x.frame
    x = g.arranged(x, frame)
    begin = g.numbers([0 if k is None else starts[k] for k in frame])
    size = g.numbers([1 if k is None else shape[k] for k in frame])
    return g.emit("SLICE", [x, begin, size], shape, frame, x.quant, x.dtype)


def slice_(g: Graph, op: Op, x: Value) -> Value:
    """SLICE; with steps, memory is read so that the first of each step is cut from a dimension.

    XNNPACK has no slice with steps. H and W cut by 2 from N, H, W, C are read as
    (N H/2, 2 W/2, 2 C), of which (N H/2, W/2, C) are kept.
    """
    steps, starts, shape = op.attrs["step"], op.attrs["start"], op.output.shape
    stops = [start + n * step for start, n, step in zip(starts, shape, steps, strict=True)]
    missing = [(0, max(0, stop - n)) for stop, n in zip(stops, x.shape, strict=True)]
    if any(map(any, missing)):
        x = padded(g, x, missing, "PAD")
    x = block(g, x, starts, stops)
    if set(steps) == {1}:
        return x
    frame = x.frame
    have, kept = [1], [1]
    for k in frame:
        n, step = (1, 1) if k is None else (shape[k], steps[k])
        have[-1] *= n
        kept[-1] *= n
        if step > 1:
            have.append(step)
            kept.append(1)
    inputs = [
        g.read(g.arranged(x, frame), tuple(have)),
        g.numbers([0] * len(have)),
        g.numbers(kept),
    ]
    y = g.emit("SLICE", inputs, kept, tuple(range(len(kept))), x.quant, x.dtype)
    return replace(y, shape=shape, axes=axes_of(shape, frame))


def expand(g: Graph, op: Op, x: Value) -> Value:
    """A product with ones, for which XNNPACK broadcasts; of other dtypes BROADCAST_TO."""
    shape = tuple(op.output.shape)
    x = g.lifted(x, len(shape))
    if x.shape == shape:
        return x
    if x.dtype != "float32":
        frame = complete(x.frame, len(shape))
        x = g.arranged(x, frame)
        sizes = g.numbers([shape[k] for k in frame])
        return g.emit("BROADCAST_TO", [x, sizes], shape, frame, None, x.dtype)
    missing = tuple(1 if have == n else n for have, n in zip(x.shape, shape, strict=True))
    unit = None if x.quant is None else Quant(np.float32(1), np.int32(0))
    ones = g.constant(np.ones(missing, "float32" if unit is None else "int8"), unit, "float32")
    return g.binary("MUL", x, ones, x.quant, features=["upscaling"] if unit else [])


def gather(g: Graph, op: Op, table: Value, indices: Value) -> Value:
    """GATHER of rows."""
    inputs = [g.arranged(v, tuple(range(len(v.shape)))) for v in (table, indices)]
    frame = tuple(range(len(op.output.shape)))
    return g.emit("GATHER", inputs, op.output.shape, frame, None, table.dtype, axis=0)


KERNELS: dict[str, Kernel] = {
    "conv": Kernel(spatial.conv, always),
    "conv_transpose": Kernel(spatial.conv_transpose, always),
    "linear": Kernel(linear, always),
    "matmul": Kernel(matmul, lambda op: op.inputs[1].quant.zero_point == 0),
    "add": Kernel(pairs_clamped("ADD"), always),
    "sub": Kernel(pairs_clamped("SUB"), always),
    "mul": Kernel(pairs_clamped("MUL"), always),
    "div": Kernel(pairs("DIV"), never),
    "pow": Kernel(power, never),
    "maximum": Kernel(pairs("MAXIMUM"), never),
    "minimum": Kernel(pairs("MINIMUM"), never),
    "clamp": Kernel(clamp, clamp_is_activation),
    "neg": Kernel(each("NEG"), never),
    "abs": Kernel(each("ABS"), never),
    "exp": Kernel(each("EXP"), never),
    "log": Kernel(each("LOG"), never),
    "sqrt": Kernel(each("SQRT"), never),
    "rsqrt": Kernel(each("RSQRT"), never),
    "erf": Kernel(erf, never),
    "sin": Kernel(each("SIN"), never),
    "cos": Kernel(each("COS"), never),
    "floor": Kernel(each("FLOOR"), never),
    "sigmoid": Kernel(each("LOGISTIC"), lambda op: op.output.quant.same(SIGMOID_GRID)),
    "tanh": Kernel(each("TANH"), lambda op: op.output.quant.same(TANH_GRID)),
    "silu": Kernel(silu, never),
    "gelu": Kernel(gelu, never),
    "hardswish": Kernel(each("HARD_SWISH"), never),
    "hardsigmoid": Kernel(hardsigmoid, never),
    "elu": Kernel(elu, never),
    "leaky_relu": Kernel(lambda g, op, x: g.unary("LEAKY_RELU", x, alpha=op.attrs["slope"]), never),
    "softplus": Kernel(softplus, never),
    "softmax": Kernel(along_last("SOFTMAX", beta=1.0), never),
    "log_softmax": Kernel(along_last("LOG_SOFTMAX"), never),
    "layer_norm": Kernel(layer_norm, never),
    "max_pool": Kernel(spatial.max_pool, always),
    "avg_pool": Kernel(spatial.avg_pool, spatial.averages_whole_windows),
    "mean": Kernel(reduction("MEAN"), always),
    "sum": Kernel(reduction("SUM"), never),
    "amax": Kernel(reduction("REDUCE_MAX"), never),
    "amin": Kernel(reduction("REDUCE_MIN"), never),
    "concat": Kernel(concat, always),
    "pad": Kernel(pad, always),
    "slice": Kernel(slice_, always),
    "reshape": Kernel(lambda g, op, x: g.reshaped(x, op.output.shape), always),
    "permute": Kernel(lambda g, op, x: g.permuted(x, op.attrs["order"]), always),
    "expand": Kernel(expand, always),
    "gather": Kernel(gather, never),
    "resize": Kernel(spatial.resize, never),
    "cast": Kernel(cast, always),
    "quantize": Kernel(lambda g, op, x: g.quantized(x, op.output.quant), always),
    "dequantize": Kernel(lambda g, op, x: g.dequantized(x), always),
}

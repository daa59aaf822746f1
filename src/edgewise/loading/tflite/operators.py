"""TFLite's operators in aten's words: one row an operator, one small function each.

A function takes the network, the operator's options, and a Value for each input (None for one that
is left out); it gives a Value, or a list of them. Axes are TFLite's throughout. What a function
gives with a grid lies on that grid already: it moves or selects the numbers of its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import ModelError
from .network import Network, Value
from .reader import Options

__all__ = ["TABLE", "Row", "activated", "cut", "moved", "row"]

aten = torch.ops.aten
Row = Callable[..., "Value | list[Value]"]
TABLE: dict[str, Row] = {}

DTYPES = {
    "FLOAT32": torch.float32, "FLOAT16": torch.float16, "INT8": torch.int8, "UINT8": torch.uint8,
    "INT16": torch.int16, "INT32": torch.int32, "INT64": torch.int64, "BOOL": torch.bool,
}  # fmt: skip

ACTIVATIONS: dict[str, Callable[[Network, Value], Value]] = {
    "NONE": lambda g, x: x,
    "RELU": lambda g, x: g.call(aten.relu.default, x),
    "RELU6": lambda g, x: g.call(aten.relu6.default, x),
    "RELU_N1_TO_1": lambda g, x: g.call(aten.hardtanh.default, x, -1.0, 1.0),
    "TANH": lambda g, x: g.call(aten.tanh.default, x),
}


def row(*names: str) -> Callable[[Row], Row]:
    """Register a function for these operators."""

    def register(function: Row) -> Row:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


def activated(g: Network, o: Options, x: Value) -> Value:
    """The fused activation."""
    name = o.get("FusedActivationFunction", "NONE")
    if name not in ACTIVATIONS:
        raise ModelError(f"its fused activation {name} is not known")
    return ACTIVATIONS[name](g, x)


def moved(x: Value, result: Value) -> Value:
    """A result that has the numbers of `x`: it lies on the same grid."""
    return replace(result, grid=x.grid)


def real_constant(value: Value | None, what: str) -> float:
    if value is None or value.data is None or value.data.numel() != 1:
        raise ModelError(f"its {what} is computed or not one number")
    return float(value.data)


# --- on each number -----------------------------------------------------------------------------

for _name, _target in {
    "ABS": aten.abs, "CEIL": aten.ceil, "COS": aten.cos, "EXP": aten.exp,
    "FLOOR": aten.floor, "HARD_SWISH": aten.hardswish, "LOG": aten.log, "LOGISTIC": aten.sigmoid,
    "LOGICAL_NOT": aten.logical_not, "NEG": aten.neg, "ROUND": aten.round, "RSQRT": aten.rsqrt,
    "SIGN": aten.sign, "SIN": aten.sin, "SQRT": aten.sqrt, "SQUARE": aten.square,
    "TANH": aten.tanh, "ZEROS_LIKE": aten.zeros_like, "RELU": aten.relu, "RELU6": aten.relu6,
}.items():  # fmt: skip
    TABLE[_name] = lambda g, o, x, target=_target.default: g.call(target, x)

row("RELU_N1_TO_1")(lambda g, o, x: g.call(aten.hardtanh.default, x, -1.0, 1.0))
row("RELU_0_TO_1")(lambda g, o, x: g.call(aten.hardtanh.default, x, 0.0, 1.0))
row("LEAKY_RELU")(lambda g, o, x: g.call(aten.leaky_relu.default, x, o["Alpha"]))
row("SOFTMAX")(
    lambda g, o, x: g.call(
        aten.softmax.int, x if o["Beta"] == 1 else g.call(aten.mul.Tensor, x, o["Beta"]), -1
    )
)
row("ELU")(lambda g, o, x: g.call(aten.elu.default, x))
row("LOG_SOFTMAX")(lambda g, o, x: g.call(aten.log_softmax.int, x, -1))


@row("GELU")
def gelu(g: Network, o: Options, x: Value) -> Value:
    approximate = "tanh" if o["Approximate"] else "none"
    return g.call(aten.gelu.default, x, approximate=approximate)


@row("PRELU")
def prelu(g: Network, o: Options, x: Value, slope: Value) -> Value:
    """He et al. 2015 (arXiv:1502.01852), equation 1; the slope broadcasts over any axes."""
    x, slope = g.aligned([x, slope])
    below = g.call(aten.mul.Tensor, g.call(aten.clamp_max.default, x, 0.0), slope)
    return g.call(aten.add.Tensor, g.call(aten.relu.default, x), below)


@row("L2_NORMALIZATION")
def l2_normalization(g: Network, o: Options, x: Value) -> Value:
    squares = g.call(aten.sum.dim_IntList, g.call(aten.mul.Tensor, x, x), [-1], True)
    norm = g.call(aten.sqrt.default, g.call(aten.clamp_min.default, squares, 1e-6))
    return activated(g, o, g.call(aten.div.Tensor, x, norm))


@row("CAST")
def cast(g: Network, o: Options, x: Value) -> Value:
    dtype = DTYPES.get(o["OutDataType"])
    if dtype is None:
        raise ModelError(f"it casts to {o['OutDataType']}")
    return x if x.meta.dtype == dtype else g.call(aten._to_copy.default, x, dtype=dtype)


@row("DEQUANTIZE", "QUANTIZE", "FAKE_QUANT")
def identity(g: Network, o: Options, x: Value) -> Value:
    """The numbers stay; where they lie is said by the tensor that is written."""
    if x.meta.dtype in (torch.float16, torch.float64):
        return g.call(aten._to_copy.default, x, dtype=torch.float32)
    return x


# --- on pairs of numbers ------------------------------------------------------------------------

for _name, _target in {
    "ADD": aten.add, "SUB": aten.sub, "MUL": aten.mul, "DIV": aten.div,
    "EQUAL": aten.eq, "NOT_EQUAL": aten.ne, "LESS": aten.lt,
    "LESS_EQUAL": aten.le, "GREATER": aten.gt, "GREATER_EQUAL": aten.ge,
}.items():  # fmt: skip
    TABLE[_name] = lambda g, o, *pair, target=_target.Tensor: activated(
        g, o, g.call(target, *g.aligned(pair))
    )

for _name, _target in {
    "MAXIMUM": aten.maximum.default, "MINIMUM": aten.minimum.default,
    "POW": aten.pow.Tensor_Tensor, "FLOOR_DIV": aten.floor_divide.default,
    "FLOOR_MOD": aten.remainder.Tensor, "LOGICAL_AND": aten.logical_and.default,
    "LOGICAL_OR": aten.logical_or.default,
}.items():  # fmt: skip
    TABLE[_name] = lambda g, o, *pair, target=_target: g.call(target, *g.aligned(pair))

row("SELECT", "SELECT_V2")(lambda g, o, *three: g.call(aten.where.self, *g.aligned(three)))


@row("SQUARED_DIFFERENCE")
def squared_difference(g: Network, o: Options, a: Value, b: Value) -> Value:
    return g.call(aten.square.default, g.call(aten.sub.Tensor, *g.aligned([a, b])))


@row("ADD_N")
def add_n(g: Network, o: Options, first: Value, *others: Value) -> Value:
    for other in others:
        first = g.call(aten.add.Tensor, *g.aligned([first, other]))
    return first


# --- along axes ---------------------------------------------------------------------------------

for _name, _target in {
    "MEAN": aten.mean.dim, "SUM": aten.sum.dim_IntList, "REDUCE_MAX": aten.amax.default,
    "REDUCE_MIN": aten.amin.default,
}.items():  # fmt: skip

    def _reduced(g: Network, o: Options, x: Value, axes: Value, target: Any = _target) -> Value:
        if not axes.integers():
            return x
        x, found = g.along(x, axes.integers())
        return g.call(target, x, found, bool(o["KeepDims"]))

    TABLE[_name] = _reduced


@row("REDUCE_PROD")
def product(g: Network, o: Options, x: Value, axes: Value) -> Value:
    x, found = g.along(x, axes.integers())
    for axis in reversed(found):
        x = g.call(aten.prod.dim_int, x, axis, bool(o["KeepDims"]))
    return x


def _extreme(target: Any) -> Row:
    def function(g: Network, o: Options, x: Value, axis: Value) -> Value:
        x, (at,) = g.along(x, axis.integers())
        kind = DTYPES[{2: "INT32", 4: "INT64"}.get(o["OutputType"], "INT64")]
        found = g.call(target, x, at)
        return found if kind == torch.int64 else g.call(aten._to_copy.default, found, dtype=kind)

    return function


row("ARG_MAX")(_extreme(aten.argmax.default))
row("ARG_MIN")(_extreme(aten.argmin.default))


# --- the same numbers, another shape ------------------------------------------------------------


@row("RESHAPE")
def reshape(g: Network, o: Options, x: Value, shape: Value | None = None) -> Value:
    return g.reshaped(x, o["NewShape"] if shape is None else shape.integers())


@row("SQUEEZE")
def squeeze(g: Network, o: Options, x: Value) -> Value:
    axes = {x.axis(k) - x.lifted for k in o["SqueezeDims"]} or range(len(x.shape))
    return g.reshaped(x, [n for k, n in enumerate(x.shape) if k not in axes or n != 1])


@row("EXPAND_DIMS")
def expand_dims(g: Network, o: Options, x: Value, axis: Value) -> Value:
    (at,), shape = axis.integers(), list(x.shape)
    shape.insert(at + len(shape) + 1 if at < 0 else at, 1)
    return g.reshaped(x, shape)


@row("TRANSPOSE")
def transpose(g: Network, o: Options, x: Value, order: Value) -> Value:
    axes = order.integers()
    if sorted(axes) != list(range(len(x.shape))):
        raise ModelError(f"it orders the axes of shape {list(x.shape)} as {axes}")
    if axes == sorted(axes):
        return x
    x = x if axes[0] == 0 else g.lifted(x)
    every = [*range(x.lifted), *(x.axis(k) for k in axes)]
    return moved(x, g.call(aten.permute.default, x, every))


@row("BROADCAST_TO")
def broadcast_to(g: Network, o: Options, x: Value, shape: Value) -> Value:
    sizes = shape.integers()
    if x.data is None and sizes[:1] == list(x.shape[:1]) and len(sizes) == len(x.shape):
        sizes[0] = -1
    elif x.data is None:
        x = g.reshaped(g.lifted(x), [1] * (len(sizes) - len(x.shape)) + list(x.shape))
        x = g.lifted(x)
    return moved(x, g.call(aten.expand.default, x, [-1] * x.lifted + sizes))


@row("TILE")
def tile(g: Network, o: Options, x: Value, times: Value) -> Value:
    counts = times.integers()
    x = x if counts[:1] == [1] else g.lifted(x)
    return moved(x, g.call(aten.repeat.default, x, [1] * x.lifted + counts))


@row("SHAPE")
def shape_(g: Network, o: Options, x: Value) -> Value:
    """The shape in the file: what is made of it follows the batch again in `reshaped`."""
    dtype = torch.int64 if o.get("OutType") == 4 else torch.int32
    return g.constant(torch.tensor(x.shape, dtype=dtype))


row("RANK")(lambda g, o, x: g.constant(torch.tensor(len(x.shape), dtype=torch.int32)))


@row("FILL")
def fill(g: Network, o: Options, shape: Value, number: Value) -> Value:
    return g.call(aten.expand.default, number, shape.integers())


@row("RANGE")
def range_(g: Network, o: Options, start: Value, limit: Value, delta: Value) -> Value:
    first, last, step = (real_constant(v, "range") for v in (start, limit, delta))
    count = math.ceil((last - first) / step) if step else -1
    if not 0 <= count <= 2**24:
        raise ModelError(f"it counts from {first:g} to {last:g} by {step:g}")
    steps = torch.arange(count, dtype=torch.float64) * step + first
    return g.constant(steps.to(start.meta.dtype))


# --- parts and wholes ---------------------------------------------------------------------------


@row("CONCATENATION")
def concatenation(g: Network, o: Options, *parts: Value) -> Value:
    rank = len(parts[0].shape)
    if o["Axis"] in (0, -rank) or any(p.lifted for p in parts):
        parts = tuple(_with_batch(g, p, parts) for p in parts)
    return activated(g, o, joined(g, parts, aten.cat.default, parts[0].axis(o["Axis"])))


@row("PACK")
def pack(g: Network, o: Options, *parts: Value) -> Value:
    axis, rank = o["Axis"], len(parts[0].shape) + 1
    whole = [[*p.shape[: axis % rank], 1, *p.shape[axis % rank :]] for p in parts]
    parts = tuple(g.reshaped(p, shape) for p, shape in zip(parts, whole, strict=True))
    return concatenation(g, Options(Axis=axis), *parts)


def _with_batch(g: Network, part: Value, parts: Sequence[Value]) -> Value:
    """A part lifted; constants stay as they are among constants only."""
    if part.data is None:
        return g.lifted(part)
    if all(p.data is not None for p in parts):
        return part
    raise ModelError("it joins what follows the batch with what does not")


def joined(g: Network, parts: Sequence[Value], target: Any, axis: int) -> Value:
    result = g.call(target, list(parts), axis)
    grid = parts[0].grid
    same = grid is not None and grid.axis is None and all(grid.same(p.grid) for p in parts)
    return replace(result, grid=grid) if same else result


def cut(g: Network, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Part of one of the file's axes; the whole is left alone, so that the batch stays free."""
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    x, (at,) = g.along(x, [axis])
    return moved(x, g.call(aten.slice.Tensor, x, at, start, stop, step))


@row("SLICE")
def slice_(g: Network, o: Options, x: Value, begin: Value, size: Value) -> Value:
    starts, sizes = begin.integers(), size.integers()
    for axis, (start, count) in enumerate(zip(starts, sizes, strict=True)):
        stop = x.shape[axis] if count == -1 else start + count
        if not 0 <= start <= stop <= x.shape[axis]:
            raise ModelError(f"it cuts {start} to {stop} from an axis of {x.shape[axis]}")
        x = cut(g, x, axis, start, stop)
    return x


@row("STRIDED_SLICE")
def strided_slice(
    g: Network, o: Options, x: Value, begin: Value, end: Value, strides: Value
) -> Value:
    if o["EllipsisMask"] or o["NewAxisMask"]:
        raise ModelError("it slices with an ellipsis or a new axis")
    gone = []
    for axis, (start, stop, step) in enumerate(
        zip(begin.integers(), end.integers(), strides.integers(), strict=True)
    ):
        if step == 0:
            raise ModelError("it slices by steps of 0")
        size, bit = x.shape[axis], 1 << axis
        if o["ShrinkAxisMask"] & bit:
            start = start + size if start < 0 else start
            if not 0 <= start < size:
                raise ModelError(f"it takes number {start} of an axis of {size}")
            stop, step = start + 1, 1
            gone.append(axis)
        masked = slice(
            None if o["BeginMask"] & bit and axis not in gone else start,
            None if o["EndMask"] & bit and axis not in gone else stop,
            step,
        )
        start, stop, step = masked.indices(size)
        if step < 0:
            x, at = g.along(x, [axis])
            x = moved(x, g.call(aten.flip.default, x, at))
            start, stop, step = size - 1 - start, size - 1 - stop, -step
        x = cut(g, x, axis, start, max(start, stop), step)
    return g.reshaped(x, [n for k, n in enumerate(x.shape) if k not in gone])


def _one_axis(x: Value, axis: Value) -> int:
    (found,) = axis.integers()
    return x.axis(found) - x.lifted


def parts_of(g: Network, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    if sum(sizes) != x.shape[axis] or min(sizes, default=-1) < 0:
        raise ModelError(f"it splits an axis of {x.shape[axis]} into {list(sizes)[:9]}")
    ends = np.cumsum(sizes).tolist()
    return [cut(g, x, axis, end - n, end) for n, end in zip(sizes, ends, strict=True)]


@row("SPLIT")
def split(g: Network, o: Options, axis: Value, x: Value) -> list[Value]:
    at, count = _one_axis(x, axis), o["NumSplits"]
    if count < 1 or x.shape[at] % count:
        raise ModelError(f"it splits an axis of {x.shape[at]} into {count} equal parts")
    return parts_of(g, x, at, [x.shape[at] // count] * count)


@row("SPLIT_V")
def split_v(g: Network, o: Options, x: Value, sizes: Value, axis: Value) -> list[Value]:
    at, found = _one_axis(x, axis), sizes.integers()
    if found.count(-1) == 1:
        found[found.index(-1)] = x.shape[at] - sum(n for n in found if n != -1)
    return parts_of(g, x, at, found)


@row("UNPACK")
def unpack(g: Network, o: Options, x: Value) -> list[Value]:
    axis = x.axis(o["Axis"]) - x.lifted
    rest = [n for k, n in enumerate(x.shape) if k != axis]
    return [g.reshaped(p, rest) for p in parts_of(g, x, axis, [1] * x.shape[axis])]


@row("REVERSE_V2")
def reverse(g: Network, o: Options, x: Value, axes: Value) -> Value:
    x, found = g.along(x, axes.integers())
    return g.call(aten.flip.default, x, found)


@row("GATHER")
def gather(g: Network, o: Options, table: Value, indices: Value) -> Value:
    if o.get("BatchDims"):
        raise ModelError("it gathers with batch axes")
    axis = table.axis(o["Axis"]) - table.lifted
    if table.data is not None and axis == 0 and len(table.shape) == 2:
        return g.call(aten.embedding.default, replace(table, grid=None), indices)
    if indices.data is None or len(indices.shape) > 1:
        raise ModelError("it gathers by indices that are computed or have several axes")
    if not indices.shape:
        at = indices.integers()[0] % table.shape[axis]
        part = cut(g, table, axis, at, at + 1)
        return g.reshaped(part, [n for k, n in enumerate(part.shape) if k != axis])
    table, (at,) = g.along(table, [axis])
    return g.call(aten.index_select.default, table, at, indices)


def _pairs(padding: Value, rank: int) -> list[tuple[int, int]]:
    flat = padding.integers()
    if len(flat) != 2 * rank or min(flat) < 0 or max(flat) > 2**20:
        raise ModelError(f"it pads {rank} axes by {flat[:16]}")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _backwards(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """aten lists the pairs from the last axis on."""
    return [n for pair in reversed(pairs) for n in pair]


@row("PAD", "PADV2")
def pad(g: Network, o: Options, x: Value, padding: Value, number: Value | None = None) -> Value:
    fill = 0.0 if number is None else real_constant(number, "padding")
    pairs = _pairs(padding, len(x.shape))
    x = g.lifted(x) if any(pairs[0]) else x
    return moved(x, g.call(aten.constant_pad_nd.default, x, _backwards(pairs), fill))


@row("MIRROR_PAD")
def mirror_pad(g: Network, o: Options, x: Value, padding: Value) -> Value:
    """Images only: aten reflects the last axes, which are H and W once the channels are first."""
    pairs = _pairs(padding, len(x.shape))
    if o["Mode"] != "REFLECT" or len(pairs) != 4 or any(pairs[0]) or any(pairs[3]):
        raise ModelError(f"it mirrors the axes {pairs}, {o['Mode']}")
    if x.lifted:
        raise ModelError("it mirrors what is no image")
    image = g.call(aten.permute.default, x, [0, 3, 1, 2])
    image = g.call(aten.pad.default, image, _backwards(pairs[1:3]), "reflect")
    return moved(x, g.call(aten.permute.default, image, [0, 2, 3, 1]))


@row("DEPTH_TO_SPACE")
def depth_to_space(g: Network, o: Options, x: Value) -> Value:
    (n, h, w, c), b = x.shape, o["BlockSize"]
    if x.lifted or b < 1:
        raise ModelError(f"it takes images in blocks, found {list(x.shape)} in blocks of {b}")
    x = g.reshaped(x, [n, h, w, b, b, c // b**2])
    x = moved(x, g.call(aten.permute.default, x, [0, 1, 3, 2, 4, 5]))
    return g.reshaped(x, [n, h * b, w * b, c // b**2])


@row("SPACE_TO_DEPTH")
def space_to_depth(g: Network, o: Options, x: Value) -> Value:
    (n, h, w, c), b = x.shape, o["BlockSize"]
    if x.lifted or b < 1:
        raise ModelError(f"it takes images in blocks, found {list(x.shape)} in blocks of {b}")
    x = g.reshaped(x, [n, h // b, b, w // b, b, c])
    x = moved(x, g.call(aten.permute.default, x, [0, 1, 3, 2, 4, 5]))
    return g.reshaped(x, [n, h // b, w // b, c * b**2])

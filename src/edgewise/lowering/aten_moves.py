"""Rows of `edgewise.lowering.aten.TABLE` for operators that move, select or convert values."""

from __future__ import annotations

import itertools
import math

import torch

from .aten import row
from .program import Tensor

__all__ = ["pieces", "reshaped", "sliced"]

aten = torch.ops.aten


# --- same values, another shape -----------------------------------------------------------------


@row(
    aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
    aten._unsafe_view.default, aten.view_as.default,
)  # fmt: skip
def reshape(emit, **arguments):
    return reshaped(emit, arguments["self"], emit.shape)


def reshaped(emit, x: Tensor, shape) -> Tensor:
    """The same values in another shape."""
    shape = tuple(shape)
    return x if x.shape == shape else emit("reshape", x, shape=shape, dtype=x.dtype)


@row(aten.permute.default)
def permute(emit, self, dims):
    return _permute(emit, self, [d % len(self.shape) for d in dims])


@row(aten.transpose.int)
def transpose(emit, self, dim0, dim1):
    order = list(range(len(self.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(emit, self, order)


@row(aten.t.default, aten.numpy_T.default)
def reverse_axes(emit, self):
    return _permute(emit, self, list(range(len(self.shape)))[::-1])


@row(aten.movedim.int)
def move_axis(emit, self, source, destination):
    rank = len(self.shape)
    order = [i for i in range(rank) if i != source % rank]
    order.insert(destination % rank, source % rank)
    return _permute(emit, self, order)


def _permute(emit, x: Tensor, order: list[int]) -> Tensor:
    if order == sorted(order):
        return x
    return emit("permute", x, shape=[x.shape[i] for i in order], dtype=x.dtype, order=tuple(order))


@row(aten.expand.default)
def expand(emit, self, size, implicit):
    return self if self.shape == emit.shape else emit("expand", self)


@row(aten.expand_as.default)
def expand_as(emit, self, other):
    return self if self.shape == emit.shape else emit("expand", self)


@row(aten.repeat.default)
def repeat(emit, self, repeats):
    x = reshaped(emit, self, (*[1] * (len(repeats) - len(self.shape)), *self.shape))
    for axis, count in enumerate(repeats):
        if count > 1:
            shape = [*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :]]
            x = emit("concat", *[x] * count, shape=shape, dtype=x.dtype, axis=axis)
    return x


@row(aten.pixel_shuffle.default)
def pixel_shuffle(emit, self, upscale_factor):
    """Shi et al. 2016 (arXiv:1609.05158), equation 4."""
    n, c, h, w = self.shape
    r = upscale_factor
    x = reshaped(emit, self, (n, c // r**2, r, r, h, w))
    return reshaped(emit, _permute(emit, x, [0, 1, 4, 2, 5, 3]), emit.shape)


@row(aten.channel_shuffle.default)
def channel_shuffle(emit, self, groups):
    """Zhang et al. 2018 (arXiv:1707.01083), section 3.1."""
    n, c, *spatial = self.shape
    x = reshaped(emit, self, (n, groups, c // groups, *spatial))
    order = [0, 2, 1, *range(3, len(x.shape))]
    return reshaped(emit, _permute(emit, x, order), emit.shape)


# --- parts and wholes ---------------------------------------------------------------------------


@row(aten.cat.default)
def concat(emit, tensors, dim):
    axis = dim % len(emit.shape)
    tensors = [t for t in tensors if math.prod(t.shape)]
    return tensors[0] if len(tensors) == 1 else emit("concat", *tensors, axis=axis)


@row(aten.stack.default)
def stack(emit, tensors, dim):
    axis = dim % len(emit.shape)
    shape = [*emit.shape[:axis], 1, *emit.shape[axis + 1 :]]
    return emit("concat", *[reshaped(emit, t, shape) for t in tensors], axis=axis)


def sliced(emit, x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    """Positions of one axis; negative ones count from its end."""
    size = x.shape[axis]
    start, stop = (min(max(v + size if v < 0 else v, 0), size) for v in (start, stop))
    if (start, stop, step) == (0, size, 1):
        return x
    shape = list(x.shape)
    shape[axis] = max(0, -(-(stop - start) // step))
    starts, stops, steps = [0] * len(shape), list(x.shape), [1] * len(shape)
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return emit(
        "slice", x, shape=shape, dtype=x.dtype,
        start=tuple(starts), stop=tuple(stops), step=tuple(steps),
    )  # fmt: skip


@row(aten.slice.Tensor)
def slice_(emit, self, dim, start, end, step):
    axis = dim % len(self.shape)
    end = self.shape[axis] if end is None else min(end, self.shape[axis])
    return sliced(emit, self, axis, start or 0, end, step)


@row(aten.narrow.default)
def narrow(emit, self, dim, start, length):
    return sliced(emit, self, dim % len(self.shape), start, start + length)


@row(aten.select.int)
def select(emit, self, dim, index):
    axis = dim % len(self.shape)
    index %= self.shape[axis]
    return reshaped(emit, sliced(emit, self, axis, index, index + 1), emit.shape)


def pieces(emit, x: Tensor, axis: int, sizes: list[int]) -> tuple[Tensor, ...]:
    """Parts of these sizes, one behind the other along an axis."""
    ends = itertools.accumulate(sizes)
    return tuple(sliced(emit, x, axis, b - n, b) for n, b in zip(sizes, ends, strict=True))


@row(aten.split.Tensor)
def split(emit, self, split_size, dim):
    axis = dim % len(self.shape)
    size = self.shape[axis]
    sizes = [min(split_size, size - at) for at in range(0, size, split_size)]
    return pieces(emit, self, axis, sizes)


@row(aten.split_with_sizes.default)
def split_with_sizes(emit, self, split_sizes, dim):
    return pieces(emit, self, dim % len(self.shape), split_sizes)


@row(aten.chunk.default)
def chunk(emit, self, chunks, dim):
    axis = dim % len(self.shape)
    return split(emit, self, -(-self.shape[axis] // chunks), axis)


@row(aten.unbind.int)
def unbind(emit, self, dim):
    axis = dim % len(self.shape)
    parts = pieces(emit, self, axis, [1] * self.shape[axis])
    shape = [s for i, s in enumerate(self.shape) if i != axis]
    return tuple(reshaped(emit, part, shape) for part in parts)


@row(aten.roll.default)
def roll(emit, self, shifts, dims):
    """Along each axis what falls off its end comes in at its beginning."""
    x = self if dims else reshaped(emit, self, (math.prod(self.shape),))
    for shift, dim in zip(shifts, dims or (0,), strict=True):
        axis, size = dim % len(x.shape), x.shape[dim]
        if cut := -shift % size:
            parts = pieces(emit, x, axis, [cut, size - cut])
            x = emit("concat", *parts[::-1], shape=x.shape, dtype=x.dtype, axis=axis)
    return reshaped(emit, x, self.shape)


@row(aten.constant_pad_nd.default)
def constant_pad(emit, self, pad, value):
    return _pad(emit, self, pad, "constant", value)


@row(aten.pad.default)
def pad(emit, self, pad, mode, value):
    if mode == "circular":
        raise emit.fail("circular padding")
    return _pad(emit, self, pad, {"replicate": "edge"}.get(mode, mode), value or 0.0)


def _pad(emit, x: Tensor, pad, mode: str, value: float) -> Tensor:
    """aten lists (before, after) from the last axis backwards; a negative one cuts off."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    pairs = [(0, 0)] * (len(x.shape) - len(pairs)) + pairs
    for axis, (before, after) in enumerate(pairs):
        if before < 0 or after < 0:
            stop = x.shape[axis] + min(after, 0)
            x = sliced(emit, x, axis, -min(before, 0), stop)
    pairs = tuple((max(a, 0), max(b, 0)) for a, b in pairs)
    if not any(a or b for a, b in pairs):
        return x
    return emit("pad", x, padding=pairs, mode=mode, value=float(value))


@row(aten.embedding.default)
def embedding(emit, weight, indices, **_):
    return emit("gather", weight, indices, dtype="float32")


@row(aten.index_select.default)
def index_select(emit, self, dim, index):
    if dim % len(self.shape):
        raise emit.fail("index_select along an axis other than the first")
    return emit("gather", self, index, dtype=self.dtype)


# --- other sizes, other types -------------------------------------------------------------------


@row(aten.upsample_nearest2d.vec, aten.upsample_nearest2d.default)
def upsample_nearest(emit, **arguments):
    x = arguments.get("input") or arguments.get("self")
    return emit("resize", x, size=emit.shape[2:], mode="nearest", align_corners=False)


@row(aten.upsample_bilinear2d.vec, aten.upsample_bilinear2d.default)
def upsample_bilinear(emit, align_corners, **arguments):
    x = arguments.get("input") or arguments.get("self")
    return emit("resize", x, size=emit.shape[2:], mode="linear", align_corners=align_corners)


@row(
    aten.to.dtype, aten._to_copy.default, aten.to.dtype_layout, aten.to.device, aten.type_as.default
)
def convert(emit, self, **_):
    dtype = str(emit._result.dtype).removeprefix("torch.")
    return self if self.dtype == dtype else emit("cast", self, dtype=dtype)


def _identity(emit, **arguments):
    return arguments.get("self") or arguments["input"]


row(aten.contiguous.default, aten.clone.default, aten.dropout.default, aten.detach.default)(
    _identity
)

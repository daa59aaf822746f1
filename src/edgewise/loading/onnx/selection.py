"""Operators that cut out, pick, place, order and pad elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .file import DTYPES
from .rows import Op, host, row
from .shapes import axes_of, integers
from .values import as_tensor, symbolic, typed

__all__: list[str] = []


@row("Slice", numbers=(1, 2, 3, 4), moves=True)
def slices(op, x, starts=None, ends=None, axes=None, steps=None):
    for axis, start, end, step in _windows(op, x.ndim, starts, ends, axes, steps):
        if step > 0:
            extent = x.shape[axis]
            if symbolic(end) or symbolic(start) or end < 2**31 - 1 or start or step != 1:
                if not symbolic(extent) and not symbolic(start) and not symbolic(end):
                    start, end, _ = slice(start, end, step).indices(extent)
                    end = max(start, end)
                    if (start, end, step) == (0, extent, 1):
                        continue
                x = x[(slice(None),) * axis + (slice(start, min_end(end), step),)]
        else:
            if symbolic(x.shape[axis]):
                raise op.fail("it reverses the batch")
            positions = range(*slice(start, end, step).indices(x.shape[axis]))
            if end < -x.shape[axis]:
                positions = range(*slice(start, None, step).indices(x.shape[axis]))
            index = torch.tensor(list(positions), dtype=torch.int64)
            x = torch.index_select(x, axis, index)
    return x


def min_end(end: Any) -> Any:
    return end if symbolic(end) else min(end, 2**63 - 1)


@host("Slice")
def host_slice(op, x, starts=None, ends=None, axes=None, steps=None):
    for axis, start, end, step in _windows(op, x.ndim, starts, ends, axes, steps):
        last = None if step < 0 and not symbolic(end) and end < -x.shape[axis] else end
        x = x[(slice(None),) * axis + (slice(start, last, step),)]
    return x


def _windows(op: Op, rank: int, starts, ends, axes, steps):
    starts = integers(op["starts"] if starts is None else starts)
    ends = integers(op["ends"] if ends is None else ends)
    given = axes_of(op, axes, rank)
    given = list(range(len(starts))) if given is None else given
    steps = [1] * len(starts) if steps is None else integers(steps)
    if not len(starts) == len(ends) == len(given) == len(steps) or len(given) > rank:
        raise op.fail("its starts, ends, axes and steps are not equally many")
    if 0 in steps:
        raise op.fail("its step is 0")
    return zip(given, starts, ends, steps, strict=True)


@row("Gather", either=(1,), moves=True)
def gather(op, x, index):
    axis = op.axis(op.get("axis", 0), x.ndim)
    if isinstance(index, np.ndarray) and index.dtype != object:
        if index.ndim == 0 and not symbolic(x.shape[axis]):
            return x.select(axis, int(index))
        index = torch.from_numpy(index.copy())
    index = as_tensor(index)
    if not symbolic(x.shape[axis]):
        # Weights of an embedding keep their gradient through aten.embedding.
        if axis == 0 and x.ndim == 2 and isinstance(x, torch.nn.Parameter):
            return F.embedding(_from_front(index, x.shape[0]), x)
        index = _from_front(index, x.shape[axis])
    flat = torch.index_select(x, axis, typed(index.reshape(-1), torch.int64))
    return flat.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _from_front(index: torch.Tensor, extent: int) -> torch.Tensor:
    index = typed(index, torch.int64)
    return torch.where(index < 0, index + extent, index)


@host("Gather")
def host_gather(op, x, index):
    return np.take(x, index.astype(np.int64), op.get("axis", 0))


@row("GatherElements")
def gather_elements(op, x, index):
    axis = op.axis(op.get("axis", 0), x.ndim)
    return torch.gather(x, axis, _from_front(index, x.shape[axis]))


@row("GatherND")
def gather_nd(op, x, index):
    batch = op.get("batch_dims", 0)
    depth = index.shape[-1]
    parts = [_from_front(index[..., i], x.shape[batch + i]) for i in range(depth)]
    lead = [
        torch.arange(x.shape[i]).reshape([-1] + [1] * (index.ndim - 2 - i)) for i in range(batch)
    ]
    return x[(*lead, *parts)]


@row("Scatter", "ScatterElements")
def scatter_elements(op, x, index, updates):
    axis = op.axis(op.get("axis", 0), x.ndim)
    index = _from_front(index, x.shape[axis])
    how = op.get("reduction", "none")
    if how == "none":
        return torch.scatter(x, axis, index, updates)
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return torch.scatter_reduce(x, axis, index, updates, names[how], include_self=True)


@row("ScatterND")
def scatter_nd(op, x, index, updates):
    depth = index.shape[-1]
    extents = list(x.shape[:depth])
    place = sum(
        _from_front(index[..., i], extents[i]) * math.prod(extents[i + 1 :]) for i in range(depth)
    )
    rest = math.prod(x.shape[depth:])
    flat = x.reshape(math.prod(extents), rest)
    place = place.reshape(-1, 1).expand(-1, rest)
    updates = updates.reshape(-1, rest)
    how = op.get("reduction", "none")
    if how == "none":
        result = torch.scatter(flat, 0, place, updates)
    else:
        names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
        result = torch.scatter_reduce(flat, 0, place, updates, names[how], include_self=True)
    return result.reshape(x.shape)


@row("EyeLike", raw=True)
def eye_like(op, x):
    x = as_tensor(x)
    dtype = DTYPES[op["dtype"]] if "dtype" in op.node.attributes else x.dtype
    rows, columns = torch.arange(x.shape[0]), torch.arange(x.shape[1])
    return (columns[None] - rows[:, None] == op.get("k", 0)).to(dtype)


@row("OneHot", numbers=(1,))
def one_hot(op, index, depth, values):
    depth = int(depth.reshape(-1)[0])
    rank = index.ndim + 1
    axis = op.axis(op.get("axis", -1), rank)
    index = _from_front(index, depth)  # what is out of range is nowhere
    levels = torch.arange(depth).reshape([-1 if i == axis else 1 for i in range(rank)])
    return torch.where(index.unsqueeze(axis) == levels, values[1], values[0])


@row("Trilu", numbers=(1,))
def trilu(op, x, k=None):
    diagonal = 0 if k is None else int(k.reshape(-1)[0])
    if x.shape[-1] == 0 or x.shape[-2] == 0:
        return x
    return (torch.triu if op.get("upper", 1) else torch.tril)(x, diagonal)


@row("Pad", numbers=(1, 3), either=(2,), moves=True)
def pad(op, x, pads=None, value=None, axes=None):
    pads = integers(op["pads"] if pads is None else pads)
    mode = op.get("mode", "constant")
    number = op.get("value", 0.0) if value is None else value
    number = number.reshape(-1)[0].item() if isinstance(number, np.ndarray) else number
    chosen = range(x.ndim) if axes is None else axes_of(op, axes, x.ndim)
    if len(pads) != 2 * len(chosen):
        raise op.fail(f"it has {len(pads)} pads for {len(chosen)} axes")
    if mode == "constant":
        if isinstance(number, torch.Tensor):
            raise op.fail("its padding is computed from data")
        flat = [0] * (2 * x.ndim)
        for i, axis in enumerate(chosen):
            flat[2 * (x.ndim - 1 - axis)] = pads[i]
            flat[2 * (x.ndim - 1 - axis) + 1] = pads[i + len(chosen)]
        while len(flat) > 2 and flat[-2:] == [0, 0]:
            flat = flat[:-2]
        if not x.dtype.is_floating_point:
            number = int(number)
        return F.pad(x, flat, value=number) if any(flat) else x
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise op.fail(f"its mode is '{mode}'")
    for i, axis in enumerate(chosen):
        before, after = pads[i], pads[i + len(chosen)]
        if not before and not after:
            continue
        extent = x.shape[axis]
        if symbolic(extent):
            raise op.fail(f"it pads the batch by '{mode}'")
        if max(before, after, extent) > 2**20:
            raise op.fail(f"it pads an axis of {extent} by {before} and {after}")
        index = np.pad(np.arange(extent), (max(before, 0), max(after, 0)), {"circular": "wrap"}.get(
            names[mode], mode))  # fmt: skip
        index = index[max(-before, 0) : len(index) - max(-after, 0)]
        x = torch.index_select(x, axis, torch.from_numpy(index))
    return x


@row("TopK", numbers=(1,))
def top_k(op, x, k=None):
    count = int(op["k"] if k is None else k.reshape(-1)[0])
    axis = op.axis(op.get("axis", -1), x.ndim)
    largest = bool(op.get("largest", 1))
    # Equal values come by their index, which torch.topk does not promise.
    order = widened_sort(x, axis, largest)
    index = order.narrow(axis, 0, count)
    return torch.gather(x, axis, index), index


def widened_sort(x: torch.Tensor, axis: int, descending: bool) -> torch.Tensor:
    return torch.sort(x.to(torch.int64) if x.dtype in (torch.uint16, torch.uint32, torch.uint64)
                      else x, dim=axis, descending=descending, stable=True).indices  # fmt: skip


@row("CumSum", numbers=(1,))
def cumulative_sum(op, x, axis):
    return _cumulative(op, x, axis, torch.cumsum, 0)


@row("CumProd", numbers=(1,))
def cumulative_product(op, x, axis):
    return _cumulative(op, x, axis, torch.cumprod, 1)


def _cumulative(op: Op, x: torch.Tensor, axis: np.ndarray, function: Any, neutral: int):
    axis = op.axis(int(axis.reshape(-1)[0]), x.ndim)
    if op.get("reverse", 0):
        x = x.flip(axis)
    result = typed(function(x, axis), x.dtype)
    if op.get("exclusive", 0):
        first = torch.full_like(result.narrow(axis, 0, 1), neutral)
        result = torch.cat([first, result.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return result.flip(axis) if op.get("reverse", 0) else result


@row("ReverseSequence", moves=False)
def reverse_sequence(op, x, lengths):
    time, batch = op.get("time_axis", 0), op.get("batch_axis", 1)
    steps = torch.arange(x.shape[time])
    lengths = typed(lengths, torch.int64).unsqueeze(1)
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)  # (batch, time)
    if time < batch:
        index = index.t()
    index = index.reshape([*index.shape, *[1] * (x.ndim - 2)]).expand(x.shape)
    return torch.gather(x, time, index)


@row("Det")
def determinant(op, x):
    return torch.linalg.det(x)

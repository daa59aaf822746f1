"""Rules for operators that move, select, join or repeat values."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator

import numpy as np
import torch
from torch import fx

from ..canonical import bound
from .trace import Axes, Trace, is_frozen

__all__ = ["RULES"]

aten = torch.ops.aten


def reshape(trace: Trace, node: fx.Node) -> Axes:
    """Axes are split and merged, in blocks that hold equally many elements on both sides."""
    x, shape = trace.axes(node.args[0]), trace.shapes[node]
    result: list[np.ndarray] = []
    for old, new in _blocks([len(ids) for ids in x], shape):
        result += _rearranged(trace, node, [x[i] for i in old], [shape[i] for i in new])
    return tuple(result)


def _blocks(old: list[int], new: tuple[int, ...]) -> Iterator[tuple[range, range]]:
    """The shortest runs of axes, from the left, with the same number of elements."""
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = i, j
        a = b = 1
        if i < len(old):
            a, i = old[i], i + 1
        if j < len(new):
            b, j = new[j], j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        yield range(first, i), range(second, j)


def _rearranged(
    trace: Trace, node: fx.Node, old: list[np.ndarray], new: list[int]
) -> list[np.ndarray]:
    """One block; axes of one position hold nothing and are left out of it."""
    for ids in old:
        if len(ids) == 1:
            trace.freeze(ids, "a single channel stays")
    old = [ids for ids in old if len(ids) > 1]
    wide = [n for n in new if n > 1]
    if not wide:
        inner = []
    elif len(old) == len(wide) == 1:
        inner = old
    elif all(map(is_frozen, old)):
        inner = [np.broadcast_to(old[0][0], (n,)) for n in wide]
    else:
        whole = _merged(trace, node, old)
        inner = [whole] if len(wide) == 1 else _split(trace, node, whole, wide)
    left = iter(inner)
    return [next(left) if n > 1 else trace.frozen(1, "a single channel stays") for n in new]


def _merged(trace: Trace, node: fx.Node, old: list[np.ndarray]) -> np.ndarray:
    """Several axes as one; where one of them alone can be cut, its numbers are repeated."""
    free = [i for i, ids in enumerate(old) if not is_frozen(ids)]
    shape = [len(ids) for ids in old]
    if len(free) == 1:
        own = [1] * len(old)
        own[free[0]] = -1
        return np.broadcast_to(old[free[0]].reshape(own), shape).ravel()
    whole = trace.fresh(math.prod(shape))
    trace.product(whole, old, node.name)
    return whole


def _split(trace: Trace, node: fx.Node, whole: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    factors = [trace.fresh(n) for n in sizes]
    trace.product(whole, factors, node.name)
    return factors


def permute(trace: Trace, node: fx.Node) -> Axes:
    x = trace.axes(node.args[0])
    return tuple(x[d] for d in node.args[1])


def transpose(trace: Trace, node: fx.Node) -> Axes:
    x = list(trace.axes(node.args[0]))
    if len(node.args) > 2:
        a, b = node.args[1:3]
        x[a], x[b] = x[b], x[a]
        return tuple(x)
    return tuple(reversed(x))  # aten.t, of one or two axes


def transpose_last(trace: Trace, node: fx.Node) -> Axes:
    x = trace.axes(node.args[0])
    return (*x[:-2], x[-1], x[-2])


def unsqueeze(trace: Trace, node: fx.Node) -> Axes:
    x = trace.axes(node.args[0])
    at = node.args[1] % (len(x) + 1)
    return (*x[:at], trace.frozen(1, "a single channel stays"), *x[at:])


def squeeze(trace: Trace, node: fx.Node) -> Axes:
    x = trace.axes(node.args[0])
    dims = node.args[1] if len(node.args) > 1 else range(len(x))
    dims = {d % len(x) for d in ([dims] if isinstance(dims, int) else dims)}
    gone = {d for d in dims if len(x[d]) == 1}
    for d in gone:
        trace.freeze(x[d], "a single channel stays")
    return tuple(ids for d, ids in enumerate(x) if d not in gone)


def expand(trace: Trace, node: fx.Node) -> Axes:
    """An axis of one position is repeated; any of its copies can go."""
    x, shape = trace.axes(node.args[0]), trace.shapes[node]
    new = len(shape) - len(x)
    result = []
    for d, size in enumerate(shape):
        ids = x[d - new] if d >= new else None
        if ids is not None and len(ids) == size:
            result.append(ids)
            continue
        if ids is not None:
            trace.freeze(ids, "it has one position, which all others meet")
        given = node.args[1][d] if isinstance(node.args[1], list | tuple) else None
        free = isinstance(given, int) and size > 1
        result.append(trace.fresh(size) if free else trace.frozen(size, "its size is given"))
    return tuple(result)


def repeat(trace: Trace, node: fx.Node) -> Axes:
    """Copies of the whole, one after the other."""
    x, shape = trace.axes(node.args[0]), trace.shapes[node]
    new = len(shape) - len(x)
    padded = [*(trace.frozen(1, "a single channel stays") for _ in range(new)), *x]
    return tuple(np.tile(ids, n // len(ids)) for ids, n in zip(padded, shape, strict=True))


def repeat_interleave(trace: Trace, node: fx.Node) -> Axes | None:
    """Copies of each position."""
    a = bound(node)
    x = list(trace.axes(node.args[0]))
    if a["dim"] is None:
        return None
    x[a["dim"]] = np.repeat(x[a["dim"]], a["repeats"])
    return tuple(x)


def concatenate(trace: Trace, node: fx.Node) -> Axes:
    parts = [trace.axes(a) for a in node.args[0]]
    dim = bound(node)["dim"] % len(parts[0])
    result = list(parts[0])
    for part in parts[1:]:
        for d, ids in enumerate(part):
            if d != dim:
                result[d] = trace.same(result[d], ids)
    result[dim] = np.concatenate([part[dim] for part in parts])
    return tuple(result)


def stack(trace: Trace, node: fx.Node) -> Axes:
    parts = [trace.axes(a) for a in node.args[0]]
    at = bound(node)["dim"] % (len(parts[0]) + 1)
    result = list(parts[0])
    for part in parts[1:]:
        result = [trace.same(a, b) for a, b in zip(result, part, strict=True)]
    result.insert(at, trace.frozen(len(parts), "stacked"))
    return tuple(result)


def split(trace: Trace, node: fx.Node) -> tuple[Axes, ...]:
    """Pieces of an axis; surgery gives their sizes anew."""
    x = trace.axes(node.args[0])
    dim = bound(node)["dim"] % len(x)
    pieces, start = [], 0
    for shape in trace.shapes[node]:
        end = start + shape[dim]
        pieces.append((*x[:dim], x[dim][start:end], *x[dim + 1 :]))
        start = end
    return tuple(pieces)


def unbind(trace: Trace, node: fx.Node) -> tuple[Axes, ...]:
    x = trace.axes(node.args[0])
    dim = bound(node)["dim"] % len(x)
    trace.freeze(x[dim], f"'{node.name}' takes it apart")
    return tuple((*x[:dim], *x[dim + 1 :]) for _ in trace.shapes[node])


def select(trace: Trace, node: fx.Node) -> Axes:
    x = trace.axes(node.args[0])
    dim = node.args[1] % len(x)
    trace.freeze(x[dim], f"'{node.name}' picks one of it")
    return (*x[:dim], *x[dim + 1 :])


def cut(trace: Trace, node: fx.Node) -> Axes:
    """A slice; surgery counts its ends anew, which needs steps of one."""
    a = bound(node)
    x = list(trace.axes(node.args[0]))
    dim = a["dim"] % len(x)
    size = trace.shapes[node][dim]
    if size == len(x[dim]):
        return tuple(x)
    start, step = a["start"] or 0, a["step"]
    if not isinstance(start, int) or step != 1:
        trace.freeze(x[dim], f"'{node.name}' takes every other of it")
        x[dim] = trace.frozen(size, f"'{node.name}' takes every other of it")
    else:
        start = max(0, start + len(x[dim])) if start < 0 else start
        x[dim] = x[dim][start : start + size]
    return tuple(x)


def narrow(trace: Trace, node: fx.Node) -> Axes | None:
    x = list(trace.axes(node.args[0]))
    _, dim, start, length = node.args
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    x[dim] = x[dim][start:][:length]
    return tuple(x)


def pad(trace: Trace, node: fx.Node) -> Axes:
    """Channels of a constant, which can go like any other."""
    a = bound(node)
    x = list(trace.axes(node.args[0]))
    for i in range(len(a["pad"]) // 2):
        before, after = a["pad"][2 * i : 2 * i + 2]
        ids = x[-1 - i]
        if (before, after) == (0, 0):
            continue
        constant = a.get("mode", "constant") == "constant"
        if not constant or not isinstance(before, int) or not isinstance(after, int):
            trace.freeze(ids, f"'{node.name}' repeats its ends")
        elif min(before, after) < 0:
            trace.freeze(ids, f"'{node.name}' cuts it")
        elif not is_frozen(ids):
            x[-1 - i] = np.concatenate([trace.fresh(before), ids, trace.fresh(after)])
            continue
        size = trace.shapes[node][len(x) - 1 - i]
        x[-1 - i] = trace.frozen(size, f"'{node.name}' pads it")
    return tuple(x)


def index(trace: Trace, node: fx.Node) -> Axes | None:
    """Positions looked up by number: those axes stay."""
    x = trace.axes(node.args[0])
    at = [d for d, i in enumerate(node.args[1]) if i is not None]
    for ids in [*(x[d] for d in at), *(ids for d in at for ids in trace.axes(node.args[1][d]))]:
        trace.freeze(ids, f"'{node.name}' looks up by number")
    if at != list(range(at[0], at[-1] + 1)):
        return None
    rank = len(trace.shapes[node]) - (len(x) - len(at))
    found = trace.shapes[node][at[0] : at[0] + rank]
    looked_up = (trace.frozen(n, f"'{node.name}' looks up by number") for n in found)
    return (*x[: at[0]], *looked_up, *x[at[-1] + 1 :])


def index_select(trace: Trace, node: fx.Node) -> Axes:
    x = list(trace.axes(node.args[0]))
    dim = node.args[1]
    why = f"'{node.name}' looks up by number"
    for ids in (x[dim], *trace.axes(node.args[2])):
        trace.freeze(ids, why)
    x[dim] = trace.frozen(trace.shapes[node][dim], why)
    return tuple(x)


def turned(trace: Trace, node: fx.Node) -> Axes:
    """Roll and flip: the axes they turn stay."""
    x = trace.axes(node.args[0])
    dims = bound(node)["dims"] or range(len(x))
    for d in dims:
        trace.freeze(x[d], f"'{node.name}' turns it")
    return x


def pixel_shuffle(trace: Trace, node: fx.Node) -> Axes:
    """(C r r, H, W) -> (C, H r, W r): r r channels make one (Shi et al., arXiv:1609.05158)."""
    *batch, channels, _, _ = trace.axes(node.args[0])
    factor = node.args[1] ** 2
    each = channels.reshape(-1, factor)
    trace.same(each, each[:, :1])
    steps = (trace.frozen(n, "pixels") for n in trace.shapes[node][-2:])
    return (*batch, each[:, 0], *steps)


def pixel_unshuffle(trace: Trace, node: fx.Node) -> Axes:
    *batch, channels, _, _ = trace.axes(node.args[0])
    steps = (trace.frozen(n, "pixels") for n in trace.shapes[node][-2:])
    return (*batch, np.repeat(channels, node.args[1] ** 2), *steps)


def channel_shuffle(trace: Trace, node: fx.Node) -> Axes:
    """(g, c) channels become (c, g): the same position of each group goes together."""
    x = list(trace.axes(node.args[0]))
    lanes = x[1].reshape(node.args[1], -1)
    trace.same(lanes, lanes[:1])
    x[1] = lanes.T.ravel()
    return tuple(x)


def spatial(trace: Trace, node: fx.Node) -> Axes | tuple[Axes, ...]:
    """Pooling and resizing: every channel by itself, the axes after it as a whole."""
    x, shape = trace.axes(node.args[0]), trace.shapes[node]
    several = isinstance(shape[0], tuple)  # the largest and where they were
    first = shape[0] if several else shape
    slides = next(n for d, n in SPATIAL.items() if d in str(node.target))
    for ids in x[len(x) - slides :]:
        trace.freeze(ids, f"'{node.name}' slides along it")
    steps = (trace.frozen(n, f"'{node.name}' slides along it") for n in first[-slides:])
    result = (*x[: len(x) - slides], *steps)
    return (result,) * len(shape) if several else result


def item(trace: Trace, node: fx.Node) -> Axes:
    """One of several results."""
    return trace.values[node.args[0]][node.args[1]]


SPATIAL = {"1d": 1, "2d": 2, "3d": 3}  # as operators name the number of axes that they slide along
SPATIAL_OPERATORS = [
    getattr(packet, overload)
    for name in (
        "max_pool{}", "avg_pool{}", "adaptive_avg_pool{}", "adaptive_max_pool{}",
        "max_pool{}_with_indices", "upsample_nearest{}", "_upsample_nearest_exact{}",
        "upsample_linear{}", "upsample_bilinear{}", "upsample_bicubic{}", "upsample_trilinear{}",
        "reflection_pad{}", "replication_pad{}",
    )
    for d in SPATIAL
    if (packet := getattr(aten, name.format(d), None)) is not None
    for overload in packet.overloads()
]  # fmt: skip

RULES = {
    **dict.fromkeys(SPATIAL_OPERATORS, spatial),
    **dict.fromkeys(
        [aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int,
         aten._unsafe_view.default, aten.view_as.default, aten.reshape_as.default],
        reshape,
    ),
    **dict.fromkeys([aten.transpose.int, aten.swapaxes.default, aten.t.default], transpose),
    **dict.fromkeys([aten.mT.default, aten.adjoint.default], transpose_last),
    **dict.fromkeys([aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims], squeeze),
    **dict.fromkeys([aten.expand.default, aten.expand_as.default, aten.broadcast_to.default],
                    expand),
    **dict.fromkeys([aten.repeat.default, aten.tile.default], repeat),
    **dict.fromkeys([aten.cat.default, aten.concat.default, aten.concatenate.default], concatenate),
    **dict.fromkeys([aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default], split),
    **dict.fromkeys([aten.pad.default, aten.constant_pad_nd.default], pad),
    **dict.fromkeys([aten.roll.default, aten.flip.default], turned),
    aten.permute.default: permute,
    aten.unsqueeze.default: unsqueeze,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.stack.default: stack,
    aten.unbind.int: unbind,
    aten.select.int: select,
    aten.slice.Tensor: cut,
    aten.narrow.default: narrow,
    aten.index.Tensor: index,
    aten.index_select.default: index_select,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.channel_shuffle.default: channel_shuffle,
    operator.getitem: item,
}  # fmt: skip

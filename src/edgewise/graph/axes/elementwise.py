"""Rules for operators that compute each element by itself, and for reductions."""

from __future__ import annotations

import torch
from torch import fx

from ..canonical import bound
from .trace import Axes, Trace

__all__ = ["REDUCTIONS", "RULES", "pointwise"]

aten = torch.ops.aten


def pointwise(trace: Trace, node: fx.Node) -> Axes:
    """Element by element, with broadcasting: equal positions are one channel."""
    sources = [trace.axes(a) for a in node.all_input_nodes if trace.shapes[a]]
    result = []
    shape = trace.shapes[node]
    for axis, size in enumerate(reversed(shape), 1):
        found = None
        for source in sources:
            if axis > len(source):
                continue
            ids = source[-axis]
            if len(ids) != size:  # it is 1 and stays 1
                trace.freeze(ids, "it has one position, which all others meet")
            else:
                found = ids if found is None else trace.same(found, ids)
        result.append(found)
    return tuple(reversed(result))


def unchanged(trace: Trace, node: fx.Node) -> Axes:
    """The first argument's axes."""
    return trace.axes(node.all_input_nodes[0])


def prelu(trace: Trace, node: fx.Node) -> Axes:
    """One slope for every channel, or one for all."""
    x, slope = (trace.axes(a) for a in node.args)
    if len(slope[0]) > 1:
        trace.same(x[1], slope[0])
    else:
        trace.freeze(slope[0], "one slope for all")
    return x


def softmax(trace: Trace, node: fx.Node) -> Axes:
    """Along its axis every element counts."""
    x = trace.axes(node.args[0])
    trace.freeze(x[bound(node)["dim"]], f"'{node.name}' normalises over it")
    return x


def glu(trace: Trace, node: fx.Node) -> Axes:
    """The first half times the sigmoid of the second."""
    x = list(trace.axes(node.args[0]))
    at = bound(node)["dim"]
    half = len(x[at]) // 2
    x[at] = trace.same(x[at][:half], x[at][half:])
    return tuple(x)


def fill_like(trace: Trace, node: fx.Node) -> Axes:
    """One number everywhere, in the shape of another tensor."""
    return trace.axes(node.args[0])


def filled(trace: Trace, node: fx.Node) -> Axes:
    """One number everywhere: any position can go."""
    sizes = next(a for a in node.args if isinstance(a, list | tuple))
    return tuple(
        trace.fresh(n) if isinstance(given, int) and n > 1 else trace.frozen(n, "its size is given")
        for given, n in zip(sizes, trace.shapes[node], strict=True)
    )


def reduction(trace: Trace, node: fx.Node) -> Axes:
    """A sum loses nothing with a channel of zeros; a mean counts them, which surgery repairs."""
    arguments = bound(node)
    x = trace.axes(node.args[0])
    dims = arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    dims = {d % len(x) for d in dims} if dims else set(range(len(x)))
    if node.target not in SUMS:
        for d in dims:
            trace.freeze(x[d], f"'{node.name}' looks at all of it")
    if arguments.get("keepdim"):
        one = trace.frozen(1, "reduced")
        return tuple(one if d in dims else ids for d, ids in enumerate(x))
    return tuple(ids for d, ids in enumerate(x) if d not in dims)


def scan(trace: Trace, node: fx.Node) -> Axes:
    """Each position along the axis depends on those before it."""
    x = trace.axes(node.args[0])
    trace.freeze(x[bound(node)["dim"]], f"'{node.name}' runs along it")
    return x


def size(trace: Trace, node: fx.Node) -> Axes:
    """A number that other nodes compute with: its axis stays."""
    trace.freeze(trace.axes(node.args[0])[node.args[1]], f"'{node.name}' reads its size")
    return ()


SUMS = {aten.sum.dim_IntList, aten.sum.default, aten.mean.dim, aten.mean.default}
REDUCTIONS = [
    *SUMS,
    aten.amax.default, aten.amin.default, aten.max.default, aten.min.default,
    aten.prod.default, aten.prod.dim_int, aten.var.correction, aten.var.dim, aten.std.correction,
    aten.std.dim, aten.argmax.default, aten.argmin.default, aten.logsumexp.default,
    aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim, aten.all.dim, aten.any.dim,
]  # fmt: skip

RULES = {
    aten.sym_size.int: size,
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(
        [
            aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default,
            aten.contiguous.default, aten.clone.default, aten.detach.default, aten.alias.default,
            aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten._to_copy.default,
            aten.lift_fresh_copy.default, aten.type_as.default,
        ],
        unchanged,
    ),
    **dict.fromkeys(
        [
            aten.hardswish.default, aten.log_sigmoid.default, aten.masked_fill.Tensor,
            aten.multiply.Tensor, aten.divide.Tensor, aten.subtract.Tensor, aten.absolute.default,
            aten.__and__.Tensor, aten.__or__.Tensor, aten.__xor__.Tensor,
        ],
        pointwise,
    ),
    **dict.fromkeys(
        [aten.softmax.int, aten.log_softmax.int, aten._softmax.default, aten._log_softmax.default],
        softmax,
    ),
    **dict.fromkeys([aten.zeros.default, aten.ones.default, aten.full.default,
                     aten.new_zeros.default, aten.new_ones.default, aten.new_full.default], filled),
    **dict.fromkeys([aten.zeros_like.default, aten.ones_like.default, aten.full_like.default],
                    fill_like),
    **dict.fromkeys([aten.cumsum.default, aten.cumprod.default], scan),
    aten.prelu.default: prelu,
    aten.glu.default: glu,
}  # fmt: skip

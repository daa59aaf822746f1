"""Rules for operators with weights: convolution, linear, products, attention, norms, recurrence."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx

from ..canonical import bound
from .trace import Axes, Trace

__all__ = ["RULES"]

aten = torch.ops.aten


def convolution(trace: Trace, node: fx.Node) -> Axes:
    """Sums over the input's channels, group by group; weight (out, in/groups, *kernel)."""
    a = bound(node)
    x, weight = trace.axes(node.args[0]), trace.axes(node.args[1])
    return _convolve(trace, node, x, weight[0], weight[1], a["groups"], 1)


def transposed(trace: Trace, node: fx.Node) -> Axes:
    """The same with weight (in, out/groups, *kernel)."""
    a = bound(node)
    x, weight = trace.axes(node.args[0]), trace.axes(node.args[1])
    return _convolve(trace, node, x, weight[1], weight[0], a["groups"], 0)


def _convolve(
    trace: Trace,
    node: fx.Node,
    x: Axes,
    rows: np.ndarray,
    columns: np.ndarray,
    groups: int,
    summed: int,
) -> Axes:
    """`rows` number the weight's output channels, `columns` its input channels (`summed`)."""
    weight = trace.axes(node.args[1])
    spatial = len(weight) - 2
    at = len(x) - spatial - 1
    for kernel in weight[2:]:
        trace.freeze(kernel, "a kernel is not cut")
    for axis in x[at + 1 :]:
        trace.freeze(axis, f"'{node.name}' slides along it")
    trace.consume(node.args[1], summed)
    out = rows
    if groups == 1:
        trace.same(columns, x[at])
    elif summed == 1:
        out = _grouped(trace, node, x[at], columns, rows, groups)
    else:  # a transposed weight has its groups along its input channels
        out = trace.fresh(len(rows) * groups)
        trace.same(columns, x[at])
        lanes = trace.fresh(groups)
        each = trace.fresh(len(columns) // groups)
        _split(trace, node, columns, lanes, each)
        _split(trace, node, out, lanes, rows)
    bias = node.args[2] if len(node.args) > 2 else None
    if isinstance(bias, fx.Node):
        trace.same(trace.axes(bias)[0], out)
    steps = tuple(
        trace.frozen(n, f"'{node.name}' slides along it") for n in trace.shapes[node][at + 1 :]
    )
    return (*x[:at], out, *steps)


def _grouped(
    trace: Trace,
    node: fx.Node,
    x: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    groups: int,
) -> np.ndarray:
    """Either whole groups can go, or the same positions in each of them."""
    lanes = x if len(columns) == 1 else trace.fresh(groups)
    if len(columns) > 1:
        _split(trace, node, x, lanes, columns)
    else:
        trace.freeze(columns, "depthwise")
        trace.inputs.pop((node.args[1].target, 1), None)
    if len(rows) == groups:
        return trace.same(rows, lanes)
    _split(trace, node, rows, lanes, trace.fresh(len(rows) // groups))
    return rows


def _split(
    trace: Trace, node: fx.Node, whole: np.ndarray, lanes: np.ndarray, each: np.ndarray
) -> None:
    """Split into groups; where they have one position each, these are the groups."""
    if len(each) == 1:
        trace.freeze(each, "one in each group")
        trace.same(whole, lanes)
    else:
        trace.product(whole, (lanes, each), node.name, largest=True)


def linear(trace: Trace, node: fx.Node) -> Axes:
    """Sums over the last axis; weight (out, in) or (in,)."""
    x, weight = trace.axes(node.args[0]), trace.axes(node.args[1])
    trace.same(weight[-1], x[-1])
    trace.consume(node.args[1], len(weight) - 1)
    if len(node.args) > 2 and node.args[2] is not None:
        trace.same(trace.axes(node.args[2])[0], weight[0])
    return (*x[:-1], *weight[:-1])


def product(trace: Trace, node: fx.Node) -> Axes:
    """Matrix product: sums over the last axis of the first and the last but one of the second."""
    return _multiply(trace, *node.args[:2])


def added_product(trace: Trace, node: fx.Node) -> Axes:
    """A matrix product plus a bias that broadcasts."""
    result = _multiply(trace, *node.args[1:3])
    bias = trace.axes(node.args[0])
    for ids, axis in zip(reversed(bias), reversed(result), strict=False):
        if len(ids) == len(axis):
            trace.same(axis, ids)
        else:
            trace.freeze(ids, "it has one position, which all others meet")
    return result


def _multiply(trace: Trace, left: fx.Node, right: fx.Node) -> Axes:
    a, b = trace.axes(left), trace.axes(right)
    trace.same(a[-1], b[-2] if len(b) > 1 else b[0])
    trace.consume(left, len(a) - 1)
    trace.consume(right, max(0, len(b) - 2))
    batch = []
    for i in range(max(len(a), len(b)) - 2, 0, -1):
        at = -2 - i
        sides = [s[at] for s in (a, b) if len(s) >= -at]
        long = [ids for ids in sides if len(ids) > 1] or sides[:1]
        for ids in sides:
            if len(ids) < len(long[0]):
                trace.freeze(ids, "it has one position, which all others meet")
        batch.append(trace.same(long[0], long[-1]))
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


def einsum(trace: Trace, node: fx.Node) -> Axes | None:
    """Equal letters are one axis; letters that are not in the result are summed over."""
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if "." in equation or not arrow or any(len(set(t)) < len(t) for t in terms):
        return None
    letters: dict[str, np.ndarray] = {}
    for term, operand in zip(terms, operands, strict=True):
        for axis, (letter, ids) in enumerate(zip(term, trace.axes(operand), strict=True)):
            known = letters.get(letter)
            if known is not None and len(known) != len(ids):
                return None
            letters[letter] = ids if known is None else trace.same(known, ids)
            if letter not in right:
                trace.consume(operand, axis)
    return tuple(letters[letter] for letter in right)


def attention(trace: Trace, node: fx.Node) -> Axes:
    """Heads are the units; the numbers in a head stay, their count sets the scale.

    With ``enable_gqa`` each head of key and value serves several of the query.
    """
    a = bound(node)
    q, k, v = (trace.axes(a[name]) for name in ("query", "key", "value"))
    for ids in (q[-1], k[-1], v[-1]):
        trace.freeze(ids, f"the size of a head of '{node.name}' stays")
    for ids in (q[-2], k[-2]):
        trace.freeze(ids, f"'{node.name}' looks along it")
    trace.same(k[-2], v[-2])
    heads = []
    for ids, key, value in zip(q[:-2], k[:-2], v[:-2], strict=True):
        trace.same(key, value)
        if len(key) == len(ids):
            trace.same(ids, key)
        elif len(ids) % len(key) == 0:
            trace.same(ids.reshape(len(key), -1), key[:, None])
        else:
            trace.freeze(ids, f"'{node.name}' broadcasts it")
            trace.freeze(key, f"'{node.name}' broadcasts it")
        heads.append(ids)
    if isinstance(a["attn_mask"], fx.Node):
        mask = trace.axes(a["attn_mask"])
        for ids, axis in zip(reversed(mask), reversed((*heads, q[-2], k[-2])), strict=False):
            if len(ids) == len(axis):
                trace.same(axis, ids)
            else:
                trace.freeze(ids, "it has one position, which all others meet")
    return (*heads, q[-2], v[-1])


def embedding(trace: Trace, node: fx.Node) -> Axes:
    """Rows of a table (rows, numbers), looked up by their number."""
    table, indices = (trace.axes(a) for a in node.args[:2])
    trace.freeze(table[0], f"'{node.name}' looks its rows up by number")
    return (*indices, table[1])


def batch_norm(trace: Trace, node: fx.Node) -> Axes:
    """Every channel by itself."""
    x = trace.axes(node.args[0])
    for argument in node.args[1:5]:
        if isinstance(argument, fx.Node):
            trace.same(x[1], trace.axes(argument)[0])
    return x


def layer_norm(trace: Trace, node: fx.Node) -> Axes:
    """Mean and variance are of all positions, a channel of zeros among them."""
    x = trace.axes(node.args[0])
    over = x[len(x) - len(node.args[1]) :]
    for argument in node.args[1:4]:
        sides = trace.axes(argument) if isinstance(argument, fx.Node) else ()
        for ids, own in zip(over, sides, strict=False):
            trace.freeze(own, f"'{node.name}' takes mean and variance over it")
            trace.freeze(ids, f"'{node.name}' takes mean and variance over it")
    for ids in over:
        trace.freeze(ids, f"'{node.name}' takes mean and variance over it")
    return x


def group_norm(trace: Trace, node: fx.Node) -> Axes:
    """Mean and variance are of whole groups, so that these are the units."""
    x = trace.axes(node.args[0])
    groups = node.args[1]
    for argument in node.args[2:4]:
        if isinstance(argument, fx.Node):
            trace.same(x[1], trace.axes(argument)[0])
    if groups == 1:
        trace.freeze(x[1], f"'{node.name}' takes mean and variance over it")
    else:
        each = x[1].reshape(groups, -1)
        trace.same(each, each[:, :1])
    for ids in x[2:]:
        trace.freeze(ids, f"'{node.name}' takes mean and variance over it")
    return x


def recurrent(gates: int):
    """LSTM (4 gates) and GRU (3): weights (gates * hidden, in) and (gates * hidden, hidden).

    All layers and directions have one hidden size, as the operator wants it.
    """

    def rule(trace: Trace, node: fx.Node) -> tuple[Axes, ...] | None:
        a = bound(node)
        per_cell = 4 if a["has_biases"] else 2
        directions = 2 if a["bidirectional"] else 1
        if len(a["params"]) != per_cell * a["num_layers"] * directions:
            return None  # an LSTM with a projection
        start, x = a["hx"], trace.axes(a["input"])
        starts = start if isinstance(start, list | tuple) else [start]
        hidden = trace.axes(starts[0])[-1]
        for state in map(trace.axes, starts):
            trace.same(state[-1], hidden)
            trace.freeze(state[0], "one for every layer")
        below = x[-1]
        for layer in range(a["num_layers"]):
            for direction in range(directions):
                at = (layer * directions + direction) * per_cell
                cell = a["params"][at : at + per_cell]
                for parameter in cell:
                    rows = trace.axes(parameter)[0].reshape(gates, -1)
                    trace.same(rows, hidden)
                trace.same(trace.axes(cell[0])[1], below)
                trace.same(trace.axes(cell[1])[1], hidden)
                trace.consume(cell[0], 1)
                trace.consume(cell[1], 1)
            below = np.tile(hidden, directions)
        state = trace.axes(starts[0])
        return ((*x[:-1], below), *(state for _ in starts))

    return rule


CONVOLUTIONS = [
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv1d.padding,
    aten.conv2d.padding, aten.conv3d.padding,
]  # fmt: skip
TRANSPOSED = [
    aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input,
]  # fmt: skip

RULES = {
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(TRANSPOSED, transposed),
    **dict.fromkeys([aten.matmul.default, aten.bmm.default, aten.mm.default, aten.mv.default],
                    product),
    **dict.fromkeys([aten.addmm.default, aten.baddbmm.default], added_product),
    aten.linear.default: linear,
    aten.einsum.default: einsum,
    aten.scaled_dot_product_attention.default: attention,
    aten.embedding.default: embedding,
    aten.batch_norm.default: batch_norm,
    aten.instance_norm.default: batch_norm,
    aten.layer_norm.default: layer_norm,
    aten.rms_norm.default: layer_norm,
    aten.group_norm.default: group_norm,
    aten.lstm.input: recurrent(4),
    aten.gru.input: recurrent(3),
}  # fmt: skip

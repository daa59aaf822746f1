"""What each operator does with a value whose axes lie in another order: a function a row.

A rule takes the `Rewriting` and a node of the old graph, writes the node's operator on its inputs
as they lie, and says how the result lies. It gives None where the operator needs the order that
the model has; the inputs are then moved to it.
"""

from __future__ import annotations

import operator
from itertools import chain

import torch
from torch import fx

from .arrangement import Arrangement, Atom, Axes, joined, steps, unified
from .canonical import FAKE_QUANTIZE
from .rewriting import Parts, Rewriting, Rule, Value, arguments, elements, is_constant

__all__ = ["PERMUTES", "RULES", "permute_order", "pointwise"]

aten = torch.ops.aten
PERMUTES = {
    aten.permute.default, aten.transpose.int, aten.t.default, aten.numpy_T.default,
    aten.movedim.int,
}  # fmt: skip
RULES: dict[object, Rule] = {}


def row(*targets):
    """Register a rule for these operators."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, rule))
        return rule

    return register


# --- same values, other axes: no operator at all ------------------------------------------------


def permute_order(node: fx.Node, rank: int) -> list[int]:
    """Which axis of the operand each axis of its result is."""
    given = arguments(node)
    order = list(range(rank))
    if node.target is aten.permute.default:
        return [d % rank for d in given["dims"]]
    if node.target is aten.transpose.int:
        a, b = given["dim0"] % rank, given["dim1"] % rank
        order[a], order[b] = b, a
        return order
    if node.target is aten.movedim.int:
        order.remove(given["source"] % rank)
        order.insert(given["destination"] % rank, given["source"] % rank)
        return order
    return order[::-1]


@row(*PERMUTES)
def permute(rw: Rewriting, node: fx.Node):
    value = rw.value(node.args[0])
    return Value(value.node, value.held.permuted(permute_order(node, len(value.held.axes))))


@row(
    aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
    aten._unsafe_view.default, aten.view_as.default,
)  # fmt: skip
def reshape(rw: Rewriting, node: fx.Node):
    value = rw.value(node.args[0])
    held = value.held.reshaped(rw.sizes(node))
    return held and Value(value.node, held)


@row(aten.sym_size.int)
def size(rw: Rewriting, node: fx.Node):
    value, axis = rw.value(node.args[0]), node.args[1]
    two, three = rw.sizes(node.args[0])[axis]
    if two == three:
        return two
    if 3 * two == 2 * three:
        return rw.batches(two // 2)
    at = value.held.along(axis)
    return None if at is None else rw.new.call_function(aten.sym_size.int, (value.node, at))


@row(operator.getitem)
def part(rw: Rewriting, node: fx.Node):
    parts = rw.found[node.args[0]]
    if not isinstance(parts, Parts):
        return None
    copied = rw.new.node_copy(node, lambda _: parts.node)
    return Value(copied, parts.held[node.args[1]])


# --- element by element -------------------------------------------------------------------------


@row(
    aten.dropout.default, aten.contiguous.default, aten.to.dtype, aten._to_copy.default,
    aten.hardswish.default, aten.log_sigmoid.default, aten.feature_dropout.default,
    aten.alpha_dropout.default, aten.detach.default, aten.lift_fresh_copy.default,
)  # fmt: skip
def pointwise(rw: Rewriting, node: fx.Node):
    """Any operator on elements, its tensors broadcast against each other."""
    given = {k: v for k, v in arguments(node).items() if rw.value(v) is not None}
    values = [rw.value(v) for v in given.values()]
    if not values or not isinstance(rw.runs[0][node], torch.Tensor):
        return None
    alike = unified([v.held for v in values])
    if alike is None:
        return None
    values = [Value(v.node, held) for v, held in zip(values, alike, strict=True)]
    result = _broadcast(alike)
    stored = _cheapest(values, result)
    if stored is None:
        return None
    moved = (rw.arranged(v, _share(stored, v.held)) for v in values)
    copied = rw.copy(node, **dict(zip(given, moved, strict=True)))
    return Value(copied, Arrangement(stored, result))


def _broadcast(values: list[Arrangement]) -> Axes:
    return tuple(
        next((axis for axis in each if axis), ())
        for each in zip(*(v.axes for v in values), strict=True)
    )


def _share(stored: Axes, held: Arrangement) -> Axes | None:
    """The axes in which a value broadcasts against the result; None where it cannot."""
    own = {atom: atom for atom in chain.from_iterable(held.axes)}
    found = tuple(tuple(own[a] for a in axis if a in own) for axis in stored)
    whole = all(not part or part == axis for part, axis in zip(found, stored, strict=True))
    return found if whole else None


def _cheapest(values: list[Value], result: Axes) -> Axes | None:
    """How the result is best stored: as the operand that would be the most work to move."""
    atoms = sorted(a.number for a in chain.from_iterable(result))
    choices = []
    for value in values:
        if sorted(a.number for a in chain.from_iterable(value.held.stored)) != atoms:
            continue
        stored = value.held.stored
        stored = ((),) * (len(result) - len(stored)) + stored
        shares = [_share(stored, v.held) for v in values]
        if None in shares:
            continue
        work = sum(
            elements(v.held)
            for v, share in zip(values, shares, strict=True)
            if not is_constant(v.node)
            and any(kind == "permute" for kind, _ in steps(v.held.stored, share))
        )
        choices.append((is_constant(value.node), work, value.held.is_plain, len(choices), stored))
    return min(choices)[-1] if choices else None


# --- along an axis ------------------------------------------------------------------------------


@row(FAKE_QUANTIZE)
def grid(rw: Rewriting, node: fx.Node):
    value, axis = rw.value(node.args[0]), arguments(node)["axis"]
    if axis is None:
        return pointwise_one(rw, node, value)
    at = value.held.along(axis)
    return None if at is None else Value(rw.copy(node, x=value.node, axis=at), value.held)


def pointwise_one(rw: Rewriting, node: fx.Node, value: Value) -> Value:
    name = node.target._schema.arguments[0].name
    return Value(rw.copy(node, **{name: value.node}), value.held)


@row(aten.softmax.int, aten.log_softmax.int, aten.cumsum.default, aten.flip.default)
def along_axis(rw: Rewriting, node: fx.Node):
    """One value in, one of the same shape out."""
    value, given = rw.value(node.args[0]), arguments(node)
    name = "dims" if "dims" in given else "dim"
    axes = given[name] if isinstance(given[name], list | tuple) else [given[name]]
    at = [value.held.along(axis) for axis in axes]
    if None in at:
        return None
    return Value(
        rw.copy(node, self=value.node, **{name: at if name == "dims" else at[0]}), value.held
    )


@row(
    aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.argmax.default,
    aten.argmin.default, aten.prod.dim_int,
)  # fmt: skip
def reduction(rw: Rewriting, node: fx.Node):
    value, given = rw.value(node.args[0]), arguments(node)
    dim = given.get("dim")
    if dim is None or dim == []:
        return None
    axes = [dim] if isinstance(dim, int) else list(dim)
    at = [value.held.along(axis) for axis in axes]
    if None in at:
        return None
    copied = rw.copy(node, self=value.node, dim=at[0] if isinstance(dim, int) else sorted(at))
    if not given["keepdim"]:
        return Value(copied, value.held.without(axes, at))
    held = value.held
    for axis, k in zip(axes, at, strict=True):
        held = held.with_axis(axis, k, (1, 1))
    return Value(copied, held)


@row(aten.slice.Tensor, aten.narrow.default, aten.select.int)
def slice_(rw: Rewriting, node: fx.Node):
    value, axis = rw.value(node.args[0]), arguments(node)["dim"]
    at = value.held.along(axis)
    if at is None:
        return None
    copied = rw.copy(node, self=value.node, dim=at)
    if node.target is aten.select.int:
        return Value(copied, value.held.without([axis], [at]))
    return Value(copied, value.held.with_axis(axis, at, rw.sizes(node)[axis]))


@row(aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int)
def split(rw: Rewriting, node: fx.Node):
    value, axis = rw.value(node.args[0]), arguments(node)["dim"]
    at = value.held.along(axis)
    if at is None:
        return None
    copied = rw.copy(node, self=value.node, dim=at)
    plain = rw.results(node, copied).held
    if node.target is aten.unbind.int:
        return Parts(copied, (value.held.without([axis], [at]),) * len(plain))
    sizes = [rw_sizes[axis] for rw_sizes in _part_sizes(rw, node)]
    return Parts(copied, tuple(value.held.with_axis(axis, at, size) for size in sizes))


def _part_sizes(rw: Rewriting, node: fx.Node):
    for two, three in zip(*(run[node] for run in rw.runs), strict=True):
        yield list(zip(two.shape, three.shape, strict=True))


@row(aten.cat.default)
def concat(rw: Rewriting, node: fx.Node):
    values = [rw.value(v) for v in node.args[0]]
    axis = arguments(node)["dim"]
    if any(len(v.held.axes) != len(rw.sizes(node)) for v in values):
        return None  # an empty tensor of rank 1, which aten allows
    alike = joined([v.held for v in values], axis)
    if alike is None:
        return None
    values = [Value(v.node, held) for v, held in zip(values, alike, strict=True)]
    result = _broadcast(alike)
    stored = _cheapest(values, result)
    if stored is None or len(stored) != len(result):
        return None
    at = stored.index(result[axis])
    moved = [rw.arranged(v, _share(stored, v.held)) for v in values]
    held = Arrangement(stored, result)
    return Value(
        rw.copy(node, tensors=moved, dim=at), held.with_axis(axis, at, rw.sizes(node)[axis])
    )


@row(aten.constant_pad_nd.default, aten.pad.default)
def pad(rw: Rewriting, node: fx.Node):
    value, given = rw.value(node.args[0]), arguments(node)
    if given.get("mode", "constant") != "constant":
        return None  # works on the last axes only
    rank, held = len(value.held.axes), value.held
    pairs = [[0, 0] for _ in held.stored]
    for i in range(0, len(given["pad"]), 2):
        axis = rank - 1 - i // 2
        pair = list(given["pad"][i : i + 2])
        if pair == [0, 0]:
            continue
        at = held.along(axis)
        if at is None:
            return None
        pairs[at] = pair
    for axis, size in enumerate(rw.sizes(node)):
        if size != rw.sizes(node.args[0])[axis]:
            held = held.with_axis(axis, value.held.along(axis), size)
    while len(pairs) > 1 and pairs[0] == [0, 0]:
        pairs.pop(0)
    return Value(rw.copy(node, self=value.node, pad=[*chain.from_iterable(pairs[::-1])]), held)


# --- products over the last axis ----------------------------------------------------------------


@row(aten.layer_norm.default, aten.rms_norm.default)
def norm(rw: Rewriting, node: fx.Node):
    value = rw.value(node.args[0])
    count = len(arguments(node)["normalized_shape"])
    if value.held.stored[-count:] != value.held.axes[-count:]:
        return None
    return Value(rw.copy(node, input=value.node), value.held)


# Operator -> its arguments for the value and the weight, and the weight's axis that is summed over.
PRODUCTS = {
    aten.linear.default: ("input", "weight", 1),
    aten.matmul.default: ("self", "other", 0),
    aten.mm.default: ("self", "mat2", 0),
    aten.addmm.default: ("mat1", "mat2", 0),
}


@row(*PRODUCTS)
def linear(rw: Rewriting, node: fx.Node):
    """The weight's columns are read in the order in which the value holds them."""
    x_name, weight_name, summed = PRODUCTS[node.target]
    given = arguments(node)
    value, weight = rw.value(given[x_name]), rw.value(given[weight_name])
    if value is None or weight is None or not is_constant(weight.node):
        return None
    if len(weight.held.axes) != 2 or len(value.held.axes) < 2:
        return None
    last = value.held.axes[-1]
    flat = [*chain.from_iterable(value.held.stored)]
    tail = tuple(flat[len(flat) - len(last) :])
    lead = _lead(value.held, len(tail))
    if lead is None or not last or set(tail) != set(last):
        return None
    if len(lead) != 1 and node.target in (aten.mm.default, aten.addmm.default):
        return None
    # The weight, its columns written with the same factors as the value's last axis.
    own = [rw.sizes(given[weight_name])[1 - summed]]
    factors = [atom.size for atom in last]
    held = weight.held.reshaped(own + factors if summed else factors + own)
    if held is None:
        return None
    rows, columns = (held.axes[:1], held.axes[1:]) if summed else (held.axes[-1:], held.axes[:-1])
    column_of = dict(zip(last, columns, strict=True))
    wanted = (tuple(chain.from_iterable(column_of[atom] for atom in tail)),)
    target = rows + wanted if summed else wanted + rows
    moved = {
        x_name: rw.arranged(value, (*lead, tail)),
        weight_name: rw.arranged(Value(weight.node, held), target),
    }
    copied = rw.copy(node, **moved)
    size = rw.sizes(node)[-1]
    new = () if size == (1, 1) else (Atom(size),)
    return Value(copied, Arrangement((*lead, new), (*value.held.axes[:-1], new)))


def _lead(held: Arrangement, tail: int) -> Axes | None:
    """The stored axes before the last `tail` atoms; None where one holds some of both."""
    lead, left = list(held.stored), tail
    while left > 0:
        left -= len(lead.pop())
    if left < 0:
        return None
    while lead and not lead[-1] and len(lead) > len(held.axes) - 1:
        lead.pop()
    return tuple(lead)

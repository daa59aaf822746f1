"""In-place operators become functional ones, wherever that changes no result.

``y.relu_()`` also changes what `y` is a view of, and every view of it. A graph of functional
operators cannot say that, so it is done only when none of those is read afterwards.
"""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch._ops import OpOverload

from ..errors import ModelError

__all__ = ["InPlace"]

aten = torch.ops.aten

# Operators that may give their argument back although their schema does not say so.
UNDECLARED = frozenset(
    {
        aten.dropout, aten.feature_dropout, aten.alpha_dropout, aten.feature_alpha_dropout,
        aten.type_as, aten.atleast_1d, aten.atleast_2d, aten.atleast_3d, aten.broadcast_tensors,
        aten.meshgrid, aten.einsum,
    }
)  # fmt: skip
# Operators whose results lie side by side in their argument.
CUTS = frozenset({aten.split, aten.split_with_sizes, aten.chunk, aten.tensor_split, aten.unbind})

# Their functional forms give booleans, while in place the tensor keeps its dtype.
COMPARISONS = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"}
)


class InPlace:
    """Follows a graph from node to node and knows which values share memory.

    Call `follow` for every node in order.
    """

    def __init__(self, graph: fx.Graph):
        order = {node: i for i, node in enumerate(graph.nodes)}
        self._order = order
        self._last = {n: max((order[u] for u in n.users), default=-1) for n in graph.nodes}
        self._sharing: dict[fx.Node, set[fx.Node]] = {}  # node -> all that may share its memory
        self._same: dict[fx.Node, set[fx.Node]] = {}  # node -> all that are the same tensor
        # node -> which piece it lies in, of each list of pieces that it was taken from
        self._pieces: dict[fx.Node, dict[fx.Node, object]] = {}

    def follow(self, node: fx.Node) -> tuple[OpOverload, set[fx.Node]] | None:
        """What an in-place operator becomes, and the nodes whose value it changes; else None.

        Raises:
            ModelError: the change would be seen elsewhere, or has no functional form.
        """
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            return self._change(node)
        sources = _shared(node)
        for source in sources:
            self._join(self._sharing, node, source)
        if len(sources) == 1:
            self._pieces[node] = dict(self._pieces.get(sources[0], {}))
            if node.target is operator.getitem and _is_cut(sources[0]):
                self._pieces[node][sources[0]] = node.args[1]
        return None

    def _change(self, node: fx.Node) -> tuple[OpOverload, set[fx.Node]]:
        source = node.args[0]
        self._join(self._same, node, source)
        self._join(self._sharing, node, source)
        self._pieces[node] = self._pieces.get(source, {})
        same, sharing = self._same[node], self._sharing[node]
        found = _functional(node)
        if found is aten.detach.default:
            return found, same  # changes what is known about gradients, not the numbers
        for other in sharing:
            if other.op == "get_attr" or (other is source and other.op == "placeholder"):
                raise ModelError(
                    f"'{node.name}' changes '{other.target}' in place: a Model keeps no state "
                    "between calls, so take the update out of forward"
                )
        # What is not read any more can be forgotten: it keeps this linear.
        sharing &= same | {other for other in sharing if self._last[other] > self._order[node]}
        for other in sharing - same:
            if not self._are_apart(node, other):
                raise ModelError(
                    f"'{node.name}' changes in place what '{other.name}' shares memory with, which "
                    "is read later: use the out-of-place operator in the model's forward"
                )
        return found, same

    def _are_apart(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether two values lie in different pieces of one tensor."""
        theirs = self._pieces.get(b, {})
        return any(theirs.get(cut, i) != i for cut, i in self._pieces.get(a, {}).items())

    @staticmethod
    def _join(groups: dict[fx.Node, set[fx.Node]], a: fx.Node, b: fx.Node) -> None:
        small, large = sorted((groups.get(a, {a}), groups.get(b, {b})), key=len)
        large |= small
        for node in small:
            groups[node] = large
        groups[a] = groups[b] = large


def _shared(node: fx.Node) -> list[fx.Node]:
    """The arguments whose memory the operator's result may be."""
    if node.target is operator.getitem:
        return [node.args[0]]
    if not isinstance(node.target, OpOverload):
        return []
    rows = node.target._schema.arguments
    if node.target.overloadpacket in UNDECLARED:
        values = list(node.args[:2])
    elif any(row.alias_info is not None for row in node.target._schema.returns):
        given = dict(zip((row.name for row in rows), node.args, strict=False)) | node.kwargs
        values = [given[row.name] for row in rows if row.alias_info and row.name in given]
    else:
        return []
    flat = [v for value in values for v in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in flat if isinstance(value, fx.Node)]


def _is_cut(node: fx.Node) -> bool:
    return getattr(node.target, "overloadpacket", None) in CUTS


def _functional(node: fx.Node) -> OpOverload:
    """``aten.relu.default`` for ``aten.relu_.default``.

    Raises:
        ModelError: there is none, or it would give another dtype.
    """
    schema = node.target._schema
    name = schema.name.split("::")[1].removesuffix("_")
    packet = getattr(aten, name, None)
    if packet is None or node.target._overloadname not in packet.overloads() or name in COMPARISONS:
        raise ModelError(f"'{node.name}' ({node.target}) changes its input in place")
    operands = [
        value
        for row, value in zip(schema.arguments, node.args, strict=False)
        if row.name in ("self", "other", "tensor1", "tensor2") and isinstance(value, fx.Node)
    ]
    values = [value.meta.get("val") for value in operands]
    dtypes = {value.dtype for value in values if isinstance(value, torch.Tensor)}
    if len(dtypes) > 1:
        raise ModelError(f"'{node.name}' ({node.target}) mixes dtypes in place: convert them first")
    return getattr(packet, node.target._overloadname)

"""Placement: which values of a graph are quantized, and which of them share one grid.

The rules are those that integer kernels everywhere follow (TFLite's 8-bit specification, the
quantizers of XNNPACK and oneDNN):

* A convolution or linear with constant weights is quantized: input, weight and output.
* An element-wise operator, pooling or one that moves values is quantized when all its inputs
  are; otherwise it stays float, and a border lies before it.
* A clamp right after an operator that can clamp by itself is part of it: only its output counts.
* An operator that moves or selects values keeps the grid of its input.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from .canonical import FAKE_QUANTIZE, layer
from .fold import CONVOLUTIONS

__all__ = ["CLAMPS", "FUSES_CLAMP", "Group", "Placement", "clamp_bounds", "place"]

aten = torch.ops.aten
INFINITY = float("inf")

# Clamp-like operators -> their bounds (lowest, highest), from the node's arguments.
CLAMPS: dict[object, Callable[[fx.Node], tuple[float, float]]] = {
    aten.relu.default: lambda node: (0.0, INFINITY),
    aten.relu6.default: lambda node: (0.0, 6.0),
    aten.hardtanh.default: lambda node: (_argument(node, 1, -1.0), _argument(node, 2, 1.0)),
    aten.clamp.default: lambda node: (_argument(node, 1, None), _argument(node, 2, None)),
    aten.clamp_min.default: lambda node: (node.args[1], INFINITY),
    aten.clamp_max.default: lambda node: (-INFINITY, node.args[1]),
}

ADDITIVE = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor}
FUSES_CLAMP = set(CONVOLUTIONS) | ADDITIVE

# Quantized when their inputs are, on a grid of their own.
COMPUTES = ADDITIVE | set(CLAMPS) | {
    aten.mean.dim,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.hardswish.default,
    aten.leaky_relu.default,
}  # fmt: skip

# Quantized when their inputs are, on a grid that the runtimes prescribe: the output's range.
FIXED = {
    aten.sigmoid.default: (0.0, 255 / 256),
    aten.tanh.default: (-1.0, 127 / 128),
}

# Quantized when their inputs are, on their input's grid.
MOVES = {
    aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.permute.default, aten.transpose.int, aten.t.default, aten.slice.Tensor, aten.select.int,
    aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default,
    aten.expand.default, aten.cat.default, aten.constant_pad_nd.default, aten.pad.default,
    aten.max_pool1d.default, aten.max_pool2d.default, aten.avg_pool1d.default,
    aten.avg_pool2d.default, operator.getitem,
}  # fmt: skip

# Give several parts of one value; each part is read through a getitem.
SPLITS = {
    aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Values (node names) on one grid.

    Attributes:
        constants: numbers besides the values that the grid must reach (padding).
        fixed: the range, where the runtimes prescribe it.
    """

    values: tuple[str, ...]
    constants: tuple[float, ...] = ()
    fixed: tuple[float, float] | None = None


@dataclass(frozen=True)
class Placement:
    """Where fake-quantize nodes go.

    Attributes:
        groups: the quantized values.
        weights: names of the quantized constants with their channel axis (None per tensor).
        watched: the values whose range has to be observed; the others follow from these.
        skipped: the layers that stay float, each with the reason.
    """

    groups: tuple[Group, ...]
    weights: tuple[tuple[str, int | None], ...]
    watched: frozenset[str]
    skipped: dict[str, str] = field(default_factory=dict)


def clamp_bounds(node: fx.Node) -> tuple[float, float] | None:
    """The (lowest, highest) of a clamp-like operator, None for any other."""
    if node.target not in CLAMPS:
        return None
    low, high = CLAMPS[node.target](node)
    return (-INFINITY if low is None else float(low), INFINITY if high is None else float(high))


def fused_clamp(node: fx.Node) -> fx.Node | None:
    """The clamp that reads `node` alone and can be done by it, if there is one."""
    if node.target not in FUSES_CLAMP or len(node.users) != 1:
        return None
    (user,) = node.users
    return user if user.target in CLAMPS else None


def place(
    module: fx.GraphModule, values: dict[fx.Node, object], keeps_float: frozenset[str]
) -> Placement:
    """Decide what is quantized.

    Args:
        module: folded (`edgewise.graph.fold`).
        values: what each node gives (`edgewise.graph.canonical.shapes`).
        keeps_float: names of nodes that stay float.
    """
    return _Placer(values, keeps_float).place(module.graph)


class _Placer:
    def __init__(self, values: dict[fx.Node, object], keeps_float: frozenset[str]):
        self.values = values
        self.keeps_float = keeps_float
        self.quantized: dict[fx.Node, fx.Node] = {}  # value -> its group's first value
        self.constants: dict[fx.Node, list[float]] = {}
        self.fixed: dict[fx.Node, tuple[float, float]] = {}
        self.weights: dict[str, int | None] = {}
        self.skipped: dict[str, str] = {}

    def place(self, graph: fx.Graph) -> Placement:
        part_of_clamp: set[fx.Node] = set()  # operators whose output is that of the clamp behind
        for node in graph.nodes:
            if node.op != "call_function" or not self._is_float(node):
                continue
            reason = self._reason(node, part_of_clamp)
            if reason is not None:
                if reason and node.target not in MOVES:
                    self.skipped[layer(node)] = reason
                continue
            self._quantize(node, part_of_clamp)
        groups: dict[fx.Node, list[fx.Node]] = {}
        for value in self.quantized:
            groups.setdefault(self._root(value), []).append(value)
        return Placement(
            tuple(
                Group(
                    tuple(v.name for v in members),
                    tuple(self.constants.get(root, ())),
                    self.fixed.get(root),
                )
                for root, members in groups.items()
            ),
            tuple(self.weights.items()),
            frozenset(
                v.name
                for v in self.quantized
                if v.target not in MOVES and self._root(v) not in self.fixed
            ),
            self.skipped,
        )

    def _reason(self, node: fx.Node, part_of_clamp: set[fx.Node]) -> str | None:
        """None when `node` is quantized, else why not ('' when that needs no words)."""
        if node.name in self.keeps_float:
            return "kept float as asked"
        if node.target in CONVOLUTIONS:
            if node.args[1].op != "get_attr":
                return "its weight is computed, not constant"
            if not all(isinstance(a, fx.Node) and self._is_float(a) for a in node.args[:1]):
                return "its input is not float"
            return None
        if node.target not in COMPUTES and node.target not in FIXED and node.target not in MOVES:
            name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
            return f"{name} has no int8 form"
        sources = self._sources(node)
        if node.args and node.args[0] in part_of_clamp:
            return None
        float_sources = [a for a in sources if a not in self.quantized and a.op != "get_attr"]
        if float_sources or all(a.op == "get_attr" for a in sources):
            return f"its input '{float_sources[0].name}' is float" if float_sources else ""
        if node.target is aten.cat.default and any(
            self._root(a) in self.fixed for a in sources if a in self.quantized
        ):
            return "it joins values with a prescribed range"
        return None

    def _quantize(self, node: fx.Node, part_of_clamp: set[fx.Node]) -> None:
        sources = self._sources(node)
        if node.target in CONVOLUTIONS:
            self.weights[node.args[1].name] = CONVOLUTIONS[node.target]
            sources = [node.args[0]]
        for source in sources:
            if source.op == "get_attr":
                self.weights[source.name] = None
            elif source not in part_of_clamp:
                self._demand(source)
        clamp = fused_clamp(node)
        if clamp is not None and clamp.name not in self.keeps_float:
            part_of_clamp.add(node)
            return
        self.quantized[node] = node
        if node.target in FIXED:
            self.fixed[node] = FIXED[node.target]
        elif node.target in MOVES:
            self._keep_grid(node, sources)

    def _demand(self, value: fx.Node) -> None:
        """Quantize a float value that a quantized operator reads: before what only moves it."""
        if value in self.quantized:
            return
        self.quantized[value] = value
        if value.target in MOVES:
            sources = self._sources(value)
            for source in sources:
                self._demand(source)
            self._keep_grid(value, sources)

    def _keep_grid(self, node: fx.Node, sources: list[fx.Node]) -> None:
        for source in sources:
            if source.op != "get_attr":
                self._join(source, node)
        if node.target in (aten.constant_pad_nd.default, aten.pad.default):
            value = node.args[-1] if isinstance(node.args[-1], int | float) else 0.0
            self.constants.setdefault(self._root(node), []).append(float(value))

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        """The float tensors that `node` reads; for a part, the value that was split."""
        read = [a.args[0] if a.target in SPLITS else a for a in node.all_input_nodes]
        return [a for a in read if self._is_float(a)]

    def _is_float(self, node: fx.Node) -> bool:
        value = self.values.get(node)
        return (
            isinstance(value, Tensor)
            and value.dtype == torch.float32
            and node.target is not FAKE_QUANTIZE
        )

    def _root(self, value: fx.Node) -> fx.Node:
        while self.quantized[value] is not value:
            value = self.quantized[value]
        return value

    def _join(self, a: fx.Node, b: fx.Node) -> None:
        a, b = self._root(a), self._root(b)
        if a is not b:
            self.quantized[b] = a
            self.constants.setdefault(a, []).extend(self.constants.pop(b, []))
            if b in self.fixed:
                self.fixed[a] = self.fixed.pop(b)


def _argument(node: fx.Node, index: int, default):
    return node.args[index] if len(node.args) > index else default

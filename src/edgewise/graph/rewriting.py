"""Writing a graph anew while permutes and reshapes are only remembered."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from .arrangement import Arrangement, Axes, Size, product, size_of, steps
from .canonical import FAKE_QUANTIZE

__all__ = [
    "MOVES",
    "Parts",
    "Rewriting",
    "Rule",
    "Runs",
    "Value",
    "arguments",
    "elements",
    "is_constant",
    "is_pointwise",
]

aten = torch.ops.aten
MOVES = {aten.permute.default, aten.reshape.default}

# What each node gives, at batch 2 and at batch 3.
Runs = tuple[dict[fx.Node, object], dict[fx.Node, object]]


@dataclass(frozen=True)
class Value:
    """A value of the old graph: the node of the new graph that holds it, and how."""

    node: fx.Node
    held: Arrangement


@dataclass(frozen=True)
class Parts:
    """Several values that one operator gives."""

    node: fx.Node
    held: tuple[Arrangement, ...]


class Rewriting:
    """One pass over a graph, writing a new one."""

    def __init__(self, module: fx.GraphModule, runs: Runs):
        self.old, self.runs = module.graph, runs
        self.new = fx.Graph()
        self.found: dict[fx.Node, Value | Parts | fx.Node | int] = {}
        self.work = 0  # numbers that permutes move, at batch 2
        self._made: dict[tuple, fx.Node] = {}
        self._batch: fx.Node | None = None

    def run(
        self, rules: Mapping[object, Rule], pointwise: Rule, entrance: Mapping[fx.Node, list[int]]
    ) -> Rewriting:
        """Write the whole graph.

        Args:
            rules: for each operator that can work on other orders of axes, what it does.
            pointwise: for the operators on elements that have no rule of their own.
            entrance: for each input to be permuted at once, the order.
        """
        for node in self.old.nodes:
            if node.op in ("placeholder", "get_attr"):
                self.found[node] = self._outer(node)
        for node, order in entrance.items():
            value = self.found[node]
            target = value.held.permuted(order).axes
            moved = self.arranged(value, target)
            self.found[node] = Value(moved, replace(value.held, stored=target))
        for node in self.old.nodes:
            if node.op == "output":
                self.new.node_copy(node, self.plain)
            elif node.op == "call_function":
                rule = rules.get(node.target, pointwise if is_pointwise(node) else None)
                result = rule(self, node) if rule else None
                self.found[node] = self._as_it_is(node) if result is None else result
        return self

    def _outer(self, node: fx.Node) -> Value:
        if node.op == "get_attr":
            copied = self.once(("get_attr", node.target), lambda: self.new.node_copy(node))
        else:
            copied = self.new.node_copy(node)
            if self._batch is None and self.sizes(node)[:1] == [(2, 3)]:
                self._batch = copied
        return Value(copied, Arrangement.plain(self.sizes(node)))

    def _as_it_is(self, node: fx.Node) -> Value | Parts | fx.Node:
        """An operator whose tensors must lie as the model has them."""
        return self.results(node, self.new.node_copy(node, self.plain))

    def results(self, node: fx.Node, copied: fx.Node) -> Value | Parts | fx.Node:
        """What `copied` gives, its tensors held as they are in the old graph."""
        result = self.runs[0][node]
        if isinstance(result, torch.Tensor):
            return Value(copied, Arrangement.plain(self.sizes(node)))
        if isinstance(result, list | tuple) and all(isinstance(r, torch.Tensor) for r in result):
            each = (_paired(parts) for parts in zip(*(run[node] for run in self.runs), strict=True))
            return Parts(copied, tuple(Arrangement.plain(sizes) for sizes in each))
        return copied

    # --- what rules ask for ---------------------------------------------------------------

    def sizes(self, node: fx.Node) -> list[Size]:
        """The shape of a node of the old graph."""
        return _paired([run[node] for run in self.runs])

    def value(self, node: object) -> Value | None:
        """What stands for a node of the old graph, None when it is no tensor."""
        found = self.found.get(node) if isinstance(node, fx.Node) else None
        return found if isinstance(found, Value) else None

    def plain(self, node: fx.Node) -> fx.Node | int:
        """The node of the new graph that holds a value as it is in the old one."""
        found = self.found[node]
        if isinstance(found, Value):
            return self.arranged(found, found.held.axes)
        return found.node if isinstance(found, Parts) else found

    def arranged(self, value: Value, target: Axes) -> fx.Node:
        """The node that holds a value in these axes (its own atoms), moving it if need be."""
        node, stored = value.node, value.held.stored
        if stored == target[len(target) - len(stored) :] and not any(
            target[: len(target) - len(stored)]
        ):
            return node  # broadcasting puts axes of size 1 in front by itself
        if node.target is FAKE_QUANTIZE and is_constant(node):
            axis = node.args[5] if len(node.args) > 5 else None
            if axis is None or stored[axis] in target:
                return self._arranged_grid(value, target)
        for kind, to in steps(stored, target):
            if kind == "permute":
                key = (aten.permute.default, node, tuple(to))
                self.work += 0 if is_constant(node) or key in self._made else elements(value.held)
                node = self._move(aten.permute.default, node, list(to))
            else:
                node = self._move(aten.reshape.default, node, self.shape(to))
        return node

    def _arranged_grid(self, value: Value, target: Axes) -> fx.Node:
        """A quantized constant: the constant itself is moved, its channel axis follows."""
        source, *grid = value.node.args
        if len(grid) > 4 and grid[4] is not None:
            grid[4] = target.index(value.held.stored[grid[4]])
        moved = self.arranged(Value(source, value.held), target)
        key = ("grid", moved, *grid)
        return self.once(key, lambda: self.new.call_function(FAKE_QUANTIZE, (moved, *grid)))

    def shape(self, axes: Axes) -> list[int | fx.Node]:
        """Arguments for a reshape to these axes."""
        sizes = [size_of(axis) for axis in axes]
        moving = [k for k, (two, three) in enumerate(sizes) if two != three]
        return [
            two if two == three else -1 if len(moving) == 1 else self.batches(two // 2)
            for two, three in sizes
        ]

    def batches(self, factor: int) -> fx.Node:
        """The batch size times a factor, as a node."""
        size = self.once(
            ("batch",), lambda: self.new.call_function(aten.sym_size.int, (self._batch, 0))
        )
        if factor == 1:
            return size
        key = ("batches", factor)
        return self.once(key, lambda: self.new.call_function(operator.mul, (size, factor)))

    def _move(self, target: object, node: fx.Node, how: list) -> fx.Node:
        return self.once(
            (target, node, tuple(how)), lambda: self.new.call_function(target, (node, how))
        )

    def once(self, key: tuple, make) -> fx.Node:
        """The node made before under this key, else a new one."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def copy(self, node: fx.Node, /, **changes: object) -> fx.Node:
        """The operator of the old graph with these arguments changed (already of the new one)."""
        schema = node.target._schema.arguments
        values = arguments(node)
        given = {
            name: changes[name] if name in changes else fx.map_arg(value, self.plain)
            for name, value in values.items()
        }
        by_place = [i for i, a in enumerate(schema) if a.name in changes and not a.kwarg_only]
        count = max([len(node.args), *(i + 1 for i in by_place)])
        args = tuple(given[a.name] for a in schema[:count])
        kwargs = {
            a.name: given[a.name] for a in schema[count:] if a.name in {**node.kwargs, **changes}
        }
        return self.new.create_node("call_function", node.target, args, kwargs, node.name)


def arguments(node: fx.Node) -> dict[str, object]:
    """Every argument of an aten operator by name, defaults included."""
    schema = node.target._schema.arguments
    given = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
    return {a.name: given.get(a.name, a.default_value) for a in schema}


def is_pointwise(node: fx.Node) -> bool:
    """Whether an operator works on each element by itself."""
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def is_constant(node: fx.Node) -> bool:
    """Whether a node of the new graph is a parameter, on a grid or moved or not."""
    while node.target is FAKE_QUANTIZE or node.target in MOVES:
        node = node.args[0]
    return node.op == "get_attr"


def elements(held: Arrangement) -> int:
    """How many numbers, at batch 2."""
    return product(map(size_of, held.axes))[0]


def _paired(values: Sequence[torch.Tensor]) -> list[Size]:
    return list(zip(*(map(int, value.shape) for value in values), strict=True))


Rule = Callable[[Rewriting, fx.Node], "Value | Parts | fx.Node | int | None"]

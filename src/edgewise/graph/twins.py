"""A quantized graph and the float graph inside it, run side by side.

A quantized Model is the float graph with fake-quantize nodes; leaving them out gives the float
values back. Both are run from one stop to the next over all samples, a few samples at a time, so
that at each stop the inputs of either graph and the float output are at hand, and a repair made to
a layer is seen by all layers behind it. What lies between is never in memory for all samples.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .canonical import FAKE_QUANTIZE
from .shelf import Shelf

__all__ = ["Pair", "walk"]

Batch = tuple[Tensor, ...]
Values = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """What one operator takes and gives for a few samples.

    Attributes:
        node: of the quantized graph.
        rounded: its arguments in the quantized graph, as in `node.args`.
        want: its output in the float graph.
    """

    node: fx.Node
    rounded: tuple[Any, ...]
    want: Tensor


def walk(
    module: fx.GraphModule,
    batches: Iterable[Batch],
    stops: Collection[fx.Node],
    look: Callable[[Pair], None],
    settle: Callable[[fx.Node], Callable[..., Tensor]],
) -> None:
    """Run both graphs up to each stop in turn, on all samples.

    Args:
        module: the quantized graph.
        batches: inputs of the graph; read once.
        stops: operators to stop at.
        look: called at each stop for each batch.
        settle: called at each stop after the last batch; gives what computes the operator's
            output in the quantized graph from then on, from its arguments there.
    """
    order = [n for n in module.graph.nodes if n.op != "output"]
    ends = [i for i, node in enumerate(order) if node in stops]
    twins = _Twins(module, order)
    shelf: Iterable[tuple[Values, Values]] = map(twins.begin, batches)
    start = 0
    with torch.no_grad():
        for end in ends:
            node = order[end]
            shelf = twins.advance(shelf, start, end, look)
            twins.settled[node] = settle(node)
            start = end


class _Twins:
    def __init__(self, module: fx.GraphModule, order: list[fx.Node]):
        self.module = module
        self.order = order
        self.inputs = [node.name for node in order if node.op == "placeholder"]
        place = {node: i for i, node in enumerate(order)}
        self.last = {n: max((place.get(u, -1) for u in n.users), default=-1) for n in order}
        self.settled: dict[fx.Node, Callable[..., Tensor]] = {}
        fixed: set[fx.Node] = set()  # the same for all samples
        for node in order:
            sources = node.all_input_nodes
            if node.op == "get_attr" or (sources and fixed.issuperset(sources)):
                fixed.add(node)
        self.fixed = fixed

    def begin(self, batch: Batch) -> tuple[Values, Values]:
        values = dict(zip(self.inputs, batch, strict=True))
        return values, dict(values)

    def advance(
        self,
        shelf: Iterable[tuple[Values, Values]],
        start: int,
        end: int,
        look: Callable[[Pair], None],
    ) -> Iterator[tuple[Values, Values]]:
        """Compute every batch from `start` up to the stop at `end`, and show it there."""
        exact_fixed, rounded_fixed = self._constants(start, end)
        stop, following = self.order[end], Shelf()
        for exact, rounded in shelf:
            exact.update(exact_fixed)
            rounded.update(rounded_fixed)
            for i in range(start, end):
                node = self.order[i]
                if node.op == "call_function" and node not in self.fixed:
                    self._run(node, exact, rounded)
                for source in node.all_input_nodes:
                    if self.last[source] == i:
                        exact.pop(source.name, None)
                        rounded.pop(source.name, None)
            exact[stop.name] = _call(stop, exact)
            look(Pair(stop, _arguments(stop, rounded)[0], exact[stop.name]))
            following.put(self._kept(exact, end + 1, stop), self._kept(rounded, end, stop))
        return iter(following)

    def _constants(self, start: int, end: int) -> tuple[Values, Values]:
        """What the segment reads that is the same for all samples."""
        exact: Values = {}
        rounded: Values = {}

        def compute(node: fx.Node) -> None:
            if node.name in exact:
                return
            if node.op == "get_attr":
                exact[node.name] = rounded[node.name] = operator.attrgetter(node.target)(
                    self.module
                )
                return
            for source in node.all_input_nodes:
                compute(source)
            self._run(node, exact, rounded)

        for node in self.order[start : end + 1]:
            for source in node.all_input_nodes:
                if source in self.fixed and node not in self.fixed:
                    compute(source)
        return exact, rounded

    def _run(self, node: fx.Node, exact: Values, rounded: Values) -> None:
        if node in self.settled:  # its float output is known since the stop
            args, _ = _arguments(node, rounded)
            rounded[node.name] = self.settled[node](*args)
        elif node.target is FAKE_QUANTIZE:
            exact[node.name] = exact[node.args[0].name]
            rounded[node.name] = _call(node, rounded)
        else:
            exact[node.name] = rounded[node.name] = _call(node, exact)
            if any(exact[a.name] is not rounded[a.name] for a in node.all_input_nodes):
                rounded[node.name] = _call(node, rounded)

    def _kept(self, values: Values, since: int, stop: fx.Node) -> Values:
        """What is read from that place on."""
        return {
            node.name: values[node.name]
            for node in self.order
            if node.name in values
            and node not in self.fixed
            and (self.last[node] >= since or node is stop)
        }


def _arguments(node: fx.Node, values: Values) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return fx.node.map_arg((node.args, node.kwargs), lambda n: values[n.name])


def _call(node: fx.Node, values: Values) -> Any:
    args, kwargs = _arguments(node, values)
    return node.target(*args, **kwargs)

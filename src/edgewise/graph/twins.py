"""A quantized graph and the float graph inside it, run side by side.

A quantized Model is the float graph with fake-quantize nodes; leaving them out gives the float
values back. Both are computed in one walk, so that at each layer the inputs and outputs of either
are at hand together, and a repair made to a layer is seen by all layers behind it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .canonical import FAKE_QUANTIZE

__all__ = ["Pair", "walk"]


@dataclass(frozen=True)
class Pair:
    """What one operator computes in both graphs.

    Attributes:
        node: of the quantized graph.
        exact: its arguments in the float graph, as in `node.args`.
        rounded: its arguments in the quantized graph.
        want: its output in the float graph.
        have: its output in the quantized graph.
    """

    node: fx.Node
    exact: tuple[Any, ...]
    rounded: tuple[Any, ...]
    want: Tensor
    have: Tensor


def walk(
    module: fx.GraphModule,
    inputs: Sequence[Tensor],
    visit: Callable[[Pair], Tensor | None],
    original: fx.GraphModule | None = None,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run both graphs on one batch, keeping no value longer than it is read.

    Args:
        module: the quantized graph.
        visit: called for each operator that gives a tensor, fake-quantize aside; what it returns
            takes the place of the output in the quantized graph (None: leave it).
        original: where the float graph takes its weights from, under the same names (default:
            `module`, as it was when they are read).

    Returns:
        The outputs of the float and of the quantized graph.
    """
    waiting = list(inputs)
    exact: dict[fx.Node, Any] = {}
    rounded: dict[fx.Node, Any] = {}
    last_reader = {source: node for node in module.graph.nodes for source in node.all_input_nodes}
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "placeholder":
                exact[node] = rounded[node] = waiting.pop(0)
                continue
            if node.op == "get_attr":
                rounded[node] = exact[node] = operator.attrgetter(node.target)(module)
                if original is not None and _has(original, node.target):
                    exact[node] = operator.attrgetter(node.target)(original)
                continue
            want_args, want_kwargs = fx.node.map_arg((node.args, node.kwargs), exact.__getitem__)
            have_args, have_kwargs = fx.node.map_arg((node.args, node.kwargs), rounded.__getitem__)
            if node.op == "output":
                return tuple(want_args[0]), tuple(have_args[0])
            if node.target is FAKE_QUANTIZE:
                exact[node], rounded[node] = want_args[0], node.target(*have_args)
            else:
                want = have = node.target(*want_args, **want_kwargs)
                if any(exact[a] is not rounded[a] for a in node.all_input_nodes):
                    have = node.target(*have_args, **have_kwargs)
                if isinstance(want, Tensor):
                    changed = visit(Pair(node, want_args, have_args, want, have))
                    have = have if changed is None else changed
                exact[node], rounded[node] = want, have
            for source in node.all_input_nodes:
                if last_reader[source] is node:
                    del exact[source], rounded[source]
    raise AssertionError("a graph ends in its output")


def _has(module: fx.GraphModule, name: str) -> bool:
    try:
        operator.attrgetter(name)(module)
    except AttributeError:
        return False
    return True

"""Residual blocks: branches whose result is added to what they read, and can be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from ..record import Signature
from .canonical import layer, recorded_shapes, sweep

__all__ = ["Block", "blocks", "without"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Block:
    """A branch beside its shortcut.

    Attributes:
        name: the last layer with weights in the branch.
        total: the name of the node that adds both.
        shortcut: which of its two arguments is left when the branch goes.
    """

    name: str
    total: str
    shortcut: int


def blocks(module: fx.GraphModule, signature: Signature) -> tuple[Block, ...]:
    """Every sum of a value and of what layers computed from it, in the order of the graph."""
    known = recorded_shapes(module, signature)
    found = []
    for node in module.graph.nodes:
        if node.target is not aten.add.Tensor or len(node.args) != 2 or node.kwargs:
            continue
        for at in range(2):
            shortcut, branch = node.args[at], node.args[1 - at]
            if not all(isinstance(a, fx.Node) for a in node.args):
                continue
            name = _last_layer(branch, shortcut)
            if name is not None and known[shortcut] == known[node]:
                found.append(Block(name, node.name, at))
    return tuple(found)


def without(module: fx.GraphModule, gone: Sequence[Block]) -> fx.GraphModule:
    """Leave blocks out: the shortcut takes the sum's place. Changes `module` and returns it."""
    nodes = {node.name: node for node in module.graph.nodes}
    for block in gone:
        total = nodes[block.total]
        total.replace_all_uses_with(total.args[block.shortcut])
        module.graph.erase_node(total)
    sweep(module)
    return module


def _last_layer(branch: fx.Node, shortcut: fx.Node) -> str | None:
    """The layer nearest to the end of what `branch` computes from `shortcut`, None if nothing."""
    waiting, seen = [branch], {branch}
    name, reads = None, False
    for node in waiting:  # grows: the nearest first
        if node is shortcut:
            reads = True
            continue
        weights = [a for a in node.all_input_nodes[1:] if a.op == "get_attr"]
        if name is None and weights and node.target is not aten.batch_norm.default:
            name = layer(node)
        more = [a for a in node.all_input_nodes if a not in seen]
        seen.update(more)
        waiting += more
    return name if reads else None

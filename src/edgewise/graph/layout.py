"""Layout: the permutes of channels-last frameworks pushed together until they cancel.

A model that was made channels-last (TensorFlow, Keras) has permutes around every convolution and
pooling, and channels-last axis numbers everywhere else. `channels_first` takes every permute and
reshape out of the graph and remembers, value by value, how its axes lie in the tensor that holds
it (`edgewise.graph.arrangement`). An operator that can work on any order of axes does so, with
its axis numbers and constants rewritten; a linear after a flatten gets its weight's columns in
another order; one that needs a certain order gets it by a permute there. Between the layers of
usual networks nothing is left to permute.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from ..record import Signature, TensorSpec
from .canonical import shapes, sweep
from .layout_rules import PERMUTES, RULES, permute_order, pointwise
from .rewriting import MOVES, Rewriting, is_pointwise

__all__ = ["channels_first"]


def channels_first(module: fx.GraphModule, inputs: tuple[TensorSpec, ...]) -> None:
    """Take out every permute that the layers can do without, in place.

    The outputs stay the same, in the same order of axes. Permuted parameters are stored permuted.
    A graph without a permute is left as it is.

    Args:
        module: canonical (`edgewise.graph.canonical`).
        inputs: of its signature.

    Raises:
        ModelError: the graph does not run.
    """
    if not any(node.target in PERMUTES for node in module.graph.nodes):
        return
    runs = tuple(shapes(module, Signature(inputs, ()), batch) for batch in (2, 3))
    # Permuting an input at once keeps what is padded next to what reads it. It is worse only
    # where the permute would have met its inverse.
    ways = ({}, _entrances(module, runs[0]))
    late, early = (Rewriting(module, runs).run(RULES, pointwise, way) for way in ways)
    module.graph = min(early, late, key=lambda way: way.work).new
    module.graph.eliminate_dead_code()
    _fold_moves(module)
    sweep(module)


def _entrances(module: fx.GraphModule, values: dict[fx.Node, object]) -> dict[fx.Node, list[int]]:
    """The inputs that are permuted, sooner or later, with the order."""
    found = {}
    for source in module.graph.nodes:
        if source.op != "placeholder":
            continue
        rank, reached, queue = values[source].ndim, {source}, [source]
        for node in queue:
            for user in node.users:
                if user.target in PERMUTES:
                    found.setdefault(source, permute_order(user, rank))
                elif user not in reached and _keeps_axes(user, values, rank):
                    reached.add(user)
                    queue.append(user)
    return found


def _keeps_axes(node: fx.Node, values: dict[fx.Node, object], rank: int) -> bool:
    known = node.target in RULES or is_pointwise(node)
    value = values[node]
    return known and isinstance(value, torch.Tensor) and value.ndim == rank


def _fold_moves(module: fx.GraphModule) -> None:
    """Store a parameter as it is read, where all its readers move it alike."""
    for node in list(module.graph.nodes):
        while node.op == "get_attr" and len(node.users) == 1:
            (user,) = node.users
            if user.target not in MOVES:
                break
            owner, _, leaf = node.target.rpartition(".")
            owner = module.get_submodule(owner)
            value = getattr(owner, leaf)
            moved = user.target(value.detach(), user.args[1]).contiguous()
            setattr(
                owner,
                leaf,
                nn.Parameter(moved, value.requires_grad)
                if isinstance(value, nn.Parameter)
                else moved,
            )
            user.replace_all_uses_with(node)
            module.graph.erase_node(user)

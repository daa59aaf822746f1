"""Clustered weights in a graph: ``lookup`` of a codebook in the place of a parameter."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx, nn

from ..math.codebook import lookup
from .canonical import LOOKUP

__all__ = ["expand", "share_values"]


def share_values(
    module: fx.GraphModule,
    node: fx.Node,
    codebook: Tensor,
    indices: Tensor,
    scale: Tensor | None = None,
) -> None:
    """Put ``lookup(codebook, indices, scale)`` in the place of a weight, in place.

    The parameter ``conv.weight`` becomes the parameter ``conv.weight.codebook``, the buffer
    ``conv.weight.indices`` (uint8), and where there are scales the parameter
    ``conv.weight.scale``.

    Args:
        node: the ``get_attr`` of the weight.
    """
    owner, _, leaf = node.target.rpartition(".")
    held = module.get_submodule(owner)
    delattr(held, leaf)
    values = nn.Module()
    values.codebook = nn.Parameter(codebook.detach().clone())
    values.register_buffer("indices", indices.to(torch.uint8))
    names = ["codebook", "indices"]
    if scale is not None:
        values.scale = nn.Parameter(scale.detach().clone())
        names.append("scale")
    held.add_module(leaf, values)
    with module.graph.inserting_before(node):
        parts = [module.graph.get_attr(f"{node.target}.{name}") for name in names]
        weight = module.graph.call_function(LOOKUP, tuple(parts), name=f"{node.name}_lookup")
    node.replace_all_uses_with(weight)
    module.graph.erase_node(node)


def expand(module: fx.GraphModule) -> None:
    """Write every clustered weight as the parameter that it was, in place."""
    for node in list(module.graph.nodes):
        if node.target is not LOOKUP:
            continue
        name = node.args[0].target.removesuffix(".codebook")
        with torch.no_grad():
            weight = lookup(*(operator.attrgetter(part.target)(module) for part in node.args))
        owner, _, leaf = name.rpartition(".")
        held = module.get_submodule(owner)
        delattr(held, leaf)
        setattr(held, leaf, nn.Parameter(weight))
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        node.replace_all_uses_with(constant)
        for done in (node, *node.args):
            module.graph.erase_node(done)
    module.recompile()

"""What a graph costs: multiply-accumulates, counted from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import fx

from ..record import Signature
from .canonical import recorded_shapes
from .fold import CONVOLUTIONS

__all__ = ["macs", "total_macs"]

aten = torch.ops.aten
PRODUCTS = {aten.matmul.default, aten.bmm.default, aten.mm.default, aten.addmm.default}
RECURRENT = {aten.lstm.input, aten.gru.input}


def macs(node: fx.Node, shape: Callable[[fx.Node], tuple[int, ...]]) -> int | None:
    """Multiply-accumulates of one operator, None where it multiplies nothing by weights or sums.

    Args:
        shape: gives the shape of every tensor that the operator reads, and of its result.
    """
    if node.target in CONVOLUTIONS:
        # Each output element (each input element when transposed) meets one row of the weight.
        transposed = CONVOLUTIONS[node.target] == 1
        many = shape(node.args[0]) if transposed else shape(node)
        return math.prod(many) * math.prod(shape(node.args[1])[1:])
    if node.target in PRODUCTS:
        left = node.args[1] if node.target is aten.addmm.default else node.args[0]
        return math.prod(shape(node)) * shape(left)[-1]
    if node.target is aten.scaled_dot_product_attention.default:
        return 2 * math.prod(shape(node.args[0])) * shape(node.args[1])[-2]
    if node.target in RECURRENT:
        *many, _ = shape(node.args[0])
        weights = [s for s in map(shape, node.args[2]) if len(s) == 2]
        return math.prod(many) * sum(map(math.prod, weights))
    return None


def total_macs(module: fx.GraphModule, signature: Signature) -> int:
    """Multiply-accumulates of one sample through a Model's graph."""
    known = recorded_shapes(module, signature)
    return sum(macs(node, known.get) or 0 for node in known) // 3  # recorded at batch 3

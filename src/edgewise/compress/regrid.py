"""Grids that were learned, moved to where every runtime computes what the Model computes."""

from __future__ import annotations

import copy
from collections import defaultdict

import torch
from torch import fx

from ..graph.canonical import FAKE_QUANTIZE, sweep
from ..graph.fold import CONVOLUTIONS, constant, set_constant
from ..graph.placement import FIXED
from .grids import Range, fit_products, fit_sums, scales
from .layers import snap

__all__ = ["regrid"]


def regrid(module: fx.GraphModule) -> None:
    """Widen learned scales a little and round biases, in place.

    Training moves scales freely and biases off their grid. What `Quantize` saw to is seen to
    again: no sum or product falls on a tie (`edgewise.math.rounding`), and biases are whole steps
    of input scale * weight scale, as kernels hold them.
    """
    fakes = [n for n in module.graph.nodes if n.target is FAKE_QUANTIZE]
    if not any(n.args[0].op != "get_attr" for n in fakes):
        return  # weights alone are quantized
    bare, readers = _without_fakes(module)
    by_scale: dict[str, list[fx.Node]] = defaultdict(list)
    for node in fakes:
        if node.args[0].op != "get_attr":
            by_scale[node.args[1].target].append(node)
    ranges, settled = [], set()
    for i, nodes in enumerate(by_scale.values()):
        scale, zero_point = (constant(module, a) for a in nodes[0].args[1:3])
        low, high = (float(scale * (end - zero_point)) for end in nodes[0].args[3:5])
        names = tuple(node.args[0].name for node in nodes)
        ranges.append(Range(names, low, high, float(scale), int(zero_point)))
        if any(node.args[0].target in FIXED for node in nodes):
            settled.add(i)
    ranges = fit_sums(bare, ranges, settled)
    for name, row in zip(by_scale, ranges, strict=True):
        module.get_buffer(name).fill_(row.scale)
    scale_of = scales(ranges)
    for node in fakes:
        reader = readers.get(node)
        if reader is None or reader.args[0].name not in scale_of:
            continue
        scale = constant(module, node.args[1])
        fitted = torch.from_numpy(fit_products(reader, scale.reshape(-1), scale_of))
        scale.copy_(fitted.reshape(scale.shape))
        bias = constant(bare, reader.args[2]) if len(reader.args) > 2 else None
        if bias is not None:
            snapped = snap(bias, scale_of[reader.args[0].name], fitted)
            set_constant(module, reader.args[2].target, snapped)


def _without_fakes(module: fx.GraphModule) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
    """The float graph inside, and for each fake-quantize of a weight who reads it there."""
    bare = copy.deepcopy(module)
    originals = dict(zip(bare.graph.nodes, module.graph.nodes, strict=True))
    readers: dict[fx.Node, fx.Node] = {}
    for node in list(bare.graph.nodes):
        if node.target is not FAKE_QUANTIZE:
            continue
        reader = next(iter(node.users), None)
        of_weight = node.args[0].op == "get_attr" and reader is not None
        if of_weight and reader.target in CONVOLUTIONS and reader.args[1] is node:
            readers[originals[node]] = reader
        node.replace_all_uses_with(node.args[0])
        bare.graph.erase_node(node)
    sweep(bare)
    return bare, readers

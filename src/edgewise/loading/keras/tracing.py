"""From modules to a canonical graph: each layer is run once on tensors without data.

`torch.export` would give the same graph in five times the time, most of it for a symbolic batch
size that these layers never ask for: they leave the batch to torch (``-1``) everywhere, and the
graph is checked at two batch sizes afterwards.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import chain

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta

from ...graph.canonical import canonical
from ...pt2.bounds import quiet
from ...record import TensorSpec
from .layer import Layer

__all__ = ["traced"]

BATCH = 2


def traced(net: nn.Module, inputs: Sequence[TensorSpec]) -> fx.GraphModule:
    """The canonical graph of a module, under its own names of parameters and layers.

    Raises:
        ModelError: it does not run; names the layer.
    """
    net.eval()
    for path, module in net.named_modules():
        if isinstance(module, Layer):
            module.path = path
    examples = [
        torch.zeros(BATCH, *spec.shape[1:], dtype=getattr(torch, spec.dtype)) for spec in inputs
    ]
    trace = make_fx(net, tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True)
    with torch.no_grad(), preserve_node_meta(), quiet():
        found = trace(*examples)
    return canonical(_renamed(found, net, inputs))


def _renamed(found: fx.GraphModule, net: nn.Module, inputs: Sequence[TensorSpec]) -> fx.GraphModule:
    """The traced graph, its constants and inputs under the names of the module's."""
    names = {id(t): name for name, t in chain(net.named_parameters(), net.named_buffers())}
    specs = iter(inputs)
    for node in found.graph.nodes:
        if node.op == "placeholder":
            node.target = next(specs).name
            node._rename(node.target)
        elif node.op == "get_attr":
            value = operator.attrgetter(node.target)(found)
            if id(value) not in names:  # a number that a layer made a tensor of
                names[id(value)] = f"constant{len(names)}"
                net.register_buffer(names[id(value)], value)
            node.target = names[id(value)]
            node._rename(node.target.replace(".", "_"))
        elif layer := node.meta.get("custom", {}).get("layer"):
            node.meta["nn_module_stack"] = {"": (layer, Layer)}  # `canonical` names nodes by it
    return fx.GraphModule(net, found.graph)

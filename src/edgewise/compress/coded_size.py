"""The bytes of a Model's weights once they are entropy-coded, by the codec that bundles use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, fx

from ..edge.codec import size_of
from ..graph.canonical import FAKE_QUANTIZE
from ..graph.fold import constant
from ..math.affine import quantize
from ..model import Model

__all__ = ["coded_size"]


def coded_size(model: Model) -> int:
    """Bytes that its parameters and constants take in a bundle; the graph itself is not counted.

    What is quantized is coded as integers, a clustered weight as its indices, a float weight with
    few values as these and which is where. It is what the codec writes and no estimate of it.
    """
    return size_of([array for array in _stored(model.graph) if array.size])


def _stored(module: fx.GraphModule) -> Iterator[np.ndarray]:
    """Each constant once, as a file holds it."""
    done = set()
    for node in module.graph.nodes:
        if node.op != "get_attr" or node.target in done:
            continue
        done.add(node.target)
        value = constant(module, node).detach()
        fakes = [user for user in node.users if user.target is FAKE_QUANTIZE]
        if fakes and fakes[0].args[0] is node:
            value = _integers(module, fakes[0], value)
        if value.dtype is torch.bfloat16:  # numpy has none: its bits
            value = value.view(torch.int16)
        yield value.contiguous().numpy()


def _integers(module: fx.GraphModule, fake: fx.Node, value: Tensor) -> Tensor:
    scale, zero_point = (constant(module, a).detach() for a in fake.args[1:3])
    return quantize(value, scale, zero_point, *fake.args[3:]).to(torch.int8)

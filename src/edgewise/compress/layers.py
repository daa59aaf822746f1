"""The weighted layers of a quantized graph: their grids and their biases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..graph.canonical import FAKE_QUANTIZE, layer
from ..graph.fold import CONVOLUTIONS, constant, set_constant
from ..math.affine import dequantize

__all__ = ["Layer", "bias_of", "layer_of", "set_bias", "snap"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """A convolution or linear whose weight is quantized on a constant grid.

    Attributes:
        name: the user's.
        node: the operator.
        weight: the ``get_attr`` node of the weight, before its fake-quantize.
        scale: float32, of each number of the weight.
        low, high: the least and largest number of steps from zero, shaped like `scale`.
        axis: of the weight that numbers the output channels.
    """

    name: str
    node: fx.Node
    weight: fx.Node
    scale: Tensor
    low: Tensor
    high: Tensor
    axis: int

    @property
    def transposed(self) -> bool:
        return self.axis == 1


def layer_of(module: fx.GraphModule, node: fx.Node) -> Layer | None:
    """The layer of this operator; None for any other, and for weights on no constant grid."""
    if node.target not in CONVOLUTIONS:
        return None
    fake = node.args[1]
    if fake.target is not FAKE_QUANTIZE or fake.args[0].op != "get_attr":
        return None
    scale, zero_point = (constant(module, a) for a in fake.args[1:3])
    whole = torch.ones_like(constant(module, fake.args[0])).detach()
    ones = torch.ones_like(scale).detach()
    none, axis = torch.zeros_like(zero_point), fake.args[5]
    scale = dequantize(whole, scale.detach(), none, axis)
    low, high = (dequantize(end * whole, ones, zero_point, axis) for end in fake.args[3:5])
    return Layer(layer(node), node, fake.args[0], scale, low, high, CONVOLUTIONS[node.target])


def bias_of(module: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """The bias of a convolution or linear; None when it has none, or a computed one."""
    return constant(module, node.args[2]) if len(node.args) > 2 else None


def set_bias(module: fx.GraphModule, found: Layer, bias: Tensor) -> None:
    """Give the layer this bias; on the grid of int32, where the layer will run on integers.

    Args:
        bias: one number an output channel.
    """
    node = found.node
    name = f"{found.weight.target.rpartition('.')[0]}.bias".lstrip(".")
    if len(node.args) > 2 and node.args[2] is not None:
        name = node.args[2].target
    if node.args[0].target is FAKE_QUANTIZE:
        of_channels = found.scale.movedim(found.axis, 0).flatten(1)[:, 0]
        bias = snap(bias, float(constant(module, node.args[0].args[1])), of_channels)
    set_constant(module, name, bias.float())
    if len(node.args) < 3 or node.args[2] is None:
        with module.graph.inserting_before(node):
            node.args = (*node.args[:2], module.graph.get_attr(name), *node.args[3:])


def snap(bias: Tensor, input_scale: float, weight_scale: Tensor) -> Tensor:
    """The bias (float32) in whole steps of input scale * weight scale."""
    step = input_scale * weight_scale.double()
    return (torch.round(bias.detach().double() / step) * step).float()

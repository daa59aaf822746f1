"""The weighted layers of a quantized graph: their grids, their biases, their inputs as a matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ..graph.canonical import FAKE_QUANTIZE, layer
from ..graph.fold import CONVOLUTIONS, constant, set_constant
from ..math.affine import dequantize

__all__ = ["Layer", "bias_of", "channels_first", "layer_of", "patches", "set_bias", "snap"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """A convolution or linear whose weight is quantized on a constant grid.

    Attributes:
        name: the user's.
        node: the operator.
        weight: the ``get_attr`` node of the weight, before its fake-quantize.
        scale: float32, of each number of the weight.
        quant_min, quant_max: of the weight's integers.
        axis: of the weight that numbers the output channels.
    """

    name: str
    node: fx.Node
    weight: fx.Node
    scale: Tensor
    quant_min: int
    quant_max: int
    axis: int

    @property
    def transposed(self) -> bool:
        return self.axis == 1

    @property
    def groups(self) -> int:
        at = 7 if self.transposed else 6
        linear = self.node.target is aten.linear.default
        return 1 if linear or len(self.node.args) <= at else self.node.args[at]


def layer_of(module: fx.GraphModule, node: fx.Node) -> Layer | None:
    """The layer of this operator; None for any other, and for weights on no symmetric grid."""
    if node.target not in CONVOLUTIONS:
        return None
    fake = node.args[1]
    if fake.target is not FAKE_QUANTIZE or fake.args[0].op != "get_attr":
        return None
    scale, zero_point = (constant(module, a) for a in fake.args[1:3])
    if zero_point.any():
        return None
    ones = torch.ones_like(constant(module, fake.args[0])).detach()
    scale = dequantize(ones, scale.detach(), zero_point, fake.args[5])
    at = CONVOLUTIONS[node.target]
    return Layer(layer(node), node, fake.args[0], scale, fake.args[3], fake.args[4], at)


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


def channels_first(found: Layer, y: Tensor) -> Tensor:
    """The layer's output with its channels in rows: (channels, n)."""
    at = -1 if found.node.target is aten.linear.default else 1
    return y.movedim(at, 0).flatten(1)


def patches(found: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The layer's inputs so that its output is `weight` as a matrix times these.

    Args:
        x: the layer's input: (N, C, *spatial), or (..., C) of a linear.
        weight: its weight, for the kernel's size.

    Returns:
        float32 (groups, columns, n), with columns = C / groups * kernel size.
    """
    if found.node.target is aten.linear.default:
        return x.reshape(-1, x.shape[-1]).T[None]
    axes = weight.ndim - 2
    stride, padding, dilation = (
        _argument(found.node, at, default, axes) for at, default in ((3, 1), (4, 0), (5, 1))
    )
    if axes == 1:  # the same as two spatial axes, of which one has size 1
        x, weight = x.unsqueeze(2), weight.unsqueeze(2)
        stride, dilation = (1, *stride), (1, *dilation)
        padding = padding if isinstance(padding, str) else (0, *padding)
    if isinstance(padding, str):
        kernel = weight.shape[2:]
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if padding == "same":
            x = F.pad(x, [n for t in reversed(total) for n in (t // 2, t - t // 2)])
        padding = (0, 0)
    columns = F.unfold(x, weight.shape[2:], dilation, padding, stride)  # (N, C * kernel, n)
    return columns.transpose(0, 1).reshape(found.groups, columns.shape[1] // found.groups, -1)


def _argument(node: fx.Node, at: int, default: int, axes: int) -> tuple[int, ...] | str:
    value = node.args[at] if len(node.args) > at else default
    if isinstance(value, str):
        return value
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values

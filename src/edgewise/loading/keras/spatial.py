"""Layers that look around: convolutions and poolings, channels last as the framework has it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activation
from .layer import Config, Layer, channels_first, channels_last, row
from .weights import Weights

__all__: list[str] = []

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d}
AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d}


def _axes(c: Config) -> int:
    """1 or 2, from the class name."""
    return 1 if "1D" in c.class_name else 2


def _same(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Padding (before, after) so that the output has ceil(size / stride): TensorFlow's SAME."""
    reach = (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1
    total = max(reach - size, 0)
    return total // 2, total - total // 2


def _around(c: Config, compute: Callable[[nn.Module, Tensor], Tensor]) -> Callable:
    """A function on channels-first tensors for a layer whose tensors are as `c` says."""
    if not c.last:
        return compute
    return lambda p, x: channels_last(compute(p, channels_first(x)))


def _convolved(c: Config, stride, dilation) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """A convolution with the layer's padding; the groups follow from the shapes."""
    padding = c.get("padding", "valid")
    if padding not in ("valid", "same", "causal"):
        raise c.fail(f"padding={padding!r} is not supported")

    def compute(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        axes = x.ndim - 2
        kernel, spatial = weight.shape[2:], x.shape[2:]
        pads = [(0, 0)] * axes
        if padding == "same":
            pads = [_same(*each) for each in zip(spatial, kernel, stride, dilation, strict=True)]
        elif padding == "causal":
            pads = [(d * (k - 1), 0) for k, d in zip(kernel, dilation, strict=True)]
        if any(before != after for before, after in pads):
            x = F.pad(x, [side for pair in reversed(pads) for side in pair])
            pads = [(0, 0)] * axes
        even = tuple(before for before, _ in pads)
        groups = x.shape[1] // weight.shape[1]
        return CONVOLUTIONS[axes](x, weight, bias, stride, even, dilation, groups)

    return compute


def _bias(c: Config, w: Weights, *names: str) -> list[np.ndarray | None]:
    """The named weights and the bias; None in its place when the layer has none."""
    if c.get("use_bias", True):
        return w.read(*names, "bias")
    return [*w.read(*names), None]


def _turned(kernel: np.ndarray) -> np.ndarray:
    """(*kernel, in, out) -> (out, in, *kernel)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _depthwise(kernel: np.ndarray) -> np.ndarray:
    """(*kernel, in, multiplier) -> (in * multiplier, 1, *kernel)."""
    turned = np.moveaxis(kernel, (-2, -1), (0, 1))
    return turned.reshape(-1, 1, *turned.shape[2:])


@row("Conv1D", "Conv2D", "Convolution1D", "Convolution2D")
def convolution(c: Config, w: Weights) -> nn.Module:
    n = _axes(c)
    kernel, bias = _bias(c, w, "kernel")
    act = activation(c)
    conv = _convolved(c, c.sizes("strides", n), c.sizes("dilation_rate", n))
    return Layer(
        _around(c, lambda p, x: act_last(c, act, conv(x, p.weight, p.bias))),
        weight=_turned(kernel), bias=bias,
    )  # fmt: skip


@row("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(c: Config, w: Weights) -> nn.Module:
    n = _axes(c)
    name = "depthwise_kernel" if c.generation == 2 else "kernel"
    kernel, bias = _bias(c, w, name)
    act = activation(c)
    conv = _convolved(c, c.sizes("strides", n), c.sizes("dilation_rate", n))
    return Layer(
        _around(c, lambda p, x: act_last(c, act, conv(x, p.weight, p.bias))),
        weight=_depthwise(kernel), bias=bias,
    )  # fmt: skip


@row("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def separable(c: Config, w: Weights) -> nn.Module:
    n = _axes(c)
    first, second, bias = _bias(c, w, "depthwise_kernel", "pointwise_kernel")
    act = activation(c)
    conv = _convolved(c, c.sizes("strides", n), c.sizes("dilation_rate", n))

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        x = conv(x, p.depthwise.weight, None)
        return act_last(c, act, CONVOLUTIONS[n](x, p.pointwise.weight, p.pointwise.bias))

    return Layer(
        _around(c, compute),
        depthwise=Layer(None, weight=_depthwise(first)),
        pointwise=Layer(None, weight=_turned(second), bias=bias),
    )


@row("Conv1DTranspose", "Conv2DTranspose", "Convolution2DTranspose")
def transposed(c: Config, w: Weights) -> nn.Module:
    """The gradient of the convolution that would give this layer's input (TensorFlow's padding)."""
    n = _axes(c)
    kernel, bias = _bias(c, w, "kernel")
    act = activation(c)
    stride = c.sizes("strides", n)
    c.only("padding", "valid", "same")
    c.only("output_padding", None)
    if c.sizes("dilation_rate", n) != (1,) * n:
        raise c.fail("a dilated transposed convolution is not supported")
    sizes = kernel.shape[:n]
    more = tuple(max(s - k, 0) for s, k in zip(stride, sizes, strict=True))
    cut = (0,) * n
    if c.get("padding") == "same":
        cut = tuple(max(k - s, 0) for k, s in zip(sizes, stride, strict=True))
    before = tuple(total // 2 for total in cut)

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        x = TRANSPOSED[n](x, p.weight, p.bias, stride, before, more)
        for axis, total in enumerate(cut, 2):
            if total % 2:  # one more goes at the end than at the beginning
                x = x.narrow(axis, 0, x.shape[axis] - 1)
        return act_last(c, act, x)

    return Layer(_around(c, compute), weight=_turned(kernel), bias=bias)


def act_last(c: Config, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An activation sees the layer's own axes: a softmax goes over the last of them."""
    if not c.last or c.get("activation") not in ("softmax", "log_softmax"):
        return act(x)
    return channels_first(act(channels_last(x)))


# --- pooling ------------------------------------------------------------------------------------


@row("MaxPooling1D", "MaxPooling2D", "MaxPool1D", "MaxPool2D")
def max_pooling(c: Config, w: Weights) -> nn.Module:
    return _pooling(c, MAX_POOLS[_axes(c)])


@row("AveragePooling1D", "AveragePooling2D", "AvgPool1D", "AvgPool2D")
def average_pooling(c: Config, w: Weights) -> nn.Module:
    def pool(x, kernel, stride, padding, ceil_mode):
        return AVERAGE_POOLS[_axes(c)](x, kernel, stride, padding, ceil_mode, False)

    return _pooling(c, pool)


def _pooling(c: Config, pool: Callable) -> nn.Module:
    """What lies outside the map counts for nothing."""
    n = _axes(c)
    kernel = c.sizes("pool_size", n, 2)
    stride = c.sizes("strides", n, kernel)
    c.only("padding", "valid", "same")

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        if c.get("padding") != "same":
            return pool(x, kernel, stride, (0,) * n, ceil_mode=False)
        pads = [_same(*each) for each in zip(x.shape[2:], kernel, stride, strict=True)]
        # Uneven padding has one more at the end. Rounding up looks beyond the end by itself; at
        # stride 1 there is nothing to round, so both sides get more and one result is left out.
        odd = [a < b for a, b in pads]
        one = [o and s == 1 for o, s in zip(odd, stride, strict=True)]
        padding = tuple(
            after if cut else before for (before, after), cut in zip(pads, one, strict=True)
        )
        x = pool(x, kernel, stride, padding, ceil_mode=any(odd))
        for axis, cut in enumerate(one, 2):
            if cut:
                x = x.narrow(axis, 1, x.shape[axis] - 1)
        return x

    return Layer(_around(c, compute))


@row("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAvgPool1D", "GlobalAvgPool2D")
def global_average(c: Config, w: Weights) -> nn.Module:
    axes, keep = _spatial(c), bool(c.get("keepdims", False))
    return Layer(lambda p, x: x.mean(axes, keepdim=keep))


@row("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPool1D", "GlobalMaxPool2D")
def global_max(c: Config, w: Weights) -> nn.Module:
    axes, keep = _spatial(c), bool(c.get("keepdims", False))
    return Layer(lambda p, x: torch.amax(x, axes, keepdim=keep))


def _spatial(c: Config) -> tuple[int, ...]:
    return tuple(range(1, _axes(c) + 1)) if c.last else tuple(range(2, _axes(c) + 2))

"""Convolutions, products, pooling and resizing: images go through aten channels-first.

Each is written between two permutes, N, H, W, C to N, C, H, W and back; `graph.layout` then takes
the pairs out that cancel, so that only the ends of the graph keep one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import ModelError
from .network import Network, Value
from .operators import activated, cut, moved, row
from .reader import Options

__all__: list[str] = []

aten = torch.ops.aten
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]

Pairs = list[tuple[int, int]]


def image_of(g: Network, x: Value) -> Value:
    if len(x.shape) != 4 or x.lifted:
        raise ModelError(f"it takes images with 4 axes, found {list(x.shape)}")
    return moved(x, g.call(aten.permute.default, x, FIRST))


def back(g: Network, x: Value) -> Value:
    """Channels last again; on its grid before, where runtimes look for it."""
    x = x if g.grid is None else g.quantized(x, g.grid)
    return moved(x, g.call(aten.permute.default, x, LAST))


def windows(o: Options, x: Value, kernel: tuple[int, int], dilation: tuple[int, int]) -> Pairs:
    """What TFLite pads: nothing (VALID), or until there are ceil(size / stride) windows (SAME),
    the odd one at the end."""
    strides = o["StrideH"], o["StrideW"]
    if min(*strides, *kernel, *dilation) < 1:
        raise ModelError(f"it has strides {strides}, windows {kernel}, dilation {dilation}")
    pairs = []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilation, strict=True):
        reach = d * (k - 1) + 1
        total = max(0, (math.ceil(size / s) - 1) * s + reach - size)
        total = total if o["Padding"] == "SAME" else 0
        pairs.append((total // 2, total - total // 2))
    return pairs


def padded(g: Network, x: Value, pairs: Pairs, number: float) -> Value:
    (top, bottom), (left, right) = pairs
    padding = [left, right, top, bottom]
    return moved(x, g.call(aten.constant_pad_nd.default, x, padding, number))


def bias_of(g: Network, x: Value, weight: Value, bias: Value | None) -> Value | None:
    """The bias; integers are sums of products, on the grid ``input scale * weight scale``."""
    if bias is None or bias.data is None or bias.meta.dtype.is_floating_point:
        return bias if bias is None or bias.data is None else g.weight(bias, [0], "bias")
    grids = x.grid, weight.grid
    if None in grids:
        raise ModelError("it has a bias of integers and floats beside it")
    scale = np.asarray(grids[0].scale * grids[1].scale, np.float32)
    # A double holds the product of an int32 and a float exactly; it is rounded once.
    with np.errstate(over="ignore"):  # infinity is refused with the name of the bias
        real = (bias.data.numpy().astype(np.float64) * scale).astype(np.float32)
    return g.weight(g.constant(torch.from_numpy(real)), [0], "bias")


def convolved(
    g: Network, o: Options, x: Value, weight: Value, bias: Value | None, groups: int
) -> Value:
    dilation = o["DilationHFactor"], o["DilationWFactor"]
    pairs = windows(o, x, weight.shape[2:], dilation)
    padding = [before for before, _ in pairs]
    if any(before != after for before, after in pairs):
        x, padding = padded(g, x, pairs, 0.0), [0, 0]
    stride = [o["StrideH"], o["StrideW"]]
    bias = bias_of(g, x, weight, bias)
    y = g.call(aten.conv2d.default, x, weight, bias, stride, padding, list(dilation), groups)
    return back(g, activated(g, o, y))


@row("CONV_2D")
def conv_2d(g: Network, o: Options, x: Value, weight: Value, bias: Value | None = None) -> Value:
    x, weight = image_of(g, x), g.weight(weight, FIRST)
    if not weight.shape[1] or x.shape[1] % weight.shape[1]:
        raise ModelError(f"its weight {list(weight.shape)} does not fit {x.shape[1]} channels")
    return convolved(g, o, x, weight, bias, x.shape[1] // weight.shape[1])


@row("DEPTHWISE_CONV_2D")
def depthwise(g: Network, o: Options, x: Value, weight: Value, bias: Value | None = None) -> Value:
    x = image_of(g, x)
    return convolved(g, o, x, g.weight(weight, [3, 0, 1, 2]), bias, x.shape[1])


@row("TRANSPOSE_CONV")
def transpose_conv(
    g: Network, o: Options, size: Value, weight: Value, x: Value, bias: Value | None = None
) -> Value:
    x, weight = image_of(g, x), g.weight(weight, [3, 0, 1, 2])
    wanted, stride = size.integers()[1:3], [o["StrideH"], o["StrideW"]]
    if min(stride) < 1 or min(wanted) < 1 or max(wanted) > 2**16:
        raise ModelError(f"it gives images of {wanted} by strides {stride}")
    padding, more = [], []
    for n, k, s, out in zip(x.shape[2:], weight.shape[2:], stride, wanted, strict=True):
        whole = (n - 1) * s + k
        before = max(0, whole - out) // 2 if o["Padding"] == "SAME" else 0
        padding.append(before)
        more.append(max(0, out - (whole - 2 * before)))
    bias = bias_of(g, x, weight, bias)
    y = g.call(aten.conv_transpose2d.input, x, weight, bias, stride, padding, more)
    for axis, out in zip((2, 3), wanted, strict=True):
        y = cut(g, y, axis, 0, out)
    return back(g, activated(g, o, y))


@row("FULLY_CONNECTED")
def fully_connected(
    g: Network, o: Options, x: Value, weight: Value, bias: Value | None = None
) -> Value:
    if o["WeightsFormat"]:
        raise ModelError("its weights are shuffled for one processor")
    if not o["KeepNumDims"] and len(x.shape) != 2:
        x = g.reshaped(x, [-1, weight.shape[1]])
    weight = g.weight(weight, [0, 1])
    y = g.call(aten.linear.default, x, weight, bias_of(g, x, weight, bias))
    return activated(g, o, y)


@row("BATCH_MATMUL")
def batch_matmul(g: Network, o: Options, a: Value, b: Value) -> Value:
    a, b = (
        moved(v, g.call(aten.transpose.int, v, -2, -1)) if turned else v
        for v, turned in zip(g.aligned([a, b]), (o["AdjX"], o["AdjY"]), strict=True)
    )
    return g.call(aten.matmul.default, a, b)


# --- pooling and resizing -----------------------------------------------------------------------


def pooled(fill: float, pool: Callable[..., Value], keeps: bool) -> Any:
    """Pooling; uneven padding is what rounding the number of windows up gives, or a pad."""

    def function(g: Network, o: Options, x: Value) -> Value:
        image = image_of(g, x)
        kernel, stride = (o["FilterHeight"], o["FilterWidth"]), [o["StrideH"], o["StrideW"]]
        pairs = windows(o, image, kernel, (1, 1))
        even = all(before == after for before, after in pairs)
        if even or all(before == 0 for before, _ in pairs):
            y = pool(g, image, kernel, stride, [before for before, _ in pairs], not even)
        else:
            y = pool(g, padded(g, image, pairs, fill), kernel, stride, [0, 0], False)
            if not math.isinf(fill):
                shares = _shares(image.shape[2:], kernel, stride, pairs)
                y = g.call(aten.mul.Tensor, y, g.constant(shares))
        y = replace(y, grid=x.grid if keeps else None)
        return back(g, activated(g, o, y))

    return function


def _max(g: Network, x: Value, kernel, stride, padding, ceil) -> Value:
    return g.call(aten.max_pool2d.default, x, list(kernel), stride, padding, [1, 1], ceil)


def _average(g: Network, x: Value, kernel, stride, padding, ceil) -> Value:
    """The mean of the numbers that lie in the image."""
    return g.call(aten.avg_pool2d.default, x, list(kernel), stride, padding, ceil, False)


def _shares(sizes, kernel, stride, pairs: Pairs) -> torch.Tensor:
    """Window size over the numbers of the image in the window, for each output position."""
    result = np.ones(())
    for size, k, s, (before, after) in zip(sizes, kernel, stride, pairs, strict=True):
        start = np.arange((size + before + after - k) // s + 1) * s - before
        inside = np.minimum(start + k, size) - np.maximum(start, 0)
        result = np.multiply.outer(result, k / inside)
    return torch.from_numpy(result.astype(np.float32)[None, None])


row("MAX_POOL_2D")(pooled(-math.inf, _max, keeps=True))
row("AVERAGE_POOL_2D")(pooled(0.0, _average, keeps=False))


def _size(size: Value) -> list[int]:
    wanted = size.integers()
    if len(wanted) != 2 or min(wanted) < 1 or max(wanted) > 2**16:
        raise ModelError(f"it resizes to {wanted}")
    return wanted


@row("RESIZE_BILINEAR")
def resize_bilinear(g: Network, o: Options, x: Value, size: Value) -> Value:
    image, wanted = image_of(g, x), _size(size)
    if not o["AlignCorners"] and not o["HalfPixelCenters"] and list(image.shape[2:]) != wanted:
        raise ModelError(
            "it resizes as TensorFlow 1 did, by corners that are not aligned: export the model "
            "with half_pixel_centers"
        )
    corners = bool(o["AlignCorners"])
    return back(g, g.call(aten.upsample_bilinear2d.vec, image, wanted, corners, None))


@row("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest(g: Network, o: Options, x: Value, size: Value) -> Value:
    image, wanted = image_of(g, x), _size(size)
    whole = all(w % n == 0 for w, n in zip(wanted, image.shape[2:], strict=True))
    if o["AlignCorners"] or (o["HalfPixelCenters"] and not whole):
        raise ModelError("it resizes to the nearest neighbour otherwise than by whole factors")
    return back(g, g.call(aten.upsample_nearest2d.vec, image, wanted, None))

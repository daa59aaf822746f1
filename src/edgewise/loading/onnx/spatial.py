"""Operators over windows of images and signals: convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .rows import Op, row
from .values import symbolic, typed

__all__ = ["Window"]

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
LARGEST = 2**14  # elements along one axis of a window or its padding
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Window:
    """Kernel, stride, dilation and padding of a node, ``auto_pad`` resolved; one entry an axis."""

    def __init__(self, op: Op, x: torch.Tensor, kernel: Sequence[int]):
        self.sizes = list(x.shape[2:])
        axes = len(self.sizes)
        self.kernel = list(kernel)
        self.stride = list(op.get("strides", [1] * axes))
        self.dilation = list(op.get("dilations", [1] * axes))
        pads = list(op.get("pads", [0] * (2 * axes)))
        if axes == 0 or not (
            len(self.kernel) == len(self.stride) == len(self.dilation) == axes
            and len(pads) == 2 * axes
        ):
            raise op.fail(f"its window does not fit an input with {axes} spatial axes")
        if any(map(symbolic, self.sizes)):
            raise op.fail("its windows run over the batch axis")
        if min(self.kernel + self.stride + self.dilation) < 1:
            raise op.fail("its kernel, strides and dilations must be at least 1")
        if max(self.kernel + self.stride + self.dilation + [abs(p) for p in pads]) > LARGEST:
            raise op.fail(f"its window reaches over more than {LARGEST} elements")
        self.before, self.after = pads[:axes], pads[axes:]
        auto = op.get("auto_pad", "NOTSET")
        if auto == "VALID":
            self.before, self.after = [0] * axes, [0] * axes
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            for i, size in enumerate(self.sizes):
                span = (self.kernel[i] - 1) * self.dilation[i] + 1
                need = (-(-size // self.stride[i]) - 1) * self.stride[i] + span - size
                less = max(need, 0) // 2
                more = max(need, 0) - less
                upper = auto == "SAME_UPPER"
                self.before[i], self.after[i] = (less, more) if upper else (more, less)
        if op.get("ceil_mode", 0):
            self._reach_the_end()
        else:
            self.extra = [0] * axes

    def _reach_the_end(self) -> None:
        """Room behind the padding for a last window that starts inside input or padding."""
        self.extra = []
        for i, size in enumerate(self.sizes):
            span = (self.kernel[i] - 1) * self.dilation[i] + 1
            room = self.before[i] + size + self.after[i] - span
            count = -(-room // self.stride[i]) + 1
            if (count - 1) * self.stride[i] >= size + self.before[i]:
                count -= 1
            self.extra.append(max((count - 1) * self.stride[i] - room, 0))

    @property
    def symmetric(self) -> bool:
        return self.before == self.after and not any(self.extra) and min(self.before) >= 0

    def padded(self, x: torch.Tensor, value: float) -> torch.Tensor:
        """The input with all padding around it."""
        flat: list[int] = []
        for before, after, extra in zip(self.before, self.after, self.extra, strict=True):
            flat = [before, after + extra, *flat]
        return F.pad(x, flat, value=value) if any(flat) else x


@row("Conv")
def conv(op, x, weight, bias=None):
    return convolve(op, x, weight, bias)


def convolve(op: Op, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None):
    """A convolution of one to three axes."""
    window = Window(op, x, op.get("kernel_shape", weight.shape[2:]))
    if len(window.kernel) not in CONV:
        raise op.fail(f"it convolves {len(window.kernel)} axes, 1 to 3 can be")
    function, groups = CONV[len(window.kernel)], op.get("group", 1)
    if window.symmetric:
        return function(x, weight, bias, window.stride, window.before, window.dilation, groups)
    x = window.padded(x, 0.0)
    return function(x, weight, bias, window.stride, 0, window.dilation, groups)


@row("ConvTranspose")
def conv_transpose(op, x, weight, bias=None):
    axes = x.ndim - 2
    if axes not in CONV_TRANSPOSE:
        raise op.fail(f"it convolves {axes} axes, 1 to 3 can be")
    stride = list(op.get("strides", [1] * axes))
    dilation = list(op.get("dilations", [1] * axes))
    more = list(op.get("output_padding", [0] * axes))
    kernel = list(weight.shape[2:])
    pads = list(op.get("pads", [0] * (2 * axes)))
    before, after = pads[:axes], pads[axes:]
    full = [
        (size - 1) * s + (k - 1) * d + 1
        for size, s, k, d in zip(x.shape[2:], stride, kernel, dilation, strict=True)
    ]
    auto, wanted = op.get("auto_pad", "NOTSET"), op.get("output_shape")
    if auto in ("SAME_UPPER", "SAME_LOWER") and wanted is None:
        wanted = [size * s for size, s in zip(x.shape[2:], stride, strict=True)]
    if wanted is not None:
        total = [f + m - w for f, m, w in zip(full, more, list(wanted)[-axes:], strict=True)]
        less = [t // 2 for t in total]
        rest = [t - half for t, half in zip(total, less, strict=True)]
        before, after = (less, rest) if auto == "SAME_UPPER" else (rest, less)
    function, groups = CONV_TRANSPOSE[axes], op.get("group", 1)
    fits = all(0 <= b == a for b, a in zip(before, after, strict=True))
    if fits and all(m < max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        return function(x, weight, bias, stride, before, more, groups, dilation)
    y = function(x, weight, bias, stride, 0, 0, groups, dilation)
    flat: list[int] = []
    for b, a, m in zip(before, after, more, strict=True):
        flat = [-b, m - a, *flat]
    if bias is not None and any(f > 0 for f in flat):
        raise op.fail("its output padding reaches behind the convolution")
    return F.pad(y, flat) if any(flat) else y


@row("MaxPool", moves=True)
def max_pool(op, x):
    window = Window(op, x, op["kernel_shape"])
    if op.wants(1):
        return _with_indices(op, x, window)
    kind = x.dtype
    if not kind.is_floating_point:
        x = x.to(torch.float32)
    halves = all(b <= k // 2 for b, k in zip(window.before, window.kernel, strict=True))
    if len(window.kernel) not in MAX_POOL:
        raise op.fail(f"it pools {len(window.kernel)} axes, 1 to 3 can be")
    function = MAX_POOL[len(window.kernel)]
    if window.symmetric and halves:
        y = function(x, window.kernel, window.stride, window.before, window.dilation)
    else:
        x = window.padded(x, -math.inf)
        y = function(x, window.kernel, window.stride, 0, window.dilation)
    return typed(y, kind)


def _with_indices(op: Op, x: torch.Tensor, window: Window):
    """Indices into the flat input, over batch and channels too."""
    if not window.symmetric or len(window.kernel) not in MAX_POOL:
        raise op.fail("it gives indices of windows with uneven padding")
    function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(window.kernel)]
    y, index = function(
        x, window.kernel, window.stride, window.before, window.dilation, return_indices=True
    )
    axes = len(window.kernel)
    if op.get("storage_order", 0):  # column major: the first spatial axis runs fastest
        places = torch.arange(math.prod(window.sizes)).reshape(window.sizes[::-1])
        places = places.permute(*range(axes - 1, -1, -1)).reshape(-1)
        index = places[index]
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * axes)
    return y, index + planes * math.prod(window.sizes)


@row("AveragePool")
def average_pool(op, x):
    window = Window(op, x, op["kernel_shape"])
    axes, outside = len(window.kernel), bool(op.get("count_include_pad", 0))
    if axes not in AVG_POOL:
        raise op.fail(f"it pools {axes} axes, 1 to 3 can be")
    plain = not any(d != 1 for d in window.dilation)
    halves = all(b <= k // 2 for b, k in zip(window.before, window.kernel, strict=True))
    if window.symmetric and plain and halves:
        padding = window.before
        outside = outside or not any(padding)
        return AVG_POOL[axes](x, window.kernel, window.stride, padding, False, outside)
    padded = window.padded(x, 0.0)
    if plain:
        sums = AVG_POOL[axes](padded, window.kernel, window.stride) * math.prod(window.kernel)
    else:
        ones = torch.ones(x.shape[1], 1, *window.kernel, dtype=x.dtype)
        sums = CONV[axes](padded, ones, None, window.stride, 0, window.dilation, x.shape[1])
    return sums / typed(_counts(window, outside), x.dtype)


def _counts(window: Window, outside: bool) -> torch.Tensor:
    """How many elements each window averages; beyond the padding is never counted."""
    counts = np.ones([1] * len(window.sizes))
    for i, size in enumerate(window.sizes):
        before, after, extra = window.before[i], window.after[i], window.extra[i]
        inside = np.pad(np.ones(size), (before, after), constant_values=float(outside))
        inside = np.pad(inside, (0, extra))
        starts = range(0, len(inside) - (window.kernel[i] - 1) * window.dilation[i],
                       window.stride[i])  # fmt: skip
        taps = np.arange(window.kernel[i]) * window.dilation[i]
        each = np.array([inside[s + taps].sum() for s in starts])
        counts = counts * each.reshape([-1 if j == i else 1 for j in range(len(window.sizes))])
    return torch.from_numpy(counts)


@row("LpPool")
def lp_pool(op, x):
    p = op.get("p", 2)
    window = Window(op, x, op["kernel_shape"])
    axes = len(window.kernel)
    ones = torch.ones(x.shape[1], 1, *window.kernel, dtype=x.dtype)
    padded = window.padded(x.abs().pow(p), 0.0)
    sums = CONV[axes](padded, ones, None, window.stride, 0, window.dilation, x.shape[1])
    return sums.pow(1 / p)


def _spatial(x: torch.Tensor) -> list[int]:
    return list(range(2, x.ndim))


@row("GlobalAveragePool")
def global_average_pool(op, x):
    return x.mean(_spatial(x), keepdim=True)


@row("GlobalMaxPool")
def global_max_pool(op, x):
    return x.amax(_spatial(x), keepdim=True)


@row("GlobalLpPool")
def global_lp_pool(op, x):
    p = op.get("p", 2)
    return x.abs().pow(p).sum(_spatial(x), keepdim=True).pow(1 / p)


@row("MaxUnpool", numbers=(2,))
def max_unpool(op, x, index, target=None):
    kernel = op["kernel_shape"]
    axes = len(kernel)
    stride, pads = op.get("strides", [1] * axes), op.get("pads", [0] * (2 * axes))
    sizes = [
        (s - 1) * stride[i] - pads[i] - pads[i + axes] + kernel[i]
        for i, s in enumerate(x.shape[2:])
    ]
    shape = [*x.shape[:2], *sizes]
    zeros = torch.zeros(math.prod(shape), dtype=x.dtype)
    result = zeros.scatter(0, index.reshape(-1), x.reshape(-1)).reshape(shape)
    if target is None:
        return result
    # Indices count in the smaller output, as in ONNX's own test.
    flat: list[int] = []
    for have, wanted in zip(sizes, target[2:], strict=True):
        flat = [0, int(wanted) - have, *flat]
    return F.pad(result, flat)


@row("Col2Im", numbers=(1, 2))
def col2im(op, x, image, block):
    axes = len(image)
    if axes != 2:
        return _fold(op, x, [int(i) for i in image], [int(b) for b in block])
    pads = op.get("pads", [0] * 4)
    if pads[:2] != pads[2:]:
        return _fold(op, x, [int(i) for i in image], [int(b) for b in block])
    return F.fold(
        x, [int(i) for i in image], [int(b) for b in block],
        list(op.get("dilations", [1, 1])), list(pads[:2]), list(op.get("strides", [1, 1])),
    )  # fmt: skip


def _fold(op: Op, x: torch.Tensor, image: list[int], block: list[int]) -> torch.Tensor:
    """Sum blocks into an image of any number of axes, by the place of each element."""
    axes = len(image)
    stride, dilation = op.get("strides", [1] * axes), op.get("dilations", [1] * axes)
    pads = op.get("pads", [0] * (2 * axes))
    whole = [image[i] + pads[i] + pads[i + axes] for i in range(axes)]
    counts = [(whole[i] - dilation[i] * (block[i] - 1) - 1) // stride[i] + 1 for i in range(axes)]
    place = np.zeros((*block, *counts), np.int64)
    for i in range(axes):
        line = (np.arange(block[i]) * dilation[i])[:, None] + np.arange(counts[i]) * stride[i]
        shape = [1] * (2 * axes)
        shape[i], shape[axes + i] = block[i], counts[i]
        place += line.reshape(shape) * math.prod(whole[i + 1 :])
    n, channels = x.shape[0], x.shape[1] // math.prod(block)
    index = torch.from_numpy(place.reshape(-1)).expand(n, channels, -1)
    flat = torch.zeros(n, channels, math.prod(whole), dtype=x.dtype)
    result = flat.scatter_add(2, index, x.reshape(n, channels, -1)).reshape(n, channels, *whole)
    inner = tuple(slice(pads[i], pads[i] + image[i]) for i in range(axes))
    return result[(slice(None), slice(None), *inner)]

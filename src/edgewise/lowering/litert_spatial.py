"""Program operators on images and signals as TFLite operators, channels-last.

Signals (N, C, W) are held as images of height one. TFLite pads a window operator either not at
all (VALID) or so that the output has ceil(size / stride) elements, the odd one of the padding at
the end (SAME); any other padding is written as a PAD of its own, which XNNPACK takes into the
convolution that follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import UnsupportedOperator
from .litert_graph import Graph, Value, activation
from .program import NO_CLAMP, Op, Quant
from .strides import Frame, axes_of, minor

__all__ = [
    "averages_whole_windows",
    "avg_pool",
    "bias_of",
    "conv",
    "conv_transpose",
    "max_pool",
    "resize",
]

Pairs = tuple[tuple[int, int], tuple[int, int]]
HELD: Frame = (0, 1, 2, 3)  # of a value whose axes are those of its tensor
LARGEST_SUM = 2**31 - 1  # of int32


def spatial_frame(op: Op, rank: int) -> Frame:
    """How images and signals are held."""
    if rank == 4:
        return (0, 2, 3, 1)
    if rank == 3:
        return (0, None, 2, 1)
    raise UnsupportedOperator(
        f"LiteRT has no {op.kind} over {rank - 2} spatial axes (layer '{op.layer}'): "
        "only signals and images can be lowered"
    )


def two(values, fill) -> tuple:
    """Attributes for height and width; a signal has height one."""
    values = tuple(values)
    return values if len(values) == 2 else (fill, *values)


def conv(g: Graph, op: Op, x: Value, weight: Value, bias: Value | None) -> Value:
    """CONV_2D (weight (out, h, w, in / groups)) or DEPTHWISE_CONV_2D (weight (1, h, w, out))."""
    groups, channels = op.attrs["groups"], x.shape[1]
    frame = spatial_frame(op, len(x.shape))
    x, weight = folded_channels(g, x, weight, groups)
    kernel = two(weight.shape[2:], 1)
    dilation = two(op.attrs["dilation"], 1)
    stride = two(op.attrs["stride"], 1)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    x, padding = padded(g, op, g.arranged(x, frame), reach, stride)
    fused, rest = activation(op.attrs["clamp"], op.output.quant)
    options = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": fused,
    }
    depthwise = groups == channels and groups > 1
    features = []
    if depthwise:
        operator, order = "DEPTHWISE_CONV_2D", (1, *frame[1:-1], 0)
        options["depthMultiplier"] = weight.shape[0] // channels
        if dilation != (1, 1):
            features.append("dilated")
    else:
        operator, order = "CONV_2D", (0, *frame[1:-1], 1)
        if groups > 1:
            features.append("groups")
    weight = real_filter(g, x, filter_of(g, weight, order))
    inputs = [x, weight, bias_of(g, x, weight, bias, weight.shape[0])]
    y = g.emit(
        operator, inputs, op.output.shape, frame, op.output.quant, features=features, **options
    )
    return y if rest is None else g.clamped(y, rest)


def folded_channels(g: Graph, x: Value, weight: Value, groups: int) -> tuple[Value, Value]:
    """Channels that lie shuffled in memory are left so, and the weight is shuffled instead."""
    inside = minor(x.axes, 1)
    if groups > 1 or weight.data is None or inside is None or len(inside[0]) < 2:
        return x, weight
    sizes, order = inside
    data = weight.data.reshape(weight.shape[0], *sizes, *weight.shape[2:])
    kernel = range(1 + len(sizes), data.ndim)
    data = data.transpose(0, *(1 + k for k in order), *kernel).reshape(weight.shape)
    axes = (x.axes[0], ((x.shape[1], 1),), *x.axes[2:])
    return replace(x, axes=axes), g.constant(data, weight.quant, weight.dtype)


def filter_of(g: Graph, weight: Value, order: Frame) -> Value:
    """The weight held in this order, the axis of its scales named accordingly."""
    if weight.quant is not None and weight.quant.axis is not None:
        axis = order.index(weight.quant.axis)
        weight = replace(weight, quant=replace(weight.quant, axis=axis))
    return g.arranged(weight, order)


def real_filter(g: Graph, x: Value, weight: Value) -> Value:
    """The weight as a float operator takes it: XNNPACK dequantizes constants once, at loading."""
    if x.quant is not None or weight.quant is None:
        return weight
    return g.unary("DEQUANTIZE", replace(weight, data=None))  # held already


def bias_of(g: Graph, x: Value, weight: Value, bias: Value | None, outputs: int) -> Value:
    """The bias, zeros if there is none: XNNPACK takes no convolution without.

    On integers it is int32, beside int16 inputs int64, with scale ``x's * weight's``, that of the
    sums it is added to.
    """
    bias = bias or g.constant(np.zeros(outputs, np.float32))
    if x.quant is None:
        return g.arranged(bias, (0,))
    scale = np.asarray(x.quant.scale * weight.quant.scale, np.float32)
    sums = np.rint(bias.data.astype(np.float64) / scale)
    dtype, most = ("int64", 2.0**62) if x.quant.dtype == "int16" else ("int32", LARGEST_SUM)
    integers = sums.clip(-most, most).astype(dtype)
    quant = Quant(scale, np.zeros(scale.shape, np.int32), dtype, 0 if scale.ndim else None)
    return g.arranged(g.constant(integers, quant), (0,))


def padded(
    g: Graph,
    op: Op,
    x: Value,
    reach: tuple[int, int],
    stride: tuple[int, int],
    same: bool = True,
    lowest: bool = False,
) -> tuple[Value, str]:
    """The input and the padding (SAME or VALID) with which windows fall as `op` says.

    Args:
        x: held as image.
        reach: window sizes, dilation included.
        same: whether SAME may be used.
        lowest: pad with what never wins a maximum, not with zeros.
    """
    padding: Pairs = two(op.attrs["padding"], (0, 0))
    sizes, outputs = x.held[1:3], two(op.output.shape[2:], 1)
    need = tuple(  # at the end, what the last window needs
        (before, max(0, (out - 1) * s + r - size - before))
        for (before, _), size, out, s, r in zip(padding, sizes, outputs, stride, reach, strict=True)
    )
    if not any(map(any, need)):
        return x, "VALID"
    if same and all(
        out == math.ceil(size / s) and before == (before + after) // 2
        for (before, after), size, out, s in zip(need, sizes, outputs, stride, strict=True)
    ):
        return x, "SAME"
    pairs = ((0, 0), *need, (0, 0))
    shape = tuple(n + sum(pair) for n, pair in zip(x.held, pairs, strict=True))
    if not lowest:
        return g.emit("PAD", [x, g.numbers(pairs)], shape, HELD, x.quant), "VALID"
    number = np.array([-np.inf], np.float32)
    if x.quant:
        number = np.array([np.iinfo(x.quant.dtype).min], x.quant.dtype)
    value = g.arranged(g.constant(number, x.quant), (0,))
    return g.emit("PADV2", [x, g.numbers(pairs), value], shape, HELD, x.quant), "VALID"


def conv_transpose(g: Graph, op: Op, x: Value, weight: Value, bias: Value | None) -> Value:
    """TRANSPOSE_CONV of the whole reach, cropped to what the padding leaves.

    TFLite's has neither groups nor dilation: they become zeros in the weight.
    """
    frame = spatial_frame(op, len(x.shape))
    weight = dense(g, weight, op.attrs["groups"], op.attrs["dilation"])
    channels = weight.shape[1]
    kernel, stride = two(weight.shape[2:], 1), two(op.attrs["stride"], 1)
    begin = tuple(before for before, _ in two(op.attrs["padding"], (0, 0)))
    x = g.arranged(x, frame)
    outputs = two(op.output.shape[2:], 1)
    # With output_padding the output may end beyond the last sum: there is the bias alone.
    whole = tuple(
        max((n - 1) * s + k, start + out)
        for n, s, k, start, out in zip(x.held[1:3], stride, kernel, begin, outputs, strict=True)
    )
    held, cropped = ((x.held[0], *size, channels) for size in (whole, outputs))
    fused, rest = activation(op.attrs["clamp"], op.output.quant)
    y = g.emit(
        "TRANSPOSE_CONV",
        [
            g.numbers(held),
            filter_of(g, weight, (1, *frame[1:-1], 0)),
            x,
            bias_of(g, x, weight, bias, channels),
        ],
        held,
        HELD,
        op.output.quant,
        features=["bias"] if fused == "NONE" else ["activation"],
        padding="VALID",
        strideH=stride[0],
        strideW=stride[1],
        fusedActivationFunction=fused,
    )
    if cropped != held:
        inputs = [y, g.numbers((0, *begin, 0)), g.numbers(cropped)]
        y = g.emit("SLICE", inputs, cropped, HELD, op.output.quant)
    y = replace(y, shape=op.output.shape, axes=axes_of(op.output.shape, frame))
    return y if rest is None else g.clamped(y, rest)


def dense(g: Graph, weight: Value, groups: int, dilation: Sequence[int]) -> Value:
    """The weight (in, out / groups, *kernel) as (in, out, *reach), zeros where nothing was."""
    data, quant = weight.data, weight.quant
    inputs, each, *kernel = data.shape
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    result = np.zeros((inputs, groups * each, *reach), data.dtype)
    taps = tuple(slice(None, None, d) for d in dilation)
    for k in range(groups):
        rows = slice(k * inputs // groups, (k + 1) * inputs // groups)
        result[(rows, slice(k * each, (k + 1) * each), *taps)] = data[rows]
    if quant is not None and quant.axis is not None:
        scale, zero_point = np.tile(quant.scale, groups), np.tile(quant.zero_point, groups)
        quant = replace(quant, scale=scale, zero_point=zero_point)
    return g.constant(result, quant, weight.dtype)


def max_pool(g: Graph, op: Op, x: Value) -> Value:
    """MAX_POOL_2D; zeros pad as well as the lowest number where nothing is negative."""
    if set(op.attrs["dilation"]) != {1}:
        raise UnsupportedOperator(
            f"LiteRT has no max_pool with dilation {tuple(op.attrs['dilation'])} "
            f"(layer '{op.layer}')"
        )
    kernel, stride = two(op.attrs["kernel"], 1), two(op.attrs["stride"], 1)
    image = g.arranged(x, spatial_frame(op, len(x.shape)))
    image, padding = padded(g, op, image, kernel, stride, lowest=x.least < 0)
    return pool(g, op, image, "MAX_POOL_2D", padding)


def avg_pool(g: Graph, op: Op, x: Value) -> Value:
    """AVERAGE_POOL_2D; over the whole image MEAN; on integers a depthwise convolution.

    XNNPACK has no average pooling of integers. The sums of a convolution by ones are exact.
    """
    frame = spatial_frame(op, len(x.shape))
    image = g.arranged(x, frame)
    kernel, stride = two(op.attrs["kernel"], 1), two(op.attrs["stride"], 1)
    if kernel == image.held[1:3] and not any(map(any, op.attrs["padding"])):
        axes = g.numbers([1, 2])
        return g.emit("MEAN", [image, axes], op.output.shape, frame, op.output.quant, keepDims=True)
    if x.quant is not None:
        ones = np.ones((x.shape[1], 1, *op.attrs["kernel"]), np.int8)
        scale = np.asarray(1 / math.prod(kernel), np.float32)
        weight = g.constant(ones, Quant(scale, np.zeros((), np.int32)))
        attrs = {**op.attrs, "groups": x.shape[1], "dilation": (1, 1), "clamp": NO_CLAMP}
        return conv(g, replace(op, attrs=attrs), x, weight, None)
    counts = op.attrs["count_include_pad"]
    padded_image, padding = padded(g, op, image, kernel, stride, same=not counts)
    y = pool(g, op, padded_image, "AVERAGE_POOL_2D", padding)
    if counts or padded_image is image:
        return y
    return g.binary("MUL", y, g.constant(shares(op)))


def averages_whole_windows(op: Op) -> bool:
    """Whether every mean is over as many numbers as the window has."""
    return op.attrs["count_include_pad"] or not any(map(any, op.attrs["padding"]))


def shares(op: Op) -> np.ndarray:
    """Window size over the numbers of the input in the window, for each output position."""
    result = np.ones(())
    for k, s, (before, _), size, out in zip(
        *(op.attrs[name] for name in ("kernel", "stride", "padding")),
        op.inputs[0].shape[2:],
        op.output.shape[2:],
        strict=True,
    ):
        start = np.arange(out) * s - before
        inside = np.minimum(start + k, size) - np.maximum(start, 0)
        result = np.multiply.outer(result, k / inside)
    return result.astype(np.float32)[None, None]


def pool(g: Graph, op: Op, image: Value, operator: str, padding: str) -> Value:
    kernel, stride = two(op.attrs["kernel"], 1), two(op.attrs["stride"], 1)
    return g.emit(
        operator,
        [image],
        op.output.shape,
        spatial_frame(op, len(op.output.shape)),
        op.output.quant,
        padding=padding,
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        strideH=stride[0],
        strideW=stride[1],
        fusedActivationFunction="NONE",
    )


def resize(g: Graph, op: Op, x: Value) -> Value:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR."""
    frame = spatial_frame(op, len(x.shape))
    inputs = [g.arranged(x, frame), g.numbers(two(op.attrs["size"], 1))]
    if op.attrs["mode"] == "nearest":
        return g.emit("RESIZE_NEAREST_NEIGHBOR", inputs, op.output.shape, frame)
    corners = bool(op.attrs["align_corners"])
    return g.emit(
        "RESIZE_BILINEAR",
        inputs,
        op.output.shape,
        frame,
        features=[] if corners else ["half_pixel"],
        alignCorners=corners,
        halfPixelCenters=not corners,
    )

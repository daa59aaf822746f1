"""The operators of a Program in OpenVINO's opset 15: one small function a kind.

Each takes the opset, the operator's attributes and its inputs as OpenVINO nodes (None for an
absent one), and gives the node that computes its output, not yet clamped or rounded to a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["OPERATORS", "clamp"]

Node = Any  # openvino.Node: the package is imported only when something is lowered
Attrs = dict[str, Any]


def clamp(o: ModuleType, bounds: tuple[float, float], x: Node) -> Node:
    """Clip to (low, high), in the form that the plugin fuses into the operator before."""
    low, high = bounds
    if (low, high) == (0, math.inf):
        return o.relu(x)
    if math.isfinite(low) and math.isfinite(high):
        return o.clamp(x, low, high)
    if math.isfinite(low):
        x = o.maximum(x, _like(x, low))
    if math.isfinite(high):
        x = o.minimum(x, _like(x, high))
    return x


def _conv(o: ModuleType, attrs: Attrs, x: Node, weight: Node, bias: Node | None) -> Node:
    window = list(attrs["stride"]), *_sides(attrs["padding"]), list(attrs["dilation"])
    if attrs["groups"] == 1:
        y = o.convolution(x, weight, *window)
    else:
        y = o.group_convolution(x, _grouped(o, weight, attrs["groups"]), *window)
    return _biased(o, y, bias)


def _conv_transpose(o: ModuleType, attrs: Attrs, x: Node, weight: Node, bias: Node | None) -> Node:
    before, after = _sides(attrs["padding"])
    window = {
        "strides": list(attrs["stride"]),
        "pads_begin": before,
        "pads_end": after,
        "dilations": list(attrs["dilation"]),
        "output_padding": list(attrs["output_padding"]),
    }
    if attrs["groups"] == 1:
        y = o.convolution_backprop_data(x, weight, **window)
    else:
        weight = _grouped(o, weight, attrs["groups"])
        y = o.group_convolution_backprop_data(x, weight, **window)
    return _biased(o, y, bias)


def _linear(o: ModuleType, attrs: Attrs, x: Node, weight: Node, bias: Node | None) -> Node:
    """How inputs are rounded at run time, the model says as a whole."""
    y = o.matmul(x, weight, False, True)
    return y if bias is None else o.add(y, bias)


def _layer_norm(o: ModuleType, attrs: Attrs, x: Node, weight: Node | None, bias: Node | None):
    y = o.mvn(x, o.constant(list(range(-attrs["axes"], 0))), True, attrs["eps"], "INSIDE_SQRT")
    if weight is not None:
        y = o.multiply(y, weight)
    return y if bias is None else o.add(y, bias)


def _max_pool(o: ModuleType, attrs: Attrs, x: Node) -> Node:
    before, after = _sides(attrs["padding"])
    stride, dilation, kernel = (list(attrs[k]) for k in ("stride", "dilation", "kernel"))
    return o.max_pool(x, stride, dilation, before, after, kernel).output(0)


def _avg_pool(o: ModuleType, attrs: Attrs, x: Node) -> Node:
    before, after = _sides(attrs["padding"])
    stride, kernel = list(attrs["stride"]), list(attrs["kernel"])
    if attrs["count_include_pad"] and any(before + after):
        # In int8 the plugin's own padding counts as the integer 0, whatever number that stands for.
        x = _zero_padded(o, x, [0, 0, *before], [0, 0, *after])
        before = after = [0] * len(kernel)
    return o.avg_pool(x, stride, before, after, kernel, not attrs["count_include_pad"])


def _pad(o: ModuleType, attrs: Attrs, x: Node) -> Node:
    before, after = _sides(attrs["padding"])
    if attrs["mode"] != "constant":
        return o.pad(x, before, after, attrs["mode"])
    value = attrs["value"]
    if not value:
        return _zero_padded(o, x, before, after)
    # In int8 the plugin puts in another number than asked, unless that is 0.
    shifted = o.subtract(x, _like(x, value))
    return o.add(_zero_padded(o, shifted, before, after), _like(x, value))


def _zero_padded(o: ModuleType, x: Node, before: list[int], after: list[int]) -> Node:
    return o.pad(x, before, after, "constant", o.constant(_like(x, 0)))


def _resize(o: ModuleType, attrs: Attrs, x: Node) -> Node:
    """As torch's interpolate: nearest takes the floor, linear takes pixel centres."""
    n = len(attrs["size"])
    linear = attrs["mode"] == "linear"
    corners = "align_corners" if attrs["align_corners"] else "half_pixel"
    return o.interpolate(
        x,
        list(attrs["size"]),
        "linear_onnx" if linear else "nearest",
        "sizes",
        coordinate_transformation_mode=corners if linear else "asymmetric",
        nearest_mode="floor",
        axes=list(range(2, 2 + n)),
    )


def _biased(o: ModuleType, y: Node, bias: Node | None) -> Node:
    """Add a bias (channels,) along axis 1."""
    if bias is None:
        return y
    return o.add(y, _reshaped(o, bias, [1, -1] + [1] * (len(y.shape) - 2)))


def _grouped(o: ModuleType, weight: Node, groups: int) -> Node:
    """Split the first axis of a weight by group."""
    first, *rest = weight.shape
    return _reshaped(o, weight, [groups, first // groups, *rest])


def _reshaped(o: ModuleType, x: Node, shape: list[int]) -> Node:
    if x.get_type_name() == "Constant":
        return o.constant(x.data.reshape(shape))
    return o.reshape(x, shape, False)


def _sides(padding: tuple[tuple[int, int], ...]) -> tuple[list[int], list[int]]:
    """(before, after) pairs as one list a side."""
    return [before for before, _ in padding], [after for _, after in padding]


def _like(x: Node, number: float) -> np.ndarray:
    """A number in the dtype of `x`."""
    return np.array(number, x.get_element_type().to_dtype())


def _same(o: ModuleType, attrs: Attrs, x: Node) -> Node:
    return x


def _call(name: str) -> Callable[..., Node]:
    """An operator of that name, which takes the inputs and no attribute."""
    return lambda o, attrs, *inputs: getattr(o, name)(*inputs)


def _reduce(name: str) -> Callable[..., Node]:
    return lambda o, attrs, x: getattr(o, name)(x, list(attrs["axes"]), attrs["keepdim"])


OPERATORS: dict[str, Callable[..., Node]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": lambda o, attrs, a, b: o.matmul(a, b, False, False),
    "add": _call("add"),
    "sub": _call("subtract"),
    "mul": _call("multiply"),
    "div": _call("divide"),
    "pow": _call("power"),
    "maximum": _call("maximum"),
    "minimum": _call("minimum"),
    "clamp": _same,  # clamped like every other operator that has bounds
    "neg": _call("negative"),
    "abs": _call("abs"),
    "exp": _call("exp"),
    "log": _call("log"),
    "sqrt": _call("sqrt"),
    "rsqrt": lambda o, attrs, x: o.divide(_like(x, 1), o.sqrt(x)),
    "erf": _call("erf"),
    "sin": _call("sin"),
    "cos": _call("cos"),
    "floor": _call("floor"),
    "sigmoid": _call("sigmoid"),
    "tanh": _call("tanh"),
    "silu": _call("swish"),
    "gelu": lambda o, attrs, x: o.gelu(x, "tanh" if attrs["approximate"] == "tanh" else "erf"),
    "hardswish": _call("hswish"),
    "hardsigmoid": _call("hsigmoid"),
    "elu": lambda o, attrs, x: o.elu(x, attrs["alpha"]),
    "leaky_relu": lambda o, attrs, x: o.prelu(x, _like(x, [attrs["slope"]])),
    "softplus": _call("softplus"),
    "softmax": lambda o, attrs, x: o.softmax(x, attrs["axis"]),
    "log_softmax": lambda o, attrs, x: o.log_softmax(x, attrs["axis"]),
    "layer_norm": _layer_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "mean": _reduce("reduce_mean"),
    "sum": _reduce("reduce_sum"),
    "amax": _reduce("reduce_max"),
    "amin": _reduce("reduce_min"),
    "concat": lambda o, attrs, *inputs: o.concat(list(inputs), attrs["axis"]),
    "pad": _pad,
    "slice": lambda o, attrs, x: o.slice(x, *(list(attrs[k]) for k in ("start", "stop", "step"))),
    "reshape": lambda o, attrs, x: o.reshape(x, list(attrs["shape"]), False),
    "permute": lambda o, attrs, x: o.transpose(x, list(attrs["order"])),
    "expand": lambda o, attrs, x: o.broadcast(x, list(attrs["shape"])),
    "gather": lambda o, attrs, table, indices: o.gather(table, indices, 0),
    "resize": _resize,
    "cast": lambda o, attrs, x: o.convert(x, np.dtype(attrs["dtype"])),
    "quantize": _same,
    "dequantize": _same,
}

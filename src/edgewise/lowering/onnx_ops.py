"""Program operators as ONNX nodes: one small function a kind, float or on stored integers.

Each function appends nodes to the `Graph` and gives the name of the value they compute. Clamps
and quantization are not written here (see `edgewise.lowering.onnxruntime`). Operators as in ONNX
opset 20: https://github.com/onnx/onnx/blob/main/docs/Operators.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import MissingExtra
from .program import Op, Quant, Tensor

try:
    from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
except ImportError:
    raise MissingExtra("onnx", "onnxruntime") from None

__all__ = ["OPS", "Graph", "level"]

Emit = Callable[["Graph", Op, Sequence["str | None"]], str]


class Graph:
    """Nodes and initializers under way to an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.layer = ""  # what the nodes being written belong to; begins their names

    def node(self, kind: str, *inputs: str | None, **attributes: Any) -> str:
        """Append a node with one output and give the output's name."""
        name = f"{self.layer}/{kind}.{len(self.nodes)}"
        given = [i or "" for i in inputs]
        while given and not given[-1]:
            given.pop()
        self.nodes.append(helper.make_node(kind, given, [name], name=name, **attributes))
        return name

    def name_last(self, value: str, name: str) -> None:
        """Give the value just computed this name; a value computed earlier is copied to it."""
        if not self.nodes or self.nodes[-1].output[0] != value:
            self.node("Identity", value)
        self.nodes[-1].output[0] = name

    def constant(self, name: str, array: np.ndarray) -> str:
        """An initializer; written once for all that ask for the same name and numbers."""
        tensor = numpy_helper.from_array(np.array(array, order="C"), name)
        while self.initializers.setdefault(tensor.name, tensor) != tensor:
            tensor.name += ".again"
        return tensor.name

    def literal(self, values: Any, dtype: str) -> str:
        """A small constant, named by what it holds."""
        array = np.asarray(values, dtype)
        return self.constant(f"{dtype}:{array.tolist()}".replace(" ", ""), array)

    def integers(self, values: Sequence[int]) -> str:
        """Sizes or axes: a vector of int64."""
        return self.literal(list(values), "int64")


def dtype_number(dtype: str) -> int:
    """ONNX's number for a numpy dtype name."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def described(tensor: Tensor) -> ValueInfoProto:
    """An input or output of the graph."""
    return helper.make_tensor_value_info(tensor.name, dtype_number(tensor.dtype), tensor.shape)


def level(value: float, quant: Quant) -> int:
    """The stored uint8 integer that stands nearest to a real number (infinities included)."""
    steps = np.round(value / float(quant.scale)) + int(quant.zero_point) + 128
    return int(np.clip(steps, 0, 255))


def _begins_ends(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


def _plain(kind: str, **attributes: Any) -> Emit:
    return lambda graph, op, x: graph.node(kind, *x, **attributes)


def _conv(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    a = op.attrs
    window = {
        "kernel_shape": op.inputs[1].shape[2:],
        "strides": a["stride"],
        "pads": _begins_ends(a["padding"]),
        "dilations": a["dilation"],
        "group": a["groups"],
    }
    if op.kind == "conv":
        return graph.node("Conv", *x, **window)
    return graph.node("ConvTranspose", *x, **window, output_padding=a["output_padding"])


def _pool(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    a = op.attrs
    window = {
        "kernel_shape": a["kernel"],
        "strides": a["stride"],
        "pads": _begins_ends(a["padding"]),
    }
    if op.kind == "max_pool":
        return graph.node("MaxPool", *x, **window, dilations=a["dilation"])
    return graph.node("AveragePool", *x, **window, count_include_pad=int(a["count_include_pad"]))


def _mean(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    # Only the pooling operator has an integer and a blocked-layout kernel.
    if op.attrs["keepdim"] and sorted(op.attrs["axes"]) == list(range(2, len(op.inputs[0].shape))):
        return graph.node("GlobalAveragePool", *x)
    return _reduce("ReduceMean")(graph, op, x)


def _reduce(kind: str) -> Emit:
    def emit(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
        axes = graph.integers(op.attrs["axes"])
        return graph.node(kind, *x, axes, keepdims=int(op.attrs["keepdim"]))

    return emit


def _rsqrt(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    return graph.node("Reciprocal", graph.node("Sqrt", *x))


def _silu(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    return graph.node("Mul", *x, graph.node("Sigmoid", *x))


def _layer_norm(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    values, weight, bias = x
    axes = op.attrs["axes"]
    shape = op.inputs[0].shape[-axes:]
    # ONNX requires the scale.
    weight = weight or graph.constant(f"ones:{list(shape)}", np.ones(shape, np.float32))
    return graph.node(
        "LayerNormalization", values, weight, bias, axis=-axes, epsilon=op.attrs["eps"]
    )


def _pad(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    padding, mode = op.attrs["padding"], op.attrs["mode"]
    value = None
    if mode == "constant":
        real, quant = op.attrs.get("value", 0.0), op.output.quant
        if quant is None:
            value = graph.literal(real, op.output.dtype)
        else:
            value = graph.literal(level(real, quant), "uint8")
    return graph.node("Pad", *x, graph.integers(_begins_ends(padding)), value, mode=mode)


def _slice(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    a, shape = op.attrs, op.inputs[0].shape
    cuts = zip(a["start"], a["stop"], a["step"], strict=True)
    kept = [
        (axis, start, stop, step)
        for axis, (size, (start, stop, step)) in enumerate(zip(shape, cuts, strict=True))
        if (start, stop, step) != (0, size, 1)
    ]
    if not kept:
        return x[0]
    axes, starts, stops, steps = (graph.integers(v) for v in zip(*kept, strict=True))
    return graph.node("Slice", *x, starts, stops, axes, steps)


def _to_shape(kind: str) -> Emit:
    return lambda graph, op, x: graph.node(kind, *x, graph.integers(op.output.shape))


def _resize(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    if op.attrs["mode"] == "nearest":
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        corners = op.attrs["align_corners"]
        how = {"coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
    sizes = graph.integers(op.output.shape)
    return graph.node("Resize", *x, None, None, sizes, mode=op.attrs["mode"], **how)


def _attribute(kind: str, theirs: str, ours: str) -> Emit:
    return lambda graph, op, x: graph.node(kind, *x, **{theirs: op.attrs[ours]})


def _cast(graph: Graph, op: Op, x: Sequence[str | None]) -> str:
    return graph.node("Cast", *x, to=dtype_number(op.output.dtype))


# `clamp` is the identity here: the bounds are written after every kind alike.
OPS: dict[str, Emit] = {
    "conv": _conv,
    "conv_transpose": _conv,
    "linear": _plain("Gemm", transB=1),
    "matmul": _plain("MatMul"),
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "div": _plain("Div"),
    "pow": _plain("Pow"),
    "maximum": _plain("Max"),
    "minimum": _plain("Min"),
    "clamp": lambda graph, op, x: x[0],
    "neg": _plain("Neg"),
    "abs": _plain("Abs"),
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "sqrt": _plain("Sqrt"),
    "rsqrt": _rsqrt,
    "erf": _plain("Erf"),
    "sin": _plain("Sin"),
    "cos": _plain("Cos"),
    "floor": _plain("Floor"),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "silu": _silu,
    "gelu": _attribute("Gelu", "approximate", "approximate"),
    "hardswish": _plain("HardSwish"),
    "hardsigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "elu": _attribute("Elu", "alpha", "alpha"),
    "leaky_relu": _attribute("LeakyRelu", "alpha", "slope"),
    "softplus": _plain("Softplus"),
    "softmax": _attribute("Softmax", "axis", "axis"),
    "log_softmax": _attribute("LogSoftmax", "axis", "axis"),
    "layer_norm": _layer_norm,
    "max_pool": _pool,
    "avg_pool": _pool,
    "mean": _mean,
    "sum": _reduce("ReduceSum"),
    "amax": _reduce("ReduceMax"),
    "amin": _reduce("ReduceMin"),
    "concat": _attribute("Concat", "axis", "axis"),
    "pad": _pad,
    "slice": _slice,
    "reshape": _to_shape("Reshape"),
    "permute": _attribute("Transpose", "perm", "order"),
    "expand": _to_shape("Expand"),
    "gather": _plain("Gather", axis=0),
    "resize": _resize,
    "cast": _cast,
}

"""Linears with narrow weights in the operators for which ONNX Runtime has kernels.

* Weights with a scale for every few inputs, and perhaps a zero point:
  ``com.microsoft.MatMulNBits``, whose kernels compute in float (``accuracy_level`` 1) or round the
  inputs to int8 by the same groups (4).
* Inputs rounded at run time to one grid: DynamicQuantizeLinear and MatMulInteger, which are fused
  with the scaling behind them. One grid is all that DynamicQuantizeLinear knows.

Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np

from ..errors import UnsupportedOperator
from .onnx_ops import Graph, dtype_number, helper
from .program import Dynamic, Op, Tensor

__all__ = ["has_kernel", "linear"]

LEAST_BLOCK = 16  # inputs that MatMulNBits takes to a scale, and any power of two above
CHANNEL_BLOCK = 32  # for one scale a channel, written several times
FLOAT, INT8 = 1, 4  # accuracy levels


def has_kernel(op: Op) -> bool:
    """Whether a float operator with a quantized weight is written by `linear`.

    The others get their weights back as float when the file is loaded.
    """
    if op.kind != "linear" or op.inputs[1].quant is None or op.output.quant is not None:
        return False
    quant = op.inputs[1].quant
    return "dynamic" in op.attrs or (_blocks(op.inputs[1]) is not None and quant.dtype == "int4")


def linear(graph: Graph, op: Op, x: str, bias: str | None) -> str:
    """Write such a linear.

    Raises:
        UnsupportedOperator: its input is rounded in a way that no kernel knows.
    """
    dynamic: Dynamic | None = op.attrs.get("dynamic")
    given, weight, _ = op.inputs
    if dynamic is None:
        return _n_bits(graph, weight, x, bias, FLOAT)
    if dynamic.low != -dynamic.high:
        one_grid = dynamic.grids(given.shape) == 1
        if one_grid and weight.quant.axis == 0 and weight.quant.dtype == "int8":
            return _integers(graph, weight, x, bias)
    elif dynamic.group is not None and dynamic.group == _blocks(weight):
        return _n_bits(graph, weight, x, bias, INT8)
    raise UnsupportedOperator(
        f"onnxruntime has no kernel for the way in which layer '{op.layer}' is quantized at run "
        "time: quantize with target=capabilities('onnxruntime') and lower with batch=1"
    )


def _blocks(weight: Tensor) -> int | None:
    """The inputs to one scale, as MatMulNBits takes them; None where it does not."""
    quant, inputs = weight.quant, weight.shape[1]
    if quant.scale.ndim < 2:
        return CHANNEL_BLOCK if inputs % CHANNEL_BLOCK == 0 else None
    size = inputs // quant.scale.shape[1]
    return size if size >= LEAST_BLOCK and size & (size - 1) == 0 else None


def _n_bits(graph: Graph, weight: Tensor, x: str, bias: str | None, accuracy: int) -> str:
    """Unsigned integers around 8 (or 128), two in a byte, the first one low."""
    size, quant = _blocks(weight), weight.quant
    outputs, inputs = weight.shape
    bits = 4 if quant.dtype == "int4" else 8
    data = _unsigned(weight.data.reshape(outputs, inputs // size, size), bits)
    rows = quant.scale.reshape(-1, 1) if quant.scale.ndim < 2 else quant.scale
    scale = np.broadcast_to(rows, (outputs, inputs // size))
    zero_points = None
    if np.any(quant.zero_point):
        points = _unsigned(quant.zero_point.reshape(outputs, -1), bits)
        zero_points = graph.constant(f"{weight.name}.zero_point", points)
    return graph.node(
        "MatMulNBits", x,
        graph.constant(weight.name, data),
        graph.constant(f"{weight.name}.scale", scale.astype(np.float32)),
        zero_points, None, bias,
        domain="com.microsoft", K=inputs, N=outputs, bits=bits, block_size=size,
        accuracy_level=accuracy,
    )  # fmt: skip


def _unsigned(integers: np.ndarray, bits: int) -> np.ndarray:
    """Around 8 or 128; those of 4 bits two in a byte along the last axis, the first one low."""
    data = (integers.astype(np.int16) + (1 << bits - 1)).astype(np.uint8)
    if bits == 8:
        return data
    data = np.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, data.shape[-1] % 2)])
    return data[..., ::2] | data[..., 1::2] << 4


def _integers(graph: Graph, weight: Tensor, x: str, bias: str | None) -> str:
    integers, scale, zero_point = _rounded(graph, x)
    matrix = graph.constant(weight.name, weight.data.T)
    product = graph.node("MatMulInteger", integers, matrix, zero_point)
    real = graph.node("Cast", product, to=dtype_number("float32"))
    steps = graph.constant(f"{weight.name}.scale", weight.quant.scale.astype(np.float32))
    result = graph.node("Mul", real, graph.node("Mul", scale, steps))
    return result if bias is None else graph.node("Add", result, bias)


def _rounded(graph: Graph, x: str) -> list[str]:
    """The integers of `x`, their scale and zero point; written once for all that read them."""
    names = [f"{x}/{part}" for part in ("integers", "scale", "zero_point")]
    if not any(node.output[0] == names[0] for node in graph.nodes):
        graph.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names, name=names[0]))
    return names

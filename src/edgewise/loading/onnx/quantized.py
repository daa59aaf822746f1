"""Quantization: integers become real numbers on a grid.

``y = saturate(round_half_even(x / scale) + zero_point)``, ONNX, QuantizeLinear. What follows reads
`Stored` values: the real numbers, snapped by ``edgewise::fake_quantize``.
"""

from __future__ import annotations

from typing import Any

import torch

from .file import DTYPES
from .graph import Node
from .rows import Op, row
from .spatial import convolve
from .values import Constant, Grid, Stored, as_tensor, dtype_of, typed

__all__ = ["OFFSETS", "stored_dtype"]

# Integers of a file -> what they are above ours, which are signed.
OFFSETS = {torch.int8: 0, torch.uint8: 128, torch.int16: 0, torch.uint16: 32768}


def _grid(op: Op, scale: Any, zero_point: Any, dtype: torch.dtype, rank: int) -> Grid:
    """The grid of a node; scale and zero point as the file has them, or as `prepare` made them."""
    if op.get("block_size", 0):
        raise op.fail("its scales are blocked: quantize per tensor or per channel")
    bits = 8 * dtype.itemsize
    low, high, offset = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, OFFSETS[dtype]
    ours = bool(op.get("edgewise.ours"))
    scale_ = typed(as_tensor(scale), torch.float32)
    if zero_point is None:
        zero_point_ = torch.full(scale_.shape, -offset, dtype=torch.int32)
    else:
        zero_point_ = typed(as_tensor(zero_point), torch.int32)
        zero_point_ = zero_point_ if ours else zero_point_ - offset
    if scale_.numel() == 1 and not ours:
        scale_, zero_point_ = scale_.reshape(()), zero_point_.reshape(())
    axis = op.axis(op.get("axis", 1), rank) if scale_.ndim else None
    key: object = (_identity(scale), _identity(zero_point), dtype)
    if ours and axis is None:
        key = (float(scale.numbers), int(zero_point.numbers), low, dtype)
    return Grid(scale_, zero_point_, low, high, axis, dtype, offset, key)


def _identity(value: Any) -> int:
    return id(value.numbers if isinstance(value, Constant) else value)


@row("QuantizeLinear", raw=True)
def quantize(op, x, scale, zero_point=None):
    dtype = op.get("edgewise.dtype") or stored_dtype(op.node, zero_point)
    if dtype not in OFFSETS:
        raise op.fail(f"it quantizes to {str(dtype).removeprefix('torch.')}: use 8 or 16 bits")
    x = as_tensor(x)
    grid = _grid(op, scale, zero_point, dtype, x.ndim)
    return Stored(grid.snap(x), grid)


def stored_dtype(node: Node, zero_point: Any) -> torch.dtype | None:
    """What a QuantizeLinear stores, None for what torch does not have."""
    number = node.attributes.get("output_dtype", 0)
    if number:
        return DTYPES.get(number)
    return torch.uint8 if zero_point is None else dtype_of(zero_point)


@row("DequantizeLinear", raw=True)
def dequantize(op, x, scale, zero_point=None):
    dtype, kind = dtype_of(x), torch.float32 if op.get("edgewise.ours") else dtype_of(scale)
    if dtype not in OFFSETS:
        return _plain(op, as_tensor(x), scale, zero_point)
    rank = (x.real if isinstance(x, Stored) else as_tensor(x)).ndim
    grid = _grid(op, scale, zero_point, dtype, rank)
    if isinstance(x, Stored) and x.grid.key == grid.key:
        return typed(x.real, kind)
    steps = as_tensor(x).to(torch.int32) - grid.offset
    real = (steps - grid.along(grid.zero_point, rank)).to(torch.float32)
    return typed(grid.snap(real * grid.along(grid.scale, rank)), kind)


def _plain(op: Op, x: torch.Tensor, scale: Any, zero_point: Any) -> torch.Tensor:
    """Integers that are no grid of values, such as a bias of int32."""
    scale = as_tensor(scale)
    if x.dtype != torch.int32:
        raise op.fail(f"it holds {str(x.dtype).removeprefix('torch.')}: use 8 or 16 bits")
    shape = [1] * x.ndim
    if scale.ndim == 1 and scale.numel() > 1:
        shape[op.axis(op.get("axis", 1), x.ndim)] = -1
    real = x if zero_point is None else x - as_tensor(zero_point).reshape(shape)
    return typed(real, scale.dtype) * scale.reshape(shape)


@row("edgewise:Weight")
def weight(op, x, scale, zero_point):
    """A weight that the file stores as integers; `prepare` made it real."""
    axis = op.get("axis")
    low, high = op["low"], op["high"]
    return Grid(scale, zero_point, low, high, axis, torch.int8, 0, None).snap(x)


@row("DynamicQuantizeLinear", raw=True)
def dynamic(op, x):
    """The grid of uint8 that just holds the values and zero."""
    x = as_tensor(x)
    low = torch.clamp(x.amin(), max=0.0)
    scale = (torch.clamp(x.amax(), min=0.0) - low) / 255
    zero_point = torch.clamp(torch.round(-low / scale), 0, 255)
    ours = (zero_point - 128).to(torch.int32)
    stored = zero_point.to(torch.uint8)
    key = (id(scale), id(stored), torch.uint8)
    grid = Grid(scale, ours, -128, 127, None, torch.uint8, 128, key)
    return Stored(grid.snap(x), grid), scale, stored


# --- products of integers, exact in float64 -------------------------------------------------------


def _centred(x: Any, zero_point: Any, axis: int) -> torch.Tensor:
    x = as_tensor(x).to(torch.float64)
    if zero_point is None:
        return x
    zero_point = as_tensor(zero_point).to(torch.float64)
    if zero_point.ndim == 1 and zero_point.numel() > 1:
        shape = [1] * x.ndim
        shape[axis] = -1
        zero_point = zero_point.reshape(shape)
    elif zero_point.numel() == 1:
        zero_point = zero_point.reshape(())
    return x - zero_point


@row("MatMulInteger", raw=True)
def matmul_integer(op, a, b, a_zero=None, b_zero=None):
    product = torch.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    return product.to(torch.int32)


@row("ConvInteger", raw=True)
def conv_integer(op, x, weight, x_zero=None, w_zero=None):
    return convolve(op, _centred(x, x_zero, 1), _centred(weight, w_zero, 0), None).to(torch.int32)

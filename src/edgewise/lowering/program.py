"""Program: the small language between a Model's graph and a runtime's file format.

A Model's graph has hundreds of aten overloads and symbolic sizes. A Program has a few dozen
kinds of operator, every size an integer (the batch included), batch-norm folded, dropout gone,
and every quantized value marked on the value itself. `build` makes one; each runtime's lowering
is then a table with one small function per kind.

What holds for every Program:

* Axes are as in the Model (NCHW for images); a lowering that lays out anew does so itself.
* An operator is quantized as a whole or not at all: either all its activations, in and out, have
  a `Quant`, or none has. ``quantize`` and ``dequantize`` stand explicitly at the borders.
* Activations are quantized to int8 per tensor, range [-128, 127], or to int16 (LiteRT alone takes
  those: symmetric, beside int8 weights). Weights of ``conv`` and
  ``linear`` are quantized symmetrically (zero point 0, [-127, 127]) per output channel or per
  tensor, and their `data` are then the integers. (Weights of old uint8 files have a zero point,
  per tensor; `symmetric` is for runtimes without kernels for them.) A bias is float32; where the
  runtime wants int32 its scale is ``input scale * weight scale``.
* ``conv``, ``conv_transpose`` and ``linear`` may also have a quantized weight and be float
  otherwise. Such a weight is int8 or int4 (``data`` int8 all the same), and that of a ``linear``
  may have a scale for every few inputs. A ``linear`` may have its input rounded at run time too
  (attribute ``dynamic``).
* ``reshape``, ``permute``, ``slice``, ``concat``, ``pad``, ``expand`` and ``max_pool`` move
  values and do not change them: quantized inputs and output share one scale and zero point.
* A clamp (ReLU, ReLU6, hard-tanh) that follows ``conv``, ``linear``, ``add``, ``sub`` or ``mul``
  as the only reader is part of it: attribute ``clamp`` = (lowest, highest), with infinities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UnsupportedOperator

__all__ = [
    "KINDS",
    "QUANTIZABLE",
    "VALUE_PRESERVING",
    "Dynamic",
    "Op",
    "Program",
    "Quant",
    "Tensor",
    "check_widths",
]

NO_CLAMP = (-math.inf, math.inf)

# kind: what it takes -> its attributes. Spatial attributes have one entry a spatial axis;
# `padding` entries are (before, after) pairs.
KINDS: dict[str, str] = {
    "conv": "x, weight (out, in/groups, *kernel), bias|None -> stride, padding, dilation, groups, "
    "clamp",
    "conv_transpose": "x, weight (in, out/groups, *kernel), bias|None -> stride, padding, "
    "output_padding, dilation, groups, clamp",
    "linear": "x (..., in), weight (out, in), bias|None -> clamp, dynamic (a Dynamic, or missing)",
    "matmul": "a, b (numpy matmul semantics)",
    "add": "a, b (numpy broadcasting) -> clamp",
    "sub": "a, b -> clamp",
    "mul": "a, b -> clamp",
    "div": "a, b",
    "pow": "a, b",
    "maximum": "a, b",
    "minimum": "a, b",
    "clamp": "x -> clamp",
    "neg": "x",
    "abs": "x",
    "exp": "x",
    "log": "x",
    "sqrt": "x",
    "rsqrt": "x",
    "erf": "x",
    "sin": "x",
    "cos": "x",
    "floor": "x",
    "sigmoid": "x",
    "tanh": "x",
    "silu": "x",
    "gelu": "x -> approximate ('none' or 'tanh')",
    "hardswish": "x",
    "hardsigmoid": "x",
    "elu": "x -> alpha",
    "leaky_relu": "x -> slope",
    "softplus": "x",
    "softmax": "x -> axis",
    "log_softmax": "x -> axis",
    "layer_norm": "x, weight|None, bias|None (over the last axes) -> axes (count), eps",
    "max_pool": "x -> kernel, stride, padding, dilation",
    "avg_pool": "x -> kernel, stride, padding, count_include_pad",
    "mean": "x -> axes, keepdim",
    "sum": "x -> axes, keepdim",
    "amax": "x -> axes, keepdim",
    "amin": "x -> axes, keepdim",
    "concat": "x... -> axis",
    "pad": "x -> padding (a pair for every axis), mode ('constant', 'reflect' or 'edge'), value",
    "slice": "x -> start, stop, step (one entry for every axis; step >= 1)",
    "reshape": "x -> shape",
    "permute": "x -> order",
    "expand": "x -> shape",
    "gather": "table, indices (rows of axis 0)",
    "resize": "x -> size, mode ('nearest' or 'linear'), align_corners",
    "cast": "x -> dtype",
    "quantize": "x float -> int8 (the output's Quant)",
    "dequantize": "x int8 -> float",
}

# Kinds that may be quantized; the others are always float.
QUANTIZABLE = frozenset(
    {
        "conv", "conv_transpose", "linear", "matmul", "add", "sub", "mul", "clamp", "sigmoid",
        "tanh", "hardswish", "leaky_relu", "softmax", "max_pool", "avg_pool", "mean", "concat",
        "pad", "slice", "reshape", "permute", "expand",
    }
)  # fmt: skip

# Kinds whose quantized output has its input's scale and zero point.
VALUE_PRESERVING = frozenset({"reshape", "permute", "slice", "concat", "pad", "expand", "max_pool"})


@dataclass(frozen=True, eq=False)
class Quant:
    """How integers stand for real numbers: ``real = scale * (integer - zero_point)``.

    Attributes:
        scale: float32, shape () per tensor, (channels,) along `axis`, or (out, in / group) with
            `axis` None: one for every `group` inputs of a linear's weight.
        zero_point: int32, the same shape.
        dtype: ``"int8"``; ``"int4"`` of weights; ``"int16"`` of activations.
        axis: the channel axis, None per tensor.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    dtype: str = "int8"
    axis: int | None = None

    def along(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The scale or zero point, to be broadcast against the quantized tensor of that shape."""
        if self.axis is not None:
            return values.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])
        for i, size in enumerate(values.shape):
            values = values.repeat(shape[i] // size, i)
        return values

    def same(self, other: Quant) -> bool:
        """Whether both stand for the same real numbers."""
        return (
            self.dtype == other.dtype
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True)
class Dynamic:
    """How an input is rounded at run time: see `edgewise.math.affine.fake_quantize_dynamic`."""

    low: int
    high: int
    axis: int
    group: int | None = None

    def grids(self, shape: tuple[int, ...]) -> int:
        """How many grids an input of this shape has."""
        if self.group is not None:
            return math.prod(shape) // self.group
        return math.prod(shape[:-1]) if self.axis == -1 else shape[self.axis]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value of a Program.

    Attributes:
        name: unique within the Program.
        shape: integers, batch included.
        dtype: of the real numbers that it holds: ``"float32"``, or an integer or bool dtype for
            indices and masks. A quantized tensor holds real numbers: its dtype is ``"float32"``.
        quant: how it is stored when quantized.
        data: a constant's values: integers where `quant` is set, else of `dtype`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    quant: Quant | None = None
    data: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Op:
    """One operator: its kind (a key of `KINDS`), inputs, output and attributes.

    `layer` is the name the user knows: the module that owns the weight, else the node's name.
    """

    kind: str
    inputs: tuple[Tensor | None, ...]
    output: Tensor
    attrs: dict[str, Any] = field(default_factory=dict)
    layer: str = ""


def check_widths(op: Op, runtime: str) -> None:
    """Refuse widths that a runtime has no kernels for: what flows is int8, weights int8 or int4.

    Raises:
        UnsupportedOperator: another width; names it and the layer.
    """
    for tensor in (*op.inputs, op.output):
        if tensor is None or tensor.quant is None:
            continue
        if tensor.quant.dtype not in (("int8",) if tensor.data is None else ("int8", "int4")):
            raise UnsupportedOperator(
                f"{runtime} takes int8, found {tensor.quant.dtype} at {op.kind} "
                f"'{op.layer or op.output.name}': quantize that layer to int8"
            )


@dataclass(frozen=True, eq=False)
class Program:
    """Operators in an order in which they can run. Inputs and outputs are float (or integer)."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]

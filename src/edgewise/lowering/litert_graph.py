"""A TFLite graph under way: values, the tensors that hold them, and how they are laid out.

Every value keeps the axes of the Program (N, C, H, W); `strides` says where they lie in the
tensor that holds them, mostly channels-last. Operators ask for the frame that they need, and
memory is reordered only where it differs; constants are reordered here, once and for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .program import NO_CLAMP, Quant, Tensor
from .strides import (
    Axes,
    Frame,
    axes_of,
    complete,
    frame_of,
    held_shape,
    natural,
    reorder,
    reshape,
)
from .tflite_file import TfliteFile

__all__ = ["Graph", "Value", "activation"]

LARGEST_FLOAT16 = 65504.0
LEAST_HALVED = 64  # numbers; the DEQUANTIZE operator of a smaller constant costs what it saves

IMAGE_RANK = 4
PIXELS = Quant(np.float32(1), np.int32(0), "uint8")  # numbers that stand for themselves

# What a fused activation or an operator of that name clamps to.
ACTIVATIONS = {
    "NONE": NO_CLAMP,
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}

FUSING = frozenset({"ADD", "SUB", "MUL", "DIV"})  # of the operators on pairs, those with options
SCALING = frozenset({"ADD", "SUB"})  # those with kernels of int16 for scales that are powers of two


@dataclass(frozen=True, eq=False)
class Value:
    """Numbers with the axes of the Program, held by a tensor of the file, or a constant.

    Attributes:
        shape: sizes of the axes.
        axes: where they lie in memory (`strides`).
        held: the shape of the tensor that holds them.
        index: that tensor; None for a constant that no operator has asked for yet.
        data: a constant's numbers, of shape `shape`.
        least: no number is below it.
    """

    shape: tuple[int, ...]
    axes: Axes
    held: tuple[int, ...]
    index: int | None = None
    dtype: str = "float32"
    quant: Quant | None = None
    data: np.ndarray | None = None
    least: float = -math.inf

    @property
    def frame(self) -> Frame:
        """The frame it is held in, or the nearest that operators take."""
        frame = frame_of(self.axes, self.held)
        if frame is None or len(frame) > max(len(self.shape), IMAGE_RANK):
            return natural(self.axes)
        return frame


class Graph:
    """Adds operators to a `TfliteFile`, each with the layout it needs.

    Args:
        half: store large float constants as float16.
        unsigned: store what is int8 as uint8, all numbers moved by 128. Only TFLite's older
            kernels, those for uint8, take weights with a zero point.
    """

    def __init__(self, half: bool = False, unsigned: bool = False) -> None:
        self.file = TfliteFile()
        self.half = half
        self.unsigned = unsigned
        self.layer = ""  # begins the names of the tensors being written
        self._constants: dict[Any, int] = {}
        self._moves: dict[tuple[str, int, int], int] = {}
        self._kept: list[np.ndarray] = []  # their ids are keys of _constants
        self._count = 0

    # --- values ---------------------------------------------------------------------------

    def input(self, tensor: Tensor, name: str, frame: Frame) -> Value:
        """A graph input that the caller gives in this frame."""
        held = held_shape(tensor.shape, frame)
        quant = PIXELS if tensor.dtype == "uint8" else None
        index = self.file.tensor(name, held, tensor.dtype, quant)
        return Value(tensor.shape, axes_of(tensor.shape, frame), held, index, tensor.dtype, quant)

    def constant(
        self, data: np.ndarray, quant: Quant | None = None, dtype: str | None = None
    ) -> Value:
        """A constant, held in no frame until an operator asks for one."""
        frame = tuple(range(data.ndim))
        dtype = dtype or str(data.dtype)
        return Value(data.shape, axes_of(data.shape, frame), data.shape, None, dtype, quant, data)

    def scalar(self, number: float, dtype: str = "float32") -> Value:
        return self.constant(np.asarray(number, dtype))

    def numbers(self, values: Any) -> int:
        """The tensor of a small int32 constant: axes, sizes, paddings."""
        array = np.asarray(values, np.int32)
        key = (array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.file.tensor("numbers", array.shape, "int32", None, array)
        return self._constants[key]

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """The value with other axes; moves memory only where strides cannot say it."""
        shape = tuple(shape)
        if shape == value.shape:
            return value
        if value.data is not None:
            return self.constant(value.data.reshape(shape), value.quant, value.dtype)
        axes = reshape(value.axes, shape)
        if axes is None:
            value = self.arranged(value, tuple(range(len(value.shape))))
            axes = axes_of(shape, tuple(range(len(shape))))
        return replace(value, shape=shape, axes=axes)

    def permuted(self, value: Value, order: Sequence[int]) -> Value:
        """The value with its axes in another order; moves nothing."""
        if value.data is not None:
            return self.constant(value.data.transpose(order), value.quant, value.dtype)
        shape = tuple(value.shape[k] for k in order)
        return replace(value, shape=shape, axes=tuple(value.axes[k] for k in order))

    def lifted(self, value: Value, rank: int) -> Value:
        """The value with leading axes of size 1, as broadcasting has it."""
        return self.reshaped(value, (1,) * (rank - len(value.shape)) + value.shape)

    def arranged(self, value: Value, frame: Frame) -> Value:
        """The value held in exactly this frame."""
        held = held_shape(value.shape, frame)
        axes = axes_of(value.shape, frame)
        if value.data is not None:
            return replace(value, held=held, axes=axes, index=self._stored(value, frame, held))
        have = frame_of(value.axes, value.held)
        read_as, order = reorder(value.axes, frame)
        if order != tuple(range(len(order))):
            if have is not None and _same_dimensions(have, frame):
                read_as, order = value.held, tuple(have.index(axis) for axis in frame)
            value = self._transposed(self.read(value, read_as), order)
        return replace(self.read(value, held), axes=axes)

    def read(self, value: Value, held: tuple[int, ...]) -> Value:
        """The value's memory read as this shape."""
        if value.held == held:
            return value
        return self._moved("RESHAPE", value, held, self.numbers(held), newShape=list(held))

    def _transposed(self, value: Value, order: tuple[int, ...]) -> Value:
        held = tuple(value.held[k] for k in order)
        return self._moved("TRANSPOSE", value, held, self.numbers(order))

    def _moved(
        self, operator: str, value: Value, held: tuple[int, ...], how: int, **options: Any
    ) -> Value:
        """The value held otherwise; written once for all that ask for the same."""
        key = (operator, value.index, how)
        if key not in self._moves:
            self._moves[key] = self._new(held, value.dtype, value.quant)
            self.file.operator(operator, [value.index, how], [self._moves[key]], **options)
        return replace(value, held=held, index=self._moves[key])

    def _stored(self, value: Value, frame: Frame, held: tuple[int, ...]) -> int:
        """The tensor of a constant in this frame, float16 behind a DEQUANTIZE when halved."""
        key = (id(value.data), frame)
        if key not in self._constants:
            self._kept.append(value.data)
            order = [axis for axis in frame if axis is not None]
            ones = tuple(k for k in range(value.data.ndim) if k not in order)
            data = value.data.transpose((*ones, *order)).reshape(held)
            self._constants[key] = self._written(data, value.dtype, value.quant)
        return self._constants[key]

    def _written(self, data: np.ndarray, dtype: str, quant: Quant | None) -> int:
        stored = quant.dtype if quant else dtype
        if stored == "int4":
            return self._new(data.shape, dtype, quant, _in_pairs(data))
        data = data.astype(stored, copy=False)
        if not self.half or stored != "float32" or data.size < LEAST_HALVED:
            return self._new(data.shape, dtype, quant, data)
        if np.abs(data).max() > LARGEST_FLOAT16:
            return self._new(data.shape, dtype, quant, data)
        halved = self._new(data.shape, "float16", None, data.astype(np.float16))
        index = self._new(data.shape, dtype, None)
        self.file.operator("DEQUANTIZE", [halved], [index])
        return index

    def _new(
        self,
        held: Sequence[int],
        dtype: str,
        quant: Quant | None,
        data: np.ndarray | None = None,
    ) -> int:
        self._count += 1
        name = f"{self.layer};{self._count}"
        if self.unsigned and quant is not None and quant.dtype == "int8":
            quant = replace(quant, dtype="uint8", zero_point=quant.zero_point + np.int32(128))
            data = None if data is None else (data.astype(np.int16) + 128).astype(np.uint8)
        return self.file.tensor(name, held, quant.dtype if quant else dtype, quant, data)

    def finished(self, value: Value, frame: Frame, taken: set[int]) -> Value:
        """The value as an output: in this frame, in a tensor that is not among `taken`."""
        value = self.arranged(value, frame)
        if value.data is None and value.index not in taken:
            return value
        index = self._new(value.held, value.dtype, value.quant)
        options = {"newShape": list(value.held)}
        self.file.operator("RESHAPE", [value.index, self.numbers(value.held)], [index], **options)
        return replace(value, index=index, data=None)

    # --- operators ------------------------------------------------------------------------

    def emit(
        self,
        operator: str,
        inputs: Sequence[Value | int],
        shape: Sequence[int],
        frame: Frame,
        quant: Quant | None = None,
        dtype: str = "float32",
        features: Sequence[str] = (),
        **options: Any,
    ) -> Value:
        """An operator whose output, of this shape, is held in this frame."""
        shape = tuple(shape)
        held = held_shape(shape, frame)
        indices = [i if isinstance(i, int) else i.index for i in inputs]
        index = self._new(held, dtype, quant)
        self.file.operator(operator, indices, [index], features, **options)
        return Value(shape, axes_of(shape, frame), held, index, dtype, quant)

    def unary(
        self, operator: str, x: Value, quant: Quant | None = None, dtype: str = "", **options: Any
    ) -> Value:
        """An operator on each number: whatever the layout, it stays."""
        if x.data is not None:
            x = self.arranged(x, tuple(range(len(x.shape))))
        dtype = dtype or x.dtype
        index = self._new(x.held, dtype, quant)
        self.file.operator(operator, [x.index], [index], **options)
        return replace(x, index=index, dtype=dtype, quant=quant, data=None)

    def binary(
        self,
        operator: str,
        a: Value,
        b: Value | float,
        quant: Quant | None = None,
        clamp: tuple[float, float] = NO_CLAMP,
        features: Sequence[str] = (),
    ) -> Value:
        """An operator on pairs of numbers, shapes broadcast; `clamp` is fused where it can be."""
        b = b if isinstance(b, Value) else self.scalar(b, a.dtype)
        shape = np.broadcast_shapes(a.shape, b.shape)
        a, b = self.lifted(a, len(shape)), self.lifted(b, len(shape))
        leader = max((a, b), key=lambda v: (v.data is None, math.prod(v.shape)))
        frame = leader.frame
        if any(n != 1 and k not in frame for k, n in enumerate(shape)):
            frame = complete(frame, len(shape))
        inputs = [self._operand(v, frame) for v in (a, b)]
        fused, rest = activation(clamp, quant)
        options = {"fusedActivationFunction": fused} if operator in FUSING else {}
        if operator in SCALING and quant is not None and quant.dtype == "int16":
            options["potScaleInt16"] = False  # the kernel for any scale
        y = self.emit(operator, inputs, shape, frame, quant, leader.dtype, features, **options)
        return y if rest is None else self.clamped(y, rest)

    def _operand(self, value: Value, frame: Frame) -> int:
        """A constant operand needs no leading dimensions of size 1."""
        if value.data is not None:
            while len(frame) > 1 and (frame[0] is None or value.shape[frame[0]] == 1):
                frame = frame[1:]
        return self.arranged(value, frame).index

    def clamped(self, x: Value, clamp: tuple[float, float]) -> Value:
        """The value clamped, as float where its grid does not imply the clamp already."""
        if activation(clamp, x.quant) == ("NONE", None):
            return x
        y = self.dequantized(x)
        fused, rest = activation(clamp, None)
        if rest is None:
            return self.quantized(self.unary(fused, y), x.quant)
        low, high = clamp
        if low > -math.inf:
            y = self.binary("MAXIMUM", y, low)
        if high < math.inf:
            y = self.binary("MINIMUM", y, high)
        return self.quantized(y, x.quant)

    def quantized(self, x: Value, quant: Quant | None) -> Value:
        """The value on another grid; as it is when `quant` is None."""
        return x if quant is None else self.unary("QUANTIZE", x, quant)

    def requantized(self, x: Value, quant: Quant, clamp: tuple[float, float] = NO_CLAMP) -> Value:
        """A quantized value on another grid: zero added, the clamp fused.

        XNNPACK's QUANTIZE knows the ratio of two grids to 8 bits only, its ADD to 20.
        """
        if x.quant.same(quant) and activation(clamp, quant) == ("NONE", None):
            return x
        zero = self.constant(
            np.reshape(x.quant.zero_point, (1,)).astype(np.int8), x.quant, "float32"
        )
        return self.binary("ADD", x, zero, quant, clamp)

    def dequantized(self, x: Value) -> Value:
        """The value as float; as it is when it is not quantized."""
        if x.quant is None:
            return x
        if x.data is not None:
            real = np.float32(x.quant.scale) * (x.data - x.quant.zero_point.astype(np.float32))
            return self.constant(real.astype(np.float32))
        return self.unary("DEQUANTIZE", x, dtype="float32")


def _in_pairs(integers: np.ndarray) -> np.ndarray:
    """Two integers of 4 bits in a byte, the first one low."""
    nibbles = integers.astype(np.int8).view(np.uint8).ravel() & 15
    nibbles = np.pad(nibbles, (0, nibbles.size % 2))
    return nibbles[::2] | nibbles[1::2] << 4


def activation(
    clamp: tuple[float, float], quant: Quant | None
) -> tuple[str, tuple[float, float] | None]:
    """The fused activation that clamps so, and what is left to clamp when none does.

    On a grid, clamps are compared by the integers that they leave: what the grid's own limits
    imply needs no activation.
    """
    limits = _limits(clamp, quant)
    for name, known in ACTIVATIONS.items():
        if _limits(known, quant) == limits:
            return name, None
    return "NONE", clamp


def _limits(clamp: tuple[float, float], quant: Quant | None) -> tuple[float, float]:
    if quant is None:
        return clamp
    ends = np.iinfo(quant.dtype)
    low, high = (
        np.clip(np.rint(limit / np.float64(quant.scale)) + quant.zero_point, ends.min, ends.max)
        for limit in clamp
    )
    return float(low), float(high)


def _same_dimensions(a: Frame, b: Frame) -> bool:
    return len(a) == len(b) and set(a) == set(b) and len(set(a)) == len(a)

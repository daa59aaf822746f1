"""The values that flow through an ONNX graph while it is turned into torch operators.

* `torch.Tensor`: what the exported graph computes.
* `Constant`: an initializer, both as the module's parameter or buffer and as numbers.
* `np.ndarray`: numbers known while exporting: constants, and sizes computed from shapes. Where the
  batch size is in them, their dtype is object and they hold `torch.SymInt`s. Arithmetic on them
  leaves nothing in the graph.
* `Stored`: a tensor of integers that stand for real numbers; kept as the real numbers, on the
  grid, until something asks for the integers.
* a list: a sequence of any of these; None: left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from ...math.affine import fake_quantize

__all__ = [
    "Constant",
    "Grid",
    "Stored",
    "as_array",
    "as_tensor",
    "dtype_of",
    "known",
    "numbers_of",
    "outside",
    "symbolic",
    "typed",
]


@dataclass(frozen=True, eq=False)
class Constant:
    """An initializer: `numbers` and `tensor` are the same, the latter an attribute of the module.

    The numbers of bfloat16 are float32, since numpy has no such type.
    """

    numbers: np.ndarray
    tensor: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Constant:
        """A constant of its own; outside of any export, where tensors have numbers."""
        return cls(numbers_of(tensor), tensor)

    @property
    def trained(self) -> bool:
        """Whether it is a weight rather than a setting."""
        return isinstance(self.tensor, torch.nn.Parameter)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where integers lie among the real numbers, as `fake_quantize` takes it.

    Attributes:
        scale, zero_point: float32 and int32, shape () or (channels,) along `axis`; 8-bit grids are
            moved to signed ones, so that `zero_point` is the file's less `offset`.
        dtype: of the integers in the file.
        offset: the file's integer less ours.
        key: equal for two grids that are the same.
    """

    scale: torch.Tensor
    zero_point: torch.Tensor
    low: int
    high: int
    axis: int | None
    dtype: torch.dtype
    offset: int
    key: object

    def snap(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest real numbers on the grid (float32)."""
        x = typed(x, torch.float32)
        return fake_quantize(x, self.scale, self.zero_point, self.low, self.high, self.axis)

    def along(self, value: torch.Tensor, ndim: int) -> torch.Tensor:
        if self.axis is None:
            return value
        shape = [1] * ndim
        shape[self.axis] = -1
        return value.reshape(shape)


@dataclass(frozen=True, eq=False)
class Stored:
    """Integers in the file, here the real numbers (float32, on the grid) that they stand for."""

    real: torch.Tensor
    grid: Grid

    def integers(self) -> torch.Tensor:
        """What the file has here."""
        scale = self.grid.along(self.grid.scale, self.real.ndim)
        zero_point = self.grid.along(self.grid.zero_point, self.real.ndim)
        steps = torch.round(self.real / scale) + (zero_point + self.grid.offset)
        return steps.to(self.grid.dtype)


def typed(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in this dtype, without an operator where it has it already."""
    return x if x.dtype == dtype else x.to(dtype)


def symbolic(value: Any) -> bool:
    """Whether a size depends on the batch."""
    return isinstance(value, torch.SymInt | torch.SymFloat)


def known(value: Any) -> bool:
    """Whether the numbers are known while exporting."""
    return isinstance(value, Constant | np.ndarray)


def as_array(value: Constant | np.ndarray) -> np.ndarray:
    """Known numbers as an array."""
    return value if isinstance(value, np.ndarray) else value.numbers


def numbers_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's elements, in its own memory where numpy has the type."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def as_tensor(value: Any) -> Any:
    """The value as a tensor of the graph; None and lists stay what they are."""
    if isinstance(value, Constant):
        return value.tensor
    if isinstance(value, Stored):
        return value.integers()
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype != object:
        return torch.from_numpy(value.copy())
    kind = (
        torch.float32
        if any(isinstance(v, torch.SymFloat | float) for v in value.flat)
        else (torch.int64)
    )
    parts = [torch.scalar_tensor(v, dtype=kind) for v in value.flat]
    return torch.stack(parts).reshape(value.shape) if parts else torch.empty(value.shape)


@contextmanager
def outside() -> Iterator[None]:
    """Compute with numbers at once, though an export may be under way."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


def dtype_of(value: Any) -> torch.dtype:
    """The dtype that a value has in the file."""
    if isinstance(value, Stored):
        return value.grid.dtype
    if isinstance(value, Constant):
        return value.tensor.dtype
    if isinstance(value, np.ndarray):
        return torch.int64 if value.dtype == object else getattr(torch, str(value.dtype))
    return value.dtype

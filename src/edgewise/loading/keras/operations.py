"""Keras' functions on tensors as they stand in a functional model: ``x + y``, ``ops.mean(x)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import ACTIVATIONS
from .layer import Config, Layer

__all__ = ["operation"]

# Class name -> torch, given the call's arguments; `c` is the configuration.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda c, a, b: a + b,
    "Subtract": lambda c, a, b: a - b,
    "Multiply": lambda c, a, b: a * b,
    "Divide": lambda c, a, b: a / b,
    "TrueDivide": lambda c, a, b: a / b,
    "Power": lambda c, a, b: a**b,
    "Maximum": lambda c, a, b: _extreme(torch.maximum, torch.clamp_min, a, b),
    "Minimum": lambda c, a, b: _extreme(torch.minimum, torch.clamp_max, a, b),
    "Matmul": lambda c, a, b: torch.matmul(a, b),
    "Negative": lambda c, x: -x,
    "Abs": lambda c, x: torch.abs(x),
    "Absolute": lambda c, x: torch.abs(x),
    "Exp": lambda c, x: torch.exp(x),
    "Log": lambda c, x: torch.log(x),
    "Sqrt": lambda c, x: torch.sqrt(x),
    "Rsqrt": lambda c, x: torch.rsqrt(x),
    "Square": lambda c, x: x * x,
    "Clip": lambda c, x: torch.clamp(x, c["x_min"], c["x_max"]),
    "Mean": lambda c, x: x.mean(_axes(c, x), keepdim=_kept(c)),
    "Sum": lambda c, x: x.sum(_axes(c, x), keepdim=_kept(c)),
    "Max": lambda c, x: torch.amax(x, _axes(c, x), keepdim=_kept(c)),
    "Min": lambda c, x: torch.amin(x, _axes(c, x), keepdim=_kept(c)),
    "Reshape": lambda c, x: x.reshape(-1, *list(c["newshape"])[1:]),
    "Transpose": lambda c, x: x.permute(*(c.get("axes") or range(x.ndim)[::-1])),
    "Squeeze": lambda c, x: x.squeeze(c["axis"]),
    "ExpandDims": lambda c, x: x.unsqueeze(c["axis"]),
    "Concatenate": lambda c, xs: torch.cat(xs, c.get("axis", 0)),
    "Softmax": lambda c, x: torch.softmax(x, c.get("axis", -1)),
    "GetItem": lambda c, x, key: x[tuple(key) if isinstance(key, list) else key],
    "LeakyRelu": lambda c, x: F.leaky_relu(x, c.get("negative_slope", 0.2)),
}  # fmt: skip

NAMED = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu",
    "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Softplus": "softplus",
    "Softsign": "softsign",
}  # fmt: skip


def operation(c: Config) -> nn.Module:
    """The function as a module without parameters.

    Raises:
        ModelError: one that is not known.
    """
    if c.class_name in NAMED:
        act = ACTIVATIONS[NAMED[c.class_name]]
        return Layer(lambda p, x: act(x))
    compute = OPERATIONS.get(c.class_name)
    if compute is None:
        raise c.fail(f"the operation '{c.class_name}' of keras.ops is not supported")
    return Layer(lambda p, *args, **kwargs: compute(c, *args, **kwargs))


def _extreme(both: Callable, one: Callable, a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return both(a, b)
    return one(a, b) if isinstance(a, Tensor) else one(b, a)


def _axes(c: Config, x: Tensor) -> list[int]:
    axis = c.get("axis")
    return list(range(x.ndim)) if axis is None else [axis] if isinstance(axis, int) else list(axis)


def _kept(c: Config) -> bool:
    return bool(c.get("keepdims", False))

"""Operators that work element by element: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .file import DTYPES
from .rows import Op, host, row
from .values import Constant, Stored, as_array, as_tensor, dtype_of, known, outside, typed

__all__: list[str] = []

UNARY: dict[str, Callable] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin,
    "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "HardSwish": F.hardswish, "IsNaN": torch.isnan, "Log": torch.log,
    "Mish": F.mish, "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal,
    "Relu": F.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign,
    "Sin": torch.sin, "Sinh": torch.sinh, "Softplus": F.softplus, "Softsign": F.softsign,
    "Sqrt": torch.sqrt, "Tan": torch.tan, "Tanh": torch.tanh,
}  # fmt: skip
# torch computes these for few integer types; int64 holds all but the largest of them.
BINARY: dict[str, Callable] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "And": torch.logical_and,
    "Or": torch.logical_or, "Xor": torch.logical_xor, "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor, "Equal": torch.eq,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
}  # fmt: skip
WIDE = {torch.uint16: torch.int64, torch.uint32: torch.int64, torch.uint64: torch.int64}
HOST_BINARY: dict[str, Callable] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Equal": np.equal,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "And": np.logical_and, "Or": np.logical_or,
}  # fmt: skip


def widened(function: Callable, *tensors: torch.Tensor) -> torch.Tensor:
    """Run on int64 where torch has no kernel for the type, and give the type back."""
    kind = tensors[0].dtype
    if kind not in WIDE:
        return function(*tensors)
    result = function(*(t.to(WIDE[t.dtype]) if t.dtype in WIDE else t for t in tensors))
    return result if result.dtype == torch.bool else result.to(kind)


def _unary(function: Callable) -> Callable:
    return lambda op, x: widened(function, x)


for _kind, _function in UNARY.items():
    row(_kind)(_unary(_function))


def operands(a: Any, b: Any) -> tuple[Any, Any]:
    """Two operands as tensors, or one a number where it is a single known one (no weight)."""

    def is_number(value: Any, other: Any) -> bool:
        if not known(value) or known(other) or (isinstance(value, Constant) and value.trained):
            return False
        array = as_array(value)
        rank = other.real.ndim if isinstance(other, Stored) else other.ndim
        return math.prod(array.shape) == 1 and len(array.shape) <= rank

    def number(value: Any) -> Any:
        return as_array(value).reshape(-1)[0].item()

    if isinstance(b, np.ndarray) and b.dtype == object:
        return as_tensor(a), as_tensor(b)
    if is_number(b, a):
        return as_tensor(a), number(b)
    if isinstance(a, np.ndarray) and a.dtype == object:
        return as_tensor(a), as_tensor(b)
    if is_number(a, b):
        return number(a), as_tensor(b)
    return as_tensor(a), as_tensor(b)


def _both(function: Callable, a: Any, b: Any) -> torch.Tensor:
    """A function of two tensors of one type, of which one may be a number."""
    kind = a.dtype if isinstance(a, torch.Tensor) else b.dtype
    if kind in WIDE or (not isinstance(a, torch.Tensor) and function is not torch.mul):
        a, b = (v if isinstance(v, torch.Tensor) else torch.tensor(v, dtype=kind) for v in (a, b))
    if kind in WIDE:
        return widened(function, a, b)
    if function is torch.mul and not isinstance(a, torch.Tensor):
        a, b = b, a
    return function(a, b)


def _binary(function: Callable) -> Callable:
    return lambda op, a, b: _both(function, *operands(a, b))


for _kind, _function in BINARY.items():
    row(_kind, raw=True)(_binary(_function))
for _kind, _function in HOST_BINARY.items():
    host(_kind)(lambda op, a, b, _function=_function: _function(a, b))


@row("Div", raw=True)
def div(op, a, b):
    a, b = operands(a, b)
    kind = a.dtype if isinstance(a, torch.Tensor) else b.dtype
    if not isinstance(a, torch.Tensor):
        if a == 1 and kind.is_floating_point:
            return torch.reciprocal(b)
        a = torch.tensor(a, dtype=kind)
    if kind.is_floating_point:
        return torch.div(a, b)
    return widened(lambda x, y: torch.div(x, y, rounding_mode="trunc"), a, torch.as_tensor(b))


@host("Div")
def host_div(op, a, b):
    whole = all(v.dtype == object or v.dtype.kind in "iu" for v in (a, b))
    if not whole:
        return np.divide(a, b)
    if b.dtype != object and not b.all():
        raise op.fail("it divides sizes by zero")
    if a.dtype == object or b.dtype == object:
        return np.floor_divide(a, b)  # sizes are not negative
    return np.trunc(np.divide(a, b)).astype(a.dtype)


@row("Pow", raw=True)
def power(op, a, b):
    a, b = operands(a, b)
    if not isinstance(a, torch.Tensor):
        a = torch.tensor(a, dtype=torch.float32 if isinstance(a, float) else torch.int64)
    if not isinstance(b, torch.Tensor) and a.dtype.is_floating_point:
        return torch.pow(a, b)
    b = torch.as_tensor(b)
    if b.dtype != a.dtype:
        wide = torch.float64 if b.dtype.is_floating_point else torch.int64
        return torch.pow(a.to(wide), b.to(wide)).to(a.dtype)
    return torch.pow(a, b)


@row("Mod")
def modulo(op, a, b):
    return widened(torch.fmod if op.get("fmod", 0) else torch.remainder, a, b)


@row("BitShift")
def shift(op, a, b):
    if op["direction"] == "RIGHT":
        return widened(torch.bitwise_right_shift, a, b)
    return widened(torch.bitwise_left_shift, a, b)


@row("Sum")
def total(op, *xs):
    return reduce(torch.add, xs)


@row("Mean")
def mean(op, *xs):
    return reduce(torch.add, xs) / len(xs)


@row("Max")
def maximum(op, *xs):
    return reduce(lambda a, b: widened(torch.maximum, a, b), xs)


@row("Min")
def minimum(op, *xs):
    return reduce(lambda a, b: widened(torch.minimum, a, b), xs)


@host("Max")
def host_max(op, *xs):
    return reduce(np.vectorize(torch.sym_max, otypes=[object]), xs)


@host("Min")
def host_min(op, *xs):
    return reduce(np.vectorize(torch.sym_min, otypes=[object]), xs)


@row("Where")
def where(op, condition, a, b):
    return torch.where(condition, a, b)


@host("Where")
def host_where(op, condition, a, b):
    return np.where(condition, a, b)


@row("Clip", either=(1, 2), moves=True)
def clip(op, x, low=None, high=None):
    if op.version < 11:
        low, high = op.get("min"), op.get("max")
    bounds = [b.reshape(-1)[0].item() if isinstance(b, np.ndarray) else b for b in (low, high)]
    if not any(isinstance(b, torch.Tensor) for b in bounds):
        low, high = bounds
        if low is None and high is None:
            return x
        if x.dtype.is_floating_point:
            if (low, high) == (0.0, 6.0):
                return F.relu6(x)
            if low == 0.0 and (high is None or high > 3e38):
                return F.relu(x)
        return widened(lambda v: torch.clamp(v, low, high), x)
    # Where the bounds cross, the upper one counts.
    low, high = (None if b is None else torch.as_tensor(b, dtype=x.dtype) for b in bounds)
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@row("Celu")
def celu(op, x):
    return F.celu(x, op.get("alpha", 1.0))


@row("Elu")
def elu(op, x):
    return F.elu(x, op.get("alpha", 1.0))


@row("Selu")
def selu(op, x):
    alpha = op.get("alpha", 1.67326319217681884765625)
    gamma = op.get("gamma", 1.05070102214813232421875)
    return gamma * torch.where(x > 0, x, alpha * (torch.exp(x) - 1))


@row("Gelu")
def gelu(op, x):
    return F.gelu(x, approximate=op.get("approximate", "none"))


@row("Swish")
def swish(op, x):
    alpha = op.get("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@row("LeakyRelu")
def leaky_relu(op, x):
    return F.leaky_relu(x, op.get("alpha", 0.01))


@row("PRelu")
def prelu(op, x, slope):
    if x.ndim > 1 and slope.ndim == x.ndim - 1 and slope[0].numel() == 1 and x.dtype == slope.dtype:
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@row("ThresholdedRelu")
def thresholded_relu(op, x):
    return F.threshold(x, op.get("alpha", 1.0), 0.0)


@row("HardSigmoid")
def hard_sigmoid(op, x):
    alpha, beta = op.get("alpha", 0.2), op.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@row("Shrink")
def shrink(op, x):
    lambd, bias = op.get("lambd", 0.5), op.get("bias", 0.0)
    outside = torch.where(x > lambd, x - bias, torch.zeros_like(x))
    return torch.where(x < -lambd, x + bias, outside)


@row("IsInf")
def is_inf(op, x):
    result = torch.zeros_like(x, dtype=torch.bool)
    if op.get("detect_positive", 1):
        result = result | torch.isposinf(x)
    if op.get("detect_negative", 1):
        result = result | torch.isneginf(x)
    return result


@row("Cast", moves=False)
def cast(op, x):
    return typed(x, _dtype(op, op["to"]))


@row("CastLike", raw=True)
def cast_like(op, x, like):
    if known(x):
        with outside():
            return Constant.of(torch.from_numpy(as_array(x).copy()).to(dtype_of(like)))
    return typed(as_tensor(x), dtype_of(like))


def _dtype(op: Op, number: int) -> torch.dtype:
    if number not in DTYPES:
        raise op.fail("it casts to a type that no torch tensor has")
    return DTYPES[number]


@host("Cast")
def host_cast(op, x):
    dtype = _dtype(op, op["to"])
    if dtype == torch.bfloat16:
        return NotImplemented
    if x.dtype != object:
        return x.astype(str(dtype).removeprefix("torch."))
    if dtype.is_floating_point:
        return np.vectorize(torch.sym_float, otypes=[object])(x)
    return np.vectorize(torch.sym_int, otypes=[object])(x)


@row("BitCast")
def bit_cast(op, x):
    return x.view(_dtype(op, op["to"]))


@row("Identity", raw=True)
def identity(op, x):
    return x


@row("Dropout", either=(1, 2))
def dropout(op, x, ratio=None, training=None):
    """As at inference, which is what a Model holds; training mode cannot be asked for."""
    if isinstance(training, torch.Tensor) or (training is not None and bool(training.any())):
        raise op.fail("it is in training mode: export the model in eval mode")
    if op.wants(1):
        return x, torch.ones_like(x, dtype=torch.bool)
    return x


for _kind, _array in {
    "Neg": np.negative, "Sqrt": np.sqrt, "Floor": np.floor, "Ceil": np.ceil, "Not": np.logical_not,
    "Reciprocal": np.reciprocal, "Abs": np.abs, "Identity": lambda x: x,
}.items():  # fmt: skip
    host(_kind)(lambda op, x, _array=_array: _array(x))

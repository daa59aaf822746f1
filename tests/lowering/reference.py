"""What a Program computes: a plain interpreter, the oracle of every lowering's tests.

Real numbers are float64 throughout. A quantized value is kept as the real number that its
integer stands for: each operator dequantizes its inputs, computes in float64 and rounds its
result to the output's grid (half to even, then clipped). Biases are not rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edgewise.lowering.program import KINDS, Dynamic, Program, Quant, Tensor

__all__ = ["compute", "output_step", "real", "run", "to_grid", "to_integers", "values"]

LEVELS = {"int8": (-128, 127), "int16": (-32768, 32767), "int4": (-8, 7)}


def run(program: Program, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """The outputs for these inputs, in the dtypes that the Program says."""
    known = values(program, *inputs)
    return tuple(known[t.name].astype(t.dtype) for t in program.outputs)


def values(program: Program, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of the Program by name; real numbers as float64."""
    known = {}
    for tensor, array in zip(program.inputs, inputs, strict=True):
        assert array.shape == tensor.shape, (tensor.name, array.shape, tensor.shape)
        known[tensor.name] = _widen(np.asarray(array))
    for op in program.ops:
        taken = [
            None if t is None else real(t) if t.data is not None else known[t.name]
            for t in op.inputs
        ]
        result = compute(op.kind, taken, op.attrs)
        assert result.shape == op.output.shape, (op.kind, op.layer, result.shape, op.output.shape)
        known[op.output.name] = to_grid(result, op.output.quant)
    for tensor in program.outputs:
        if tensor.data is not None:
            known[tensor.name] = real(tensor)
    return known


def compute(kind: str, inputs: list[np.ndarray | None], attrs: dict[str, Any]) -> np.ndarray:
    """One operator on real numbers, nothing rounded."""
    attrs = dict(attrs)
    if (dynamic := attrs.pop("dynamic", None)) is not None:
        inputs = [rounded(inputs[0], dynamic), *inputs[1:]]
    result = np.asarray(_COMPUTE[kind](*inputs, **{k: v for k, v in attrs.items() if k != "clamp"}))
    if "clamp" in attrs:
        low, high = attrs["clamp"]
        result = np.clip(result, low, high).astype(result.dtype)
    return result


def rounded(x: np.ndarray, how: Dynamic) -> np.ndarray:
    """Real numbers on the grids that they span themselves."""
    shape = x.shape
    rows = x if how.group is None else x.reshape(*shape[:-1], -1, how.group)
    share = -1 if how.axis == -1 else tuple(i for i in range(x.ndim) if i != how.axis)
    low = np.minimum(rows.min(share, keepdims=True), 0)
    high = np.maximum(rows.max(share, keepdims=True), 0)
    if how.low == -how.high:
        scale = np.maximum(np.maximum(-low, high) / how.high, 1e-30)
        zero_point = np.zeros_like(scale)
    else:
        scale = np.maximum((high - low) / (how.high - how.low), 1e-30)
        zero_point = np.clip(np.rint(how.low - low / scale), how.low, how.high)
    steps = np.clip(np.rint(rows / scale) + zero_point, how.low, how.high) - zero_point
    return (steps * scale).reshape(shape)


def real(constant: Tensor) -> np.ndarray:
    """The real numbers (float64), or the indices or mask, that a constant holds."""
    data, quant = np.asarray(constant.data), constant.quant
    if quant is None:
        return _widen(data)
    blocks = data.reshape(*quant.scale.shape, -1) if quant.scale.ndim == 2 else data
    result = _along(quant.scale, quant, data.ndim) * (
        blocks.astype(np.float64) - _along(quant.zero_point, quant, data.ndim)
    )
    return result.reshape(data.shape)


def to_integers(array: np.ndarray, quant: Quant) -> np.ndarray:
    """The integers that stand nearest to real numbers (int64)."""
    low, high = LEVELS[quant.dtype]
    steps = np.rint(array / _along(quant.scale, quant, array.ndim))
    return np.clip(steps + _along(quant.zero_point, quant, array.ndim), low, high).astype(np.int64)


def to_grid(array: np.ndarray, quant: Quant | None) -> np.ndarray:
    """The real numbers of the grid that stand nearest; unchanged when there is no grid."""
    if quant is None:
        return array
    zero_point = _along(quant.zero_point, quant, array.ndim)
    return _along(quant.scale, quant, array.ndim) * (to_integers(array, quant) - zero_point)


def output_step(program: Program, output: Tensor) -> float | None:
    """The quantization step of an output that ``dequantize`` gives; None for a float output."""
    for op in program.ops:
        if op.output is output and op.kind == "dequantize":
            return float(op.inputs[0].quant.scale)
    return None


def _along(parameter: np.ndarray, quant: Quant, ndim: int) -> np.ndarray:
    parameter = np.asarray(parameter, np.float64)
    if parameter.ndim == 2:  # a scale for every few inputs of a weight
        return parameter[..., None]
    shape = [1] * ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    return parameter.reshape(shape)


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _torch(function: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    """`function` of tensors as a function of arrays."""

    def on_arrays(*arrays, **attrs):
        tensors = [None if a is None else torch.from_numpy(np.array(a, order="C")) for a in arrays]
        return function(*tensors, **attrs).numpy()

    return on_arrays


def _flat(padding) -> list[int]:
    """Pairs in axis order as F.pad takes them: the last axis first."""
    return [size for pair in reversed(padding) for size in pair]


def _conv(x, weight, bias, stride, padding, dilation, groups):
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
    return convolve(F.pad(x, _flat(padding)), weight, bias, stride, 0, dilation, groups)


def _conv_transpose(x, weight, bias, stride, padding, output_padding, dilation, groups):
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(stride) - 1]
    full = convolve(x, weight, bias, stride, 0, output_padding, groups, dilation)
    window = [
        slice(before, size - after)
        for (before, after), size in zip(padding, full.shape[2:], strict=True)
    ]
    return full[(..., *window)].contiguous()


def _max_pool(x, kernel, stride, padding, dilation):
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return pool(F.pad(x, _flat(padding), value=-torch.inf), kernel, stride, 0, dilation)


def _avg_pool(x, kernel, stride, padding, count_include_pad):
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    total = pool(F.pad(x, _flat(padding)), list(kernel), list(stride))
    if count_include_pad:
        return total
    return total / pool(F.pad(torch.ones_like(x), _flat(padding)), list(kernel), list(stride))


def _layer_norm(x, weight, bias, axes, eps):
    return F.layer_norm(x, x.shape[-axes:], weight, bias, eps)


def _resize(x, size, mode, align_corners):
    if mode == "linear":
        mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
        return F.interpolate(x, tuple(size), mode=mode, align_corners=align_corners)
    return F.interpolate(x, tuple(size), mode=mode)


def _pad(x, padding, mode, value=0.0):
    extra = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x, padding, mode, **extra)


def _slice(x, start, stop, step):
    return x[tuple(map(slice, start, stop, step))]


def _reduce(function):
    return lambda x, axes, keepdim: function(x, axis=tuple(axes), keepdims=keepdim)


def _unchanged(x):
    return x


_COMPUTE: dict[str, Callable[..., np.ndarray]] = {
    "conv": _torch(_conv),
    "conv_transpose": _torch(_conv_transpose),
    "linear": _torch(F.linear),
    "matmul": np.matmul,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "clamp": _unchanged,
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": _torch(torch.erf),
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "sigmoid": _torch(torch.sigmoid),
    "tanh": np.tanh,
    "silu": _torch(F.silu),
    "gelu": _torch(F.gelu),
    "hardswish": _torch(F.hardswish),
    "hardsigmoid": _torch(F.hardsigmoid),
    "elu": _torch(F.elu),
    "leaky_relu": _torch(lambda x, slope: F.leaky_relu(x, slope)),
    "softplus": _torch(F.softplus),
    "softmax": _torch(lambda x, axis: F.softmax(x, axis)),
    "log_softmax": _torch(lambda x, axis: F.log_softmax(x, axis)),
    "layer_norm": _torch(_layer_norm),
    "max_pool": _torch(_max_pool),
    "avg_pool": _torch(_avg_pool),
    "mean": _reduce(np.mean),
    "sum": _reduce(np.sum),
    "amax": _reduce(np.max),
    "amin": _reduce(np.min),
    "concat": lambda *arrays, axis: np.concatenate(arrays, axis),
    "pad": _pad,
    "slice": _slice,
    "reshape": lambda x, shape: x.reshape(shape),
    "permute": lambda x, order: x.transpose(order),
    "expand": np.broadcast_to,
    "gather": lambda table, indices: table[indices],
    "resize": _torch(_resize),
    "cast": lambda x, dtype: _widen(x.astype(dtype)),
    "quantize": _unchanged,
    "dequantize": _unchanged,
}
assert _COMPUTE.keys() == KINDS.keys()

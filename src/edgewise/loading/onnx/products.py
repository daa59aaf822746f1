"""Products, reductions, normalisations and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .elementwise import widened
from .rows import Op, row
from .shapes import axes_of
from .values import as_tensor, typed

__all__: list[str] = []


@row("MatMul")
def matmul(op, a, b):
    return torch.matmul(a, b)


@row("edgewise:Linear")
def linear(op, x, weight, bias=None):
    """What `prepare` makes of a product with a constant matrix."""
    return F.linear(x, weight, bias)


@row("Gemm")
def gemm(op, a, b, c=None):
    if op.get("transA", 0):
        a = a.t()
    alpha, beta = op.get("alpha", 1.0), op.get("beta", 1.0)
    if op.get("transB", 0):
        whole = c is not None and c.ndim == 1 and alpha == beta == 1.0 and c.shape[0] == b.shape[0]
        if whole or c is None:
            y = F.linear(a, b, c)
            return y if alpha == 1.0 else y * alpha
        b = b.t()
    y = torch.matmul(a, b)
    y = y if alpha == 1.0 else y * alpha
    return y if c is None else y + (c if beta == 1.0 else c * beta)


@row("Einsum")
def einsum(op, *xs):
    return torch.einsum(op["equation"].replace(" ", ""), *xs)


# --- reductions ---------------------------------------------------------------------------------


def _reduction(function: Any) -> Any:
    def run(op, x, axes=None):
        given = axes_of(op, axes, x.ndim)
        keep = bool(op.get("keepdims", 1))
        if not given:
            if op.get("noop_with_empty_axes", 0):
                return function(x[None], [0], False)
            given = list(range(x.ndim))
        return function(x, given, keep) if x.ndim else function(x[None], [0], False)

    return run


def _product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def _neutral(function: Any, dtype: torch.dtype) -> Any:
    """The extreme of no elements."""
    largest = function is torch.amax
    if dtype == torch.bool:
        return not largest
    if dtype.is_floating_point:
        return -math.inf if largest else math.inf
    return torch.iinfo(dtype).min if largest else torch.iinfo(dtype).max


def _extreme(function: Any) -> Any:
    def run(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
        if any(x.shape[a] == 0 for a in axes):
            sizes = [1 if i in axes else s for i, s in enumerate(x.shape)]
            result = torch.full(sizes, _neutral(function, x.dtype), dtype=x.dtype)
            return result if keep else result.squeeze(tuple(axes))
        if x.dtype == torch.bool:
            return function(x.to(torch.uint8), axes, keep).to(torch.bool)
        return widened(lambda v: function(v, axes, keep), x)

    return run


REDUCTIONS = {
    "ReduceSum": lambda x, a, k: torch.sum(x, a, k, dtype=x.dtype),
    "ReduceMean": lambda x, a, k: torch.mean(x, a, k),
    "ReduceMax": _extreme(torch.amax),
    "ReduceMin": _extreme(torch.amin),
    "ReduceProd": _product,
    "ReduceL1": lambda x, a, k: torch.sum(torch.abs(x), a, k, dtype=x.dtype),
    "ReduceL2": lambda x, a, k: torch.sqrt(torch.sum(x * x, a, k)),
    "ReduceSumSquare": lambda x, a, k: torch.sum(x * x, a, k, dtype=x.dtype),
    "ReduceLogSum": lambda x, a, k: torch.log(torch.sum(x, a, k)),
    "ReduceLogSumExp": lambda x, a, k: torch.logsumexp(x, a, k),
}
for _kind, _function in REDUCTIONS.items():
    row(_kind, numbers=(1,))(_reduction(_function))


def _arg(op: Op, x: torch.Tensor, largest: bool) -> torch.Tensor:
    axis, keep = op.axis(op.get("axis", 0), x.ndim), bool(op.get("keepdims", 1))
    last = bool(op.get("select_last_index", 0))
    if last:
        x = x.flip(axis)
    index = (torch.argmax if largest else torch.argmin)(x, axis, keepdim=keep)
    return x.shape[axis] - 1 - index if last else index


@row("ArgMax")
def argmax(op, x):
    return _arg(op, x, True)


@row("ArgMin")
def argmin(op, x):
    return _arg(op, x, False)


# --- softmax ------------------------------------------------------------------------------------


def _softmax(function: Any) -> Any:
    def run(op, x):
        if op.version >= 13:
            return function(x, op.axis(op.get("axis", -1), x.ndim))
        # Before 13 everything from the axis on was one row.
        axis = op.axis(op.get("axis", 1), x.ndim)
        if axis == x.ndim - 1:
            return function(x, axis)
        return function(x.flatten(axis), axis).reshape(x.shape)

    return run


row("Softmax")(_softmax(torch.softmax))
row("LogSoftmax")(_softmax(torch.log_softmax))


def _hardmax(x: torch.Tensor, axis: int) -> torch.Tensor:
    levels = torch.arange(x.shape[axis])
    levels = levels.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return (torch.argmax(x, axis, keepdim=True) == levels).to(x.dtype)


row("Hardmax")(_softmax(_hardmax))


# --- normalisations -----------------------------------------------------------------------------


@row("BatchNormalization")
def batch_norm(op, x, gain, shift, mean, variance):
    if op.get("training_mode", 0) or any(op.wants(i) for i in range(1, 5)):
        raise op.fail("it is in training mode: export the model in eval mode")
    if op.version < 9 and not op.get("spatial", 1):
        raise op.fail("it normalises each position by itself (spatial=0)")
    momentum, epsilon = 1 - op.get("momentum", 0.9), op.get("epsilon", 1e-5)
    return F.batch_norm(x, mean, variance, gain, shift, False, momentum, epsilon)


@row("InstanceNormalization")
def instance_norm(op, x, gain, shift):
    return F.instance_norm(x, weight=gain, bias=shift, eps=op.get("epsilon", 1e-5))


@row("LayerNormalization")
def layer_norm(op, x, gain, shift=None):
    axis = op.axis(op.get("axis", -1), x.ndim)
    epsilon, axes = op.get("epsilon", 1e-5), list(range(axis, x.ndim))
    kind = x.dtype
    if not op.wants(1) and not op.wants(2) and list(gain.shape) == list(x.shape[axis:]):
        return F.layer_norm(x, list(x.shape[axis:]), gain, shift, epsilon)
    x = x.to(torch.float32) if kind.itemsize < 4 else x
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    y = typed(centred * inverse, kind) * gain
    return (y if shift is None else y + shift), mean, inverse


@row("RMSNormalization")
def rms_norm(op, x, gain):
    axis = op.axis(op.get("axis", -1), x.ndim)
    axes, kind = list(range(axis, x.ndim)), x.dtype
    x = x.to(torch.float32) if kind.itemsize < 4 else x
    square = (x * x).mean(axes, keepdim=True)
    return typed(x * torch.rsqrt(square + op.get("epsilon", 1e-5)), kind) * gain


@row("GroupNormalization")
def group_norm(op, x, gain, shift):
    groups, epsilon = op["num_groups"], op.get("epsilon", 1e-5)
    if op.version >= 21 or gain.shape[0] == x.shape[1]:
        return F.group_norm(x, groups, gain, shift, epsilon)
    each = x.shape[1] // groups
    return F.group_norm(
        x, groups, gain.repeat_interleave(each), shift.repeat_interleave(each), epsilon
    )


@row("MeanVarianceNormalization")
def mean_variance_norm(op, x):
    axes = list(op.get("axes", (0, 2, 3)))
    mean = x.mean(axes, keepdim=True)
    square = (x * x).mean(axes, keepdim=True)
    return (x - mean) / (torch.sqrt(square - mean * mean) + 1e-9)


@row("LpNormalization")
def lp_norm(op, x):
    axis, p = op.axis(op.get("axis", -1), x.ndim), op.get("p", 2)
    norm = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@row("LRN")
def local_response_norm(op, x):
    size, alpha = op["size"], op.get("alpha", 1e-4)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    square = (x * x).unsqueeze(1)
    flat = [0, 0] * (x.ndim - 2) + [before, after]
    padded = F.pad(square, flat).flatten(3)
    sums = F.avg_pool2d(padded, (size, 1), 1) * size
    sums = sums.reshape(x.shape)
    return x / (op.get("bias", 1.0) + alpha / size * sums) ** op.get("beta", 0.75)


@row("Attention", raw=True)
def attention(op, q, k, v, *rest):
    """Plain attention in PyTorch's own form; every other kind as ONNX defines it."""
    q, k, v = map(as_tensor, (q, k, v))
    mask, past = (rest[0] if rest else None), [r for r in rest[1:] if r is not None]
    plain = (
        q.ndim == 4
        and not past
        and not any(op.wants(i) for i in (1, 2, 3))
        and not op.get("softcap", 0.0)
        and q.shape[1] == k.shape[1] == v.shape[1]
        and not ({"softmax_precision", "left_window_size", "right_window_size"}
                 & set(op.node.attributes))
        and q.dtype == torch.float32
        and not (op.get("is_causal", 0) and (mask is not None or q.shape[2] != k.shape[2]))
    )  # fmt: skip
    if mask is not None:
        mask_ = as_tensor(mask)
        plain = plain and mask_.dtype == torch.float32 and mask_.shape[-1] == k.shape[2]
    if not plain:
        return tuple(op.expanded([q, k, v, *rest]))
    return F.scaled_dot_product_attention(
        q, k, v, as_tensor(mask), is_causal=bool(op.get("is_causal", 0)), scale=op.get("scale")
    )


# --- signals ------------------------------------------------------------------------------------


def _cosine_window(op: Op, size: np.ndarray, parts: tuple[float, ...]) -> torch.Tensor:
    """A sum of cosines, by https://en.wikipedia.org/wiki/Window_function#Cosine-sum_windows."""
    from .file import DTYPES

    count = int(size.reshape(-1)[0])
    if not 0 <= count <= 2**20:
        raise op.fail(f"its window has {count} elements")
    turns = np.arange(count) * 2 * math.pi / (count if op.get("periodic", 1) else count - 1)
    values = sum((-1) ** i * part * np.cos(i * turns) for i, part in enumerate(parts))
    return torch.from_numpy(values).to(DTYPES[op.get("output_datatype", 1)])


for _kind, _parts in {
    "HannWindow": (0.5, 0.5),
    "HammingWindow": (25 / 46, 21 / 46),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}.items():
    row(_kind, numbers=(0,))(lambda op, size, _parts=_parts: _cosine_window(op, size, _parts))


@row("DFT", numbers=(1, 2))
def dft(op, x, length=None, axis=None):
    at = op.get("axis", 1) if op.version < 20 else -2 if axis is None else int(axis.reshape(-1)[0])
    at = op.axis(at, x.ndim)
    count = None if length is None else int(length.reshape(-1)[0])
    inverse, one_sided = bool(op.get("inverse", 0)), bool(op.get("onesided", 0))
    kind, x = x.dtype, x.double()  # rounding errors beside exact zeros
    values = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]
    if inverse and one_sided:
        return torch.fft.irfft(values, count, at).unsqueeze(-1).to(kind)
    result = (torch.fft.ifft if inverse else torch.fft.fft)(values, count, at)
    if one_sided:
        result = result.narrow(at, 0, result.shape[at] // 2 + 1)
    return torch.view_as_real(result.resolve_conj()).to(kind)


@row("STFT", numbers=(1, 3))
def stft(op, x, step, window=None, length=None):
    step = int(step.reshape(-1)[0])
    size = int(length.reshape(-1)[0]) if length is not None else window.shape[0]
    x = torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]
    frames = x.unfold(1, size, step)
    if window is not None:
        frames = frames * window
    result = torch.fft.fft(frames)
    if op.get("onesided", 1):
        result = result[..., : size // 2 + 1]
    return torch.view_as_real(result)

"""What each aten operator is in the words of a Program: one small function a row of `TABLE`.

A function takes the emitter and the operator's arguments by the names in aten's schema; tensor
arguments are Program tensors, sizes are integers. It emits one or more operators and returns the
result, or a tuple of results where the operator gives several.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import UnsupportedOperator
from .program import NO_CLAMP, Op, Tensor

__all__ = ["TABLE", "Emit"]

aten = torch.ops.aten
TABLE: dict[object, Callable] = {}


class Emit:
    """Collects operators; gives their outputs names and shapes."""

    def __init__(self):
        self.ops: list[Op] = []
        self._name = self._layer = ""
        self._result: object = None
        self._count = 0

    def begin(self, name: str, layer: str, result: object) -> None:
        """Start a node: its name, the user's name for it, and what it gives (tensors or tuple)."""
        self._name, self._layer, self._result, self._count = name, layer, result, 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the node's result."""
        return tuple(self._result.shape)

    def fail(self, why: str) -> UnsupportedOperator:
        return UnsupportedOperator(f"layer '{self._layer}' cannot be lowered: {why}")

    def constant(self, value: torch.Tensor | np.ndarray | float, name: str = "") -> Tensor:
        if isinstance(value, torch.Tensor):
            value = value.detach().contiguous()
            # numpy has no bfloat16: runtimes are given the numbers as float32.
            value = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
        array = np.asarray(value, order="C")
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return Tensor(name or self._next_name(), array.shape, str(array.dtype), None, array)

    def __call__(
        self, kind: str, *inputs: Tensor | None, shape=None, dtype=None, **attrs
    ) -> Tensor:
        """Emit an operator; `shape` (default: the node's result) and `dtype` of its output."""
        result = self._result if isinstance(self._result, torch.Tensor) else None
        shape = tuple(int(s) for s in (self.shape if shape is None else shape))
        if dtype is None:
            dtype = (
                str(result.dtype).removeprefix("torch.") if result is not None else inputs[0].dtype
            )
        if kind in ("reshape", "expand"):
            attrs["shape"] = shape
        elif kind == "cast":
            attrs["dtype"] = dtype
        output = Tensor(self._next_name(), shape, dtype)
        self.ops.append(Op(kind, inputs, output, attrs, self._layer))
        return output

    def operand(self, value: Tensor | float | int, like: Tensor) -> Tensor:
        """A tensor for an argument that may be a number."""
        if isinstance(value, Tensor):
            return value
        return self.constant(np.asarray(value, like.dtype))

    def _next_name(self) -> str:
        self._count += 1
        # A node's name has no slash, so that these are no other node's.
        return self._name if self._count == 1 else f"{self._name}/{self._count}"


def row(*targets):
    """Register a function for these operators."""

    def register(function):
        for target in targets:
            TABLE[target] = function
        return function

    return register


def pair(value, axes: int) -> tuple[int, ...]:
    """aten's per-axis lists may have one entry for all axes."""
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * axes if len(value) == 1 else value


# --- convolutions and products ------------------------------------------------------------------


@row(aten.conv1d.default, aten.conv2d.default, aten.conv1d.padding, aten.conv2d.padding)
def convolution(emit, input, weight, bias, stride, padding, dilation, groups):
    axes = len(weight.shape) - 2
    stride, dilation = pair(stride, axes), pair(dilation, axes)
    if padding == "valid":
        pads = ((0, 0),) * axes
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = tuple((t // 2, t - t // 2) for t in total)
    else:
        pads = tuple((p, p) for p in pair(padding, axes))
    return emit(
        "conv", input, weight, bias,
        stride=stride, padding=pads, dilation=dilation, groups=groups, clamp=NO_CLAMP,
    )  # fmt: skip


@row(aten.conv_transpose1d.default, aten.conv_transpose2d.input)
def transposed_convolution(
    emit, input, weight, bias, stride, padding, output_padding, groups, dilation
):
    axes = len(weight.shape) - 2
    return emit(
        "conv_transpose", input, weight, bias,
        stride=pair(stride, axes), padding=tuple((p, p) for p in pair(padding, axes)),
        output_padding=pair(output_padding, axes), dilation=pair(dilation, axes),
        groups=groups, clamp=NO_CLAMP,
    )  # fmt: skip


@row(aten.linear.default)
def linear(emit, input, weight, bias):
    return emit("linear", input, weight, bias, clamp=NO_CLAMP)


@row(aten.addmm.default)
def addmm(emit, self, mat1, mat2, beta, alpha):
    if beta != 1 or alpha != 1:
        raise emit.fail("addmm with beta or alpha other than 1")
    if _quantized_matrix(mat2) and self.data is not None and len(self.shape) == 1:
        return emit("linear", mat1, _transposed(mat2), self, clamp=NO_CLAMP)
    product = emit("matmul", mat1, mat2)
    return emit("add", product, self, clamp=NO_CLAMP)


@row(aten.matmul.default)
def matmul(emit, self, other):
    if _quantized_matrix(other) and len(self.shape) > 1:
        return emit("linear", self, _transposed(other), None, clamp=NO_CLAMP)
    return emit("matmul", self, other)


@row(aten.bmm.default, aten.mm.default)
def product(emit, self, mat2):
    return matmul(emit, self, mat2)


def _quantized_matrix(weight: Tensor) -> bool:
    return weight.quant is not None and weight.data is not None and len(weight.shape) == 2


def _transposed(weight: Tensor) -> Tensor:
    """A quantized matrix (in, out) as a linear's weight (out, in)."""
    quant = weight.quant
    axis = None if quant.axis is None else 1 - quant.axis
    quant = replace(quant, scale=quant.scale.T, zero_point=quant.zero_point.T, axis=axis)
    data = np.ascontiguousarray(weight.data.T)
    return Tensor(f"{weight.name}/t", data.shape, weight.dtype, quant, data)


@row(aten.scaled_dot_product_attention.default)
def attention(emit, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa):
    """softmax(q k^T * scale + mask) v, Vaswani et al. 2017 (arXiv:1706.03762), equation 1."""
    if enable_gqa and query.shape[1] != key.shape[1]:
        raise emit.fail("grouped-query attention: repeat the key and value heads in the model")
    q, k = query.shape[-2], key.shape[-2]
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    order = (*range(len(key.shape) - 2), len(key.shape) - 1, len(key.shape) - 2)
    turned = emit("permute", key, shape=[key.shape[i] for i in order], order=order)
    scores_shape = (*query.shape[:-1], k)
    scaled = emit("mul", query, emit.operand(scale, query), shape=query.shape, clamp=NO_CLAMP)
    scores = emit("matmul", scaled, turned, shape=scores_shape)
    if is_causal:
        mask = np.triu(np.full((q, k), np.float32(-1e9)), 1)
        attn_mask = emit.constant(mask)
    if attn_mask is not None:
        if attn_mask.dtype == "bool":
            if attn_mask.data is None:
                raise emit.fail("an attention mask of booleans that is computed: use a float mask")
            attn_mask = emit.constant(np.where(attn_mask.data, 0, -1e9).astype(np.float32))
        scores = emit("add", scores, attn_mask, shape=scores_shape, clamp=NO_CLAMP)
    weights = emit("softmax", scores, shape=scores_shape, axis=len(scores_shape) - 1)
    return emit("matmul", weights, value)


# --- element by element -------------------------------------------------------------------------


def _arithmetic(kind: str, swap: bool = False):
    def function(emit, self, other, alpha=1):
        other = emit.operand(other, self)
        self = emit.operand(self, other)
        if alpha != 1:
            factor = emit.operand(alpha, other)
            other = emit("mul", other, factor, shape=other.shape, clamp=NO_CLAMP)
        attrs = {"clamp": NO_CLAMP} if kind in ("add", "sub", "mul") else {}
        return emit(kind, *((other, self) if swap else (self, other)), **attrs)

    return function


for kind, packet in {"add": aten.add, "sub": aten.sub, "mul": aten.mul, "div": aten.div}.items():
    row(packet.Tensor, packet.Scalar)(_arithmetic(kind))
row(aten.rsub.Scalar, aten.rsub.Tensor)(_arithmetic("sub", swap=True))
row(aten.maximum.default)(_arithmetic("maximum"))
row(aten.minimum.default)(_arithmetic("minimum"))


@row(aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor)
def power(emit, self, exponent):
    if exponent == 2:
        return emit("mul", self, self, clamp=NO_CLAMP)
    return emit("pow", self, emit.operand(exponent, self))


@row(aten.square.default)
def square(emit, self):
    return emit("mul", self, self, clamp=NO_CLAMP)


@row(aten.reciprocal.default)
def reciprocal(emit, self):
    return emit("div", emit.operand(1, self), self)


def _unary(kind: str):
    return lambda emit, self: emit(kind, self)


for name in [
    "neg",
    "abs",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "erf",
    "sin",
    "cos",
    "floor",
    "sigmoid",
    "tanh",
    "silu",
    "hardswish",
    "hardsigmoid",
]:
    row(getattr(aten, name).default)(_unary(name))


def _clamp(emit, self, low, high):
    low = -math.inf if low is None else float(low)
    high = math.inf if high is None else float(high)
    return emit("clamp", self, clamp=(low, high))


row(aten.relu.default)(lambda emit, self: _clamp(emit, self, 0, None))
row(aten.relu6.default)(lambda emit, self: _clamp(emit, self, 0, 6))
row(aten.hardtanh.default)(
    lambda emit, self, min_val, max_val: _clamp(emit, self, min_val, max_val)
)
row(aten.clamp.default)(lambda emit, self, min, max: _clamp(emit, self, min, max))
row(aten.clamp_min.default)(lambda emit, self, min: _clamp(emit, self, min, None))
row(aten.clamp_max.default)(lambda emit, self, max: _clamp(emit, self, None, max))


@row(aten.gelu.default)
def gelu(emit, self, approximate):
    return emit("gelu", self, approximate=approximate)


@row(aten.elu.default)
def elu(emit, self, alpha, scale, input_scale):
    if scale != 1 or input_scale != 1:
        raise emit.fail("elu with a scale (SELU)")
    return emit("elu", self, alpha=float(alpha))


@row(aten.leaky_relu.default)
def leaky_relu(emit, self, negative_slope):
    return emit("leaky_relu", self, slope=float(negative_slope))


@row(aten.softplus.default)
def softplus(emit, self, beta, threshold):
    if beta != 1:
        raise emit.fail("softplus with beta other than 1")
    return emit("softplus", self)


@row(aten.softmax.int)
def softmax(emit, self, dim, dtype):
    return emit("softmax", self, axis=dim % len(self.shape))


@row(aten.log_softmax.int)
def log_softmax(emit, self, dim, dtype):
    return emit("log_softmax", self, axis=dim % len(self.shape))


# --- normalisation ------------------------------------------------------------------------------


@row(aten.batch_norm.default)
def batch_norm(emit, input, weight, bias, running_mean, running_var, eps, **_):
    """One that `fold` could not fold: a gain and a shift for each channel."""
    gain = (1.0 if weight is None else weight.data.astype(np.float64)) / np.sqrt(
        running_var.data.astype(np.float64) + eps
    )
    shift = (0.0 if bias is None else bias.data) - running_mean.data * gain
    shape = (-1, *[1] * (len(input.shape) - 2))
    gain, shift = (v.astype(np.float32).reshape(shape) for v in (gain, shift))
    scaled = emit("mul", input, emit.constant(gain), clamp=NO_CLAMP)
    return emit("add", scaled, emit.constant(shift), clamp=NO_CLAMP)


@row(aten.layer_norm.default)
def layer_norm(emit, input, normalized_shape, weight, bias, eps, **_):
    return emit("layer_norm", input, weight, bias, axes=len(normalized_shape), eps=eps)


@row(aten.group_norm.default)
def group_norm(emit, input, num_groups, weight, bias, eps, **_):
    """Wu & He 2018 (arXiv:1803.08494): a layer-norm over each group, then gain and shift."""
    grouped = (input.shape[0], num_groups, math.prod(input.shape[1:]) // num_groups)
    x = emit("reshape", input, shape=grouped)
    x = emit("layer_norm", x, None, None, shape=grouped, axes=1, eps=eps)
    x = emit("reshape", x)
    per_channel = (-1, *[1] * (len(input.shape) - 2))
    if weight is not None:
        x = emit("mul", x, emit.constant(weight.data.reshape(per_channel)), clamp=NO_CLAMP)
    if bias is not None:
        x = emit("add", x, emit.constant(bias.data.reshape(per_channel)), clamp=NO_CLAMP)
    return x


# --- pooling and reductions ---------------------------------------------------------------------


def _pool_padding(emit, x: Tensor, out, kernel, stride, padding, dilation) -> tuple:
    """(before, after) padding; `after` covers what ceil_mode reaches beyond the symmetric one."""
    pads = []
    for i in range(len(kernel)):
        reach = (out[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        size = x.shape[i - len(kernel)]
        after = max(padding[i], reach - size - padding[i])
        pads.append((padding[i], after))
    return tuple(pads)


@row(aten.max_pool1d.default, aten.max_pool2d.default)
def max_pool(emit, self, kernel_size, stride, padding, dilation, ceil_mode):
    axes = len(self.shape) - 2
    kernel, dilation = pair(kernel_size, axes), pair(dilation, axes)
    stride = pair(stride, axes) if stride else kernel
    pads = _pool_padding(
        emit, self, emit.shape[-axes:], kernel, stride, pair(padding, axes), dilation
    )
    return emit("max_pool", self, kernel=kernel, stride=stride, padding=pads, dilation=dilation)


@row(aten.avg_pool1d.default, aten.avg_pool2d.default)
def avg_pool(
    emit, self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=None
):
    axes = len(self.shape) - 2
    kernel, padding = pair(kernel_size, axes), pair(padding, axes)
    stride = pair(stride, axes) if stride else kernel
    pads = _pool_padding(emit, self, emit.shape[-axes:], kernel, stride, padding, (1,) * axes)
    uneven = any(before != after for before, after in pads)
    if divisor_override is not None or (uneven and count_include_pad and ceil_mode):
        raise emit.fail("average pooling with a divisor override or ceil_mode")
    return emit(
        "avg_pool", self,
        kernel=kernel, stride=stride, padding=pads, count_include_pad=count_include_pad,
    )  # fmt: skip


@row(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default)
def adaptive_avg_pool(emit, self, output_size):
    axes = len(output_size)
    spatial, out = self.shape[-axes:], emit.shape[-axes:]
    if all(o == 1 for o in out):
        reduced = tuple(range(len(self.shape) - axes, len(self.shape)))
        return emit("mean", self, axes=reduced, keepdim=True)
    if any(s % o for s, o in zip(spatial, out, strict=True)):
        raise emit.fail(f"adaptive pooling from {spatial} to {out}, which does not divide evenly")
    kernel = tuple(s // o for s, o in zip(spatial, out, strict=True))
    none = ((0, 0),) * axes
    return emit(
        "avg_pool", self, kernel=kernel, stride=kernel, padding=none, count_include_pad=True
    )


@row(aten.adaptive_max_pool2d.default)
def adaptive_max_pool(emit, self, output_size):
    spatial, out = self.shape[-2:], tuple(output_size)
    if any(s % o for s, o in zip(spatial, out, strict=True)):
        raise emit.fail(f"adaptive pooling from {spatial} to {out}, which does not divide evenly")
    kernel = tuple(s // o for s, o in zip(spatial, out, strict=True))
    shape = (*self.shape[:-2], *out)
    pooled = emit(
        "max_pool", self, shape=shape, dtype=self.dtype,
        kernel=kernel, stride=kernel, padding=((0, 0),) * 2, dilation=(1, 1),
    )  # fmt: skip
    return (pooled,)


def _reduce(kind: str):
    def function(emit, self, dim=None, keepdim=False, dtype=None):
        dim = (dim,) if isinstance(dim, int) else dim
        every = range(len(self.shape))
        axes = tuple(sorted(d % len(self.shape) for d in dim)) if dim else tuple(every)
        return emit(kind, self, axes=axes, keepdim=keepdim)

    return function


row(aten.mean.dim, aten.mean.default)(_reduce("mean"))
row(aten.sum.dim_IntList, aten.sum.default)(_reduce("sum"))
row(aten.amax.default)(_reduce("amax"))
row(aten.amin.default)(_reduce("amin"))

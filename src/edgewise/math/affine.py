"""Affine quantization: real numbers on an evenly spaced grid.

``real = scale * (integer - zero_point)``, Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877), equation 1.

`fake_quantize` is also the operator ``torch.ops.edgewise.fake_quantize``: the one way in which a
Model's graph says that a value is quantized on a grid that is known beforehand;
`fake_quantize_dynamic` takes the grid from the values themselves. aten's own ``fake_quantize_*``
are not used because they cannot be traced with gradients
(``aten.fake_quantize_per_tensor_affine_cachemask`` has no meta kernel in torch 2.13).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "affine_limits",
    "affine_parameters",
    "dequantize",
    "fake_quantize",
    "fake_quantize_dynamic",
    "fixed_point_parameters",
    "min_max_parameters",
    "power_of_two",
    "quantize",
    "symmetric_parameters",
]

# A range narrower than this holds one value; a smaller scale would overflow 1 / scale.
SMALLEST_SCALE = float(torch.finfo(torch.float32).tiny) * 256


def affine_limits(bits: int) -> tuple[int, int]:
    """The least and largest integer of a grid of 2 to 8 bits, as it lies in a byte.

    At the top of int8, so that what goes beyond the upper end saturates by itself, and a ReLU,
    whose zero is the least integer, is all that the lower end needs.
    """
    return 128 - 2**bits, 127


def affine_parameters(
    low: Tensor, high: Tensor, quant_min: int = -128, quant_max: int = 127
) -> tuple[Tensor, Tensor]:
    """Scale and zero point for the range [low, high], zero always exactly on the grid.

    arXiv:1712.05877, section 3: the range is widened to contain zero, and the zero point rounded
    to an integer. Here the scale is then widened until the grid reaches both ends again, so that
    no value of the range is clipped. That matters most for 8-bit images normalised to [-1, 1]:
    with the scale 2/255 each of their 256 levels lies exactly between two integers, and every
    runtime rounds the ties its own way.

    Args:
        low, high: float, any (equal) shape, low <= high.

    Returns:
        scale (float32) and zero_point (int32), shaped like `low`.
    """
    # In float64 so that a range up to float32's largest value does not overflow.
    low = torch.clamp(low.double(), max=0.0)
    high = torch.clamp(high.double(), min=0.0)
    span = ((high - low) / (quant_max - quant_min)).clamp(min=SMALLEST_SCALE)
    zero_point = torch.round(quant_min - low / span)
    # An end of the range that is not zero needs a step of its own.
    zero_point = zero_point.clamp(quant_min + (low < 0).double(), quant_max - (high > 0).double())
    below, above = zero_point - quant_min, quant_max - zero_point
    reach = torch.maximum(-low / below.clamp(min=1), high / above.clamp(min=1))
    return torch.maximum(reach, span * (1 - 1e-6)).float(), zero_point.to(torch.int32)


def min_max_parameters(
    low: Tensor, high: Tensor, quant_min: int, quant_max: int
) -> tuple[Tensor, Tensor]:
    """As `affine_parameters`, but no wider than the range and zero together.

    With few integers a step more costs much. Rounding the zero point then clips an end of the
    range, by no more than half a step, which is what every other number may lose.
    """
    low, high = low.double().clamp(max=0.0), high.double().clamp(min=0.0)
    scale = ((high - low) / (quant_max - quant_min)).clamp(min=SMALLEST_SCALE)
    return scale.float(), torch.round(quant_min - low / scale).to(torch.int32)


def symmetric_parameters(magnitude: Tensor, quant_max: int = 127) -> tuple[Tensor, Tensor]:
    """Scale and zero point (all zeros) for the range [-magnitude, magnitude].

    Args:
        magnitude: float >= 0, any shape.

    Returns:
        scale (float32) and zero_point (int32), shaped like `magnitude`.
    """
    scale = (magnitude.double() / quant_max).clamp(min=SMALLEST_SCALE).float()
    return scale, torch.zeros_like(scale, dtype=torch.int32)


def fixed_point_parameters(low: float, high: float) -> tuple[Tensor, Tensor]:
    """A power of two for a scale, and the zero point: 0, or -128 where nothing is negative.

    ``round(x * 2^f)``, signed or unsigned, in 8 bits; reaches both ends.
    """
    if low >= 0:
        scale, zero_point = max(high, 0.0) / 255, -128
    else:
        scale, zero_point = max(-low / 128, high / 127), 0
    scale = power_of_two(torch.tensor(max(scale, SMALLEST_SCALE)))
    return scale, torch.tensor(zero_point, dtype=torch.int32)


def power_of_two(scale: Tensor) -> Tensor:
    """The least powers of two that are not below the scales: fixed-point numbers, ``q * 2^-f``.

    Args:
        scale: float > 0, any shape.

    Returns:
        float32, the same shape; exact.
    """
    mantissa, exponent = torch.frexp(scale.double())
    return torch.ldexp(torch.ones_like(mantissa), exponent - (mantissa == 0.5).int()).float()


def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int, axis: int | None
) -> Tensor:
    """The integers (int32) nearest to `x`, half to even, clamped to [quant_min, quant_max].

    `scale` and `zero_point` have shape (), or (channels,) along `axis`; or, with `axis` None, as
    many axes as `x`, each of 1 or a divisor of the axis of `x`: one scale for each block of equal
    size, so that (out, in / 32) is a scale for every 32 inputs of each output.
    """
    scale, zero_point = _along(scale, x, axis), _along(zero_point, x, axis)
    integers = torch.round(x / scale) + zero_point
    return integers.clamp(quant_min, quant_max).to(torch.int32)


def dequantize(integers: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> Tensor:
    """The real numbers (float32) that the integers stand for; the shapes as in `quantize`."""
    return (integers - _along(zero_point, integers, axis)) * _along(scale, integers, axis)


@torch.library.custom_op("edgewise::fake_quantize", mutates_args=())
def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
) -> Tensor:
    """`dequantize(quantize(x))`: the nearest value on the grid, as float32, shaped like `x`.

    Shapes of scale and zero point as in `quantize`. The gradient with respect to `x` is 1 inside
    the range and 0 outside (the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
    That with respect to the scale is of Esser et al. 2020, "Learned Step Size Quantization"
    (arXiv:1902.08153), equation 3, times 1 / sqrt(numbers that share it * quant_max), section 2.2.
    """
    # Four passes in place; torch.fake_quantize_per_*_affine is not vectorised and takes ten times
    # as long.
    scale, zero_point = _along(scale, x, axis), _along(zero_point, x, axis)
    steps = torch.div(x, scale).round_()
    return steps.clamp_(quant_min - zero_point, quant_max - zero_point).mul_(scale)


@fake_quantize.register_fake
def _(x, scale, zero_point, quant_min, quant_max, axis=None):
    return torch.empty_like(x)


def _remember(ctx, inputs, output):
    x, scale, zero_point, quant_min, quant_max, axis = inputs
    ctx.learns = ctx.needs_input_grad[1]
    ctx.limits, ctx.axis = (quant_min, quant_max), axis
    if ctx.learns:
        ctx.save_for_backward(x, scale, zero_point)
        return
    scale, zero_point = _along(scale, x, axis), _along(zero_point, x, axis)
    integers = torch.div(x, scale).round_()
    low, high = quant_min - zero_point, quant_max - zero_point
    ctx.save_for_backward((integers >= low) & (integers <= high))


def _straight_through(ctx, gradient):
    if not ctx.learns:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None, None
    x, scale, zero_point = ctx.saved_tensors
    quant_min, quant_max = ctx.limits
    wide, zero_point = _along(scale, x, ctx.axis), _along(zero_point, x, ctx.axis)
    steps = torch.div(x, wide)
    nearest = torch.round(steps)
    low, high = quant_min - zero_point, quant_max - zero_point
    inside = (nearest >= low) & (nearest <= high)
    # Inside, what rounding added; outside, the end that x was clamped to.
    slope = torch.where(inside, nearest - steps, torch.minimum(torch.maximum(nearest, low), high))
    learned = _sum_to((gradient * slope).float(), scale, ctx.axis)
    learned = learned / (x.numel() / scale.numel() * quant_max) ** 0.5
    return gradient * inside, learned, None, None, None, None


def _sum_to(x: Tensor, scale: Tensor, axis: int | None) -> Tensor:
    """Sum `x` over the numbers that share a scale: the reverse of `_along`."""
    if axis is not None:
        return x.movedim(axis, 0).flatten(1).sum(1)
    if scale.ndim == 0:
        return x.sum()
    blocks = [n for i in range(x.ndim) for n in (scale.shape[i], x.shape[i] // scale.shape[i])]
    return x.reshape(blocks).sum(list(range(1, 2 * x.ndim, 2)))


fake_quantize.register_autograd(_straight_through, setup_context=_remember)


@torch.library.custom_op("edgewise::fake_quantize_dynamic", mutates_args=())
def fake_quantize_dynamic(
    x: Tensor, quant_min: int, quant_max: int, axis: int, group: int | None = None
) -> Tensor:
    """`x` rounded to grids that its own values span, as float32, shaped like `x`.

    Symmetric where quant_min is -quant_max: ``scale = max |x| / quant_max``. Else affine, as ONNX
    defines DynamicQuantizeLinear (opset 11): the range is widened to contain zero, ``scale = (max
    - min) / (quant_max - quant_min)``, ``zero_point = round(quant_min - min / scale)``.

    Args:
        x: float32.
        axis: a grid for each index along this axis: that of the batch gives one a sample. -1 gives
            one a token (a vector along the last axis).
        group: with `axis` -1, one grid for so many numbers along the last axis.

    The gradient with respect to `x` is 1: nothing lies outside the range.
    """
    shape = x.shape
    rows = x if group is None else x.unflatten(-1, (-1, group))
    share = [-1] if axis == -1 else [i for i in range(x.ndim) if i != axis]
    if quant_min == -quant_max:
        scale = rows.abs().amax(share, keepdim=True) / quant_max
        zero_point = torch.zeros_like(scale)
    else:
        low = rows.amin(share, keepdim=True).clamp_(max=0.0)
        high = rows.amax(share, keepdim=True).clamp_(min=0.0)
        scale = (high - low) / (quant_max - quant_min)
        zero_point = quant_min - low / scale.clamp(min=SMALLEST_SCALE)
        zero_point = zero_point.round_().clamp_(quant_min, quant_max)
    steps = torch.div(rows, scale.clamp_(min=SMALLEST_SCALE)).round_()
    steps = steps.clamp_(quant_min - zero_point, quant_max - zero_point)
    return steps.mul_(scale).reshape(shape)


@fake_quantize_dynamic.register_fake
def _(x, quant_min, quant_max, axis, group=None):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


fake_quantize_dynamic.register_autograd(
    lambda ctx, gradient: (gradient, None, None, None, None),
    setup_context=lambda ctx, inputs, output: None,
)


def _along(value: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """`value` shaped to broadcast against `x`: see `quantize`."""
    if axis is None:
        for i in range(value.ndim):
            if 1 < value.shape[i] < x.shape[i]:
                value = value.repeat_interleave(x.shape[i] // value.shape[i], i)
        return value
    shape = [1] * x.ndim
    shape[axis] = -1
    return value.reshape(shape)

"""Which range of values a grid should span: all of them, or fewer and finer.

`x` stands for a sample of the values; `low` and `high` are the ends over all of them; `bits` are
those of the grid. Each function returns the (low, high) that the grid should span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .affine import (
    affine_limits,
    affine_parameters,
    power_of_two,
    quantize,
    symmetric_parameters,
)

__all__ = [
    "RANGES",
    "entropy",
    "least_error",
    "least_power",
    "mean_squared_error",
    "octav",
    "percentile",
]

SHARES = torch.linspace(0.3, 1.0, 71, dtype=torch.float64)  # of a range, tried one after the other


def percentile(
    x: Tensor, low: float, high: float, bits: int = 8, share: float = 0.9999
) -> tuple[float, float]:
    """The range that `share` of the values lie in, as many left out at either end."""
    ends = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)
    below, above = torch.quantile(x.double(), ends).tolist()
    return max(low, below), min(high, above)


def mean_squared_error(x: Tensor, low: float, high: float, bits: int = 8) -> tuple[float, float]:
    """The range with the least squared error, either end moved by itself.

    Nahshan et al. 2019, "Loss Aware Post-training Quantization" (arXiv:1911.07190), section 4.1,
    with p = 2.
    """
    # A coarse grid clips more of a long tail.
    shares = torch.linspace(0.3 if bits > 4 else 0.05, 1.0, 71, dtype=torch.float64).tolist()
    best = low, high
    for _ in range(2):  # each end given the other
        best = _least([(low * share, best[1]) for share in shares], x, bits)
        best = _least([(best[0], high * share) for share in shares], x, bits)
    return best


def _least(candidates: list[tuple[float, float]], x: Tensor, bits: int) -> tuple[float, float]:
    errors = []
    for low, high in candidates:
        limits = affine_limits(bits)
        scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high), *limits)
        steps = torch.round(x / scale).clamp(limits[0] - zero_point, limits[1] - zero_point)
        errors.append(float(((steps * scale - x) ** 2).mean()))
    return candidates[min(range(len(errors)), key=errors.__getitem__)]


def entropy(
    x: Tensor, low: float, high: float, bits: int = 8, bins: int = 2048
) -> tuple[float, float]:
    """The range that loses the least information: the Kullback-Leibler divergence between the
    histogram clipped to the range and the same in 2^bits levels.

    Migacz 2017, "8-bit Inference with TensorRT" (GTC 2017), slides 19 to 26.
    """
    reach = max(-low, high)
    x = x[x != 0]  # zero is on every grid; the many that ReLU makes would outweigh all else
    if reach <= 0 or not len(x):
        return low, high
    counts = torch.histc(x.abs().float(), bins, 0.0, reach).double()
    levels = 2 ** (bits - 1)
    best, least = bins, float("inf")
    for width in range(levels, bins + 1, 16):
        clipped = counts[:width].clone()
        clipped[-1] += counts[width:].sum()
        level = torch.arange(width) * levels // width
        total = torch.zeros(levels, dtype=torch.float64).index_add(0, level, counts[:width])
        filled = (counts[:width] > 0).double()
        share = torch.zeros(levels, dtype=torch.float64).index_add(0, level, filled)
        spread = (total / share.clamp(min=1))[level] * filled
        p, q = clipped / clipped.sum(), spread / spread.sum().clamp(min=1e-12)
        at = p > 0
        divergence = float((p[at] * torch.log(p[at] / q[at].clamp(min=1e-12))).sum())
        if divergence < least:
            best, least = width, divergence
    limit = reach * best / bins
    return max(low, -limit), min(high, limit)


def octav(x: Tensor, low: float, high: float, bits: int = 8) -> tuple[float, float]:
    """The clipping with the least squared error, by Newton's method, for either sign by itself.

    Sakr et al. 2022, "Optimal Clipping and Magnitude-aware Differentiation for Improved
    Quantization-aware Training" (arXiv:2206.06501), equation 6.
    """
    ends = []
    for end, magnitudes in ((low, -x[x < 0]), (high, x[x > 0])):
        clip = float(magnitudes.mean()) if len(magnitudes) else 0.0
        for _ in range(20 if len(magnitudes) else 0):
            outside = magnitudes > clip
            noise = 4.0**-bits / 3 * float((~outside).sum())
            clip = float(magnitudes[outside].sum()) / (noise + float(outside.sum()))
        ends.append(min(clip, abs(end)))
    return -ends[0], ends[1]


RANGES: dict[str, Callable[..., tuple[float, float]]] = {
    "minmax": lambda x, low, high, bits=8: (low, high),
    "percentile": percentile,
    "mse": mean_squared_error,
    "entropy": entropy,
    "octav": octav,
}


def least_error(rows: Tensor, bits: int) -> Tensor:
    """The scale of each row's symmetric grid with the least squared error.

    Args:
        rows: (n, columns).
        bits: of the integers, 2 or more.

    Returns:
        float32 (n,).
    """
    top = 2 ** (bits - 1) - 1
    magnitude = rows.abs().amax(1)
    magnitude = torch.maximum(magnitude, magnitude.max() * 2**-20)
    offers = (symmetric_parameters(magnitude * share, top)[0] for share in SHARES.tolist())
    return _best(rows, offers, top)


def least_power(rows: Tensor, bits: int) -> Tensor:
    """The same with a power of two for a scale: the largest weights may be clipped.

    Jain et al. 2019, "Trained Quantization Thresholds for Accurate and Efficient Fixed-Point
    Inference of Deep Neural Networks" (arXiv:1903.08066), section 3.1, has such scales.
    """
    top = 2 ** (bits - 1) - 1
    magnitude = rows.abs().amax(1)
    whole = power_of_two(
        symmetric_parameters(torch.maximum(magnitude, magnitude.max() * 2**-20), top)[0]
    )
    return _best(rows, (whole / 2**i for i in range(3)), top)


def _best(rows: Tensor, offers: Iterable[Tensor], top: int) -> Tensor:
    """For each row the scale with the least squared error."""
    none = torch.zeros(len(rows), dtype=torch.int32)
    best, least = torch.ones(len(rows)), torch.full((len(rows),), float("inf"))
    for scale in offers:
        error = ((quantize(rows, scale, none, -top, top, 0) * scale[:, None] - rows) ** 2).sum(1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best

"""Rate against distortion: which points of a grid are worth the bits that they take.

Entropy-coded, an integer takes ``-log2 p`` bits, so that rare ones are dear and zeros cheap. The
integers are chosen for the least ``distortion + slope * bits`` (Chou, Lookabaugh and Gray 1989,
"Entropy-Constrained Vector Quantization", equation 8), and the probabilities are those of the
integers that were chosen before. It is what DeepCABAC does for networks (Wiedemann et al. 2020,
arXiv:1907.11900, section III-B; ISO/IEC 15938-17), here with the distortion of what a layer gives
instead of that of the weights, and with the weights still to come making up for it (`gptq.sweep`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gptq import sweep

__all__ = ["LARGEST", "code_lengths", "common_steps", "grid_steps", "rate_distortion"]

LARGEST = 127


def code_lengths(integers: Tensor) -> Tensor:
    """Bits (255,) of each of -127...127, from how often they occur; each once more than it does."""
    counts = torch.bincount((integers.long() + LARGEST).flatten(), minlength=2 * LARGEST + 1)
    counts = counts.double() + 0.5
    return torch.log2(counts.sum() / counts)


def grid_steps(slope: float, weights: Tensor, stiffness: Tensor) -> Tensor:
    """The grid's step of each row at which one bit more saves as much distortion as it costs.

    At high rate the distortion of a uniform grid is ``c step^2 / 12`` a number and falls by ``2 ln
    2`` of itself with each bit (Gish and Pierce 1968).

    Args:
        slope: distortion a bit.
        weights: (groups, rows), what each row's squared error counts.
        stiffness: (groups,), the geometric mean of the pivots of the Hessian.
    """
    return (6 * slope / math.log(2) / (weights * stiffness[:, None]).clamp(min=1e-30)).sqrt()


def common_steps(rows: Tensor) -> Tensor:
    """The largest step of which all numbers of a row are multiples, up to 127 of them; else zero.

    Weights that lie on a grid already are to be quantized to that grid and no other.

    Args:
        rows: float32 (rows, n).

    Returns:
        float32 (rows,).
    """
    sizes = rows.double().abs()
    least = torch.where(sizes > 0, sizes, math.inf).amin(1, keepdim=True)
    found = torch.zeros_like(least)
    for parts in range(8, 0, -1):  # the smallest number may itself be several steps
        step = least / parts
        multiples = sizes / step
        fits = ((multiples - multiples.round()).abs() < 1e-3).all(1, keepdim=True)
        fits &= (multiples <= LARGEST + 0.5).all(1, keepdim=True) & least.isfinite()
        found = torch.where(fits, step, found)
    return found[:, 0].float()


def rate_distortion(
    weight: Tensor,
    hessian: Tensor,
    steps: Tensor,
    weights: Tensor,
    slope: float,
    stays: Tensor | None = None,
    passes: int = 2,
) -> Tensor:
    """Integers in -127...127 of least distortion and bits.

    Args:
        weight: (groups, rows, columns).
        hessian: (groups, columns, columns).
        steps: of the grid, (groups, rows).
        weights: (groups, rows), what each row's error ``e H e'`` counts.
        slope: distortion a bit.
        stays: bool, like `weight`: where False, the integer is zero.
        passes: how often probabilities are taken anew.

    Returns:
        int32, like `weight`.
    """
    step, factor = steps.double()[..., None], weights.double()[..., None]
    integers = (weight.double() / step).round().clamp(-LARGEST, LARGEST)
    for _ in range(passes):
        bits = slope * code_lengths(integers)

        def choose(k: int, w: Tensor, pivots: Tensor, bits: Tensor = bits) -> Tensor:
            column = w[..., k : k + 1] / step
            near = column.round().clamp(-LARGEST, LARGEST)
            offers = torch.cat([near, near - near.sign(), torch.zeros_like(near)], -1)
            unit = factor * (step / pivots[:, k, None, None]).square()
            cost = unit * (offers - column).square() + bits[offers.long() + LARGEST]
            best = offers.gather(-1, cost.argmin(-1, keepdim=True))
            if stays is not None:
                best = best.where(stays[..., k : k + 1], 0.0)
            integers[..., k : k + 1] = best
            return best * step

        sweep(weight, hessian, choose)
    return integers.to(torch.int32)

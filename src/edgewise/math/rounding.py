"""Multipliers between grids under which nothing falls on a tie.

An integer kernel turns a sum of products, an integer, into steps of the output's grid: times the
multiplier m = input scale * weight scale / output scale (arXiv:1712.05877, equation 5), then
rounded. Every runtime computes m and the product in its own order and width. Where the exact
result is half a step, the last bit of that arithmetic decides, and in a deep network one step more
or less in an early layer is noise everywhere behind it. If m is a fraction with an odd denominator
d, the exact result is never nearer to a half than 1 / 2d, out of reach of any float32 error, and
all runtimes round alike. A scale moves to such a fraction for less than a hundredth of its size.
"""

from __future__ import annotations

import numpy as np

__all__ = ["DENOMINATORS", "without_ties"]

# Small enough that 1 / 2d is several times float32's error on 256 steps; many enough that each
# multiplier finds a fraction close by.
DENOMINATORS = np.arange(129, 512, 2, dtype=np.float64)


def without_ties(multipliers: np.ndarray) -> np.ndarray:
    """The least fractions with an odd denominator that are not below the multipliers.

    Args:
        multipliers: float64 > 0, any shape.

    Returns:
        float64, the same shape; at most 0.8 % above the multipliers, most far less.
    """
    wanted = np.asarray(multipliers, np.float64)[..., None]
    # One part of a larger odd number, for a multiplier below 1 / 511.
    small = np.floor(1 / wanted)
    small -= small % 2 == 0
    usual = np.broadcast_to(DENOMINATORS, (*wanted.shape[:-1], DENOMINATORS.size))
    denominators = np.concatenate([usual, small.clip(min=1)], axis=-1)
    return (np.ceil(wanted * denominators) / denominators).min(-1)

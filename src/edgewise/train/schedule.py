"""Learning rates over a training, as a share of the highest."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "cubic", "rate_at"]


def _cosine(at: float) -> float:
    """Loshchilov and Hutter 2017, "SGDR" (arXiv:1608.03983), equation 5, without restarts."""
    return (1 + math.cos(math.pi * at)) / 2


def _one_cycle(at: float) -> float:
    """Smith and Topin 2018, "Super-Convergence" (arXiv:1708.07120): up for 30 %, then down."""
    if at < 0.3:
        return 0.04 + 0.96 * (1 - _cosine(at / 0.3))
    return _cosine((at - 0.3) / 0.7)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "linear": lambda at: 1 - at,
    "constant": lambda at: 1.0,
}


def rate_at(schedule: str, warmup: float, step: int, steps: int) -> float:
    """The learning rate of step `step` of `steps` as a share of the highest, above 0.

    Args:
        warmup: the share of the steps over which the rate rises evenly.
    """
    at = (step + 0.5) / steps
    if at < warmup:
        return at / warmup
    return SCHEDULES[schedule]((at - warmup) / (1 - warmup))


def cubic(at: float, first: float, last: float) -> float:
    """A sparsity that rises from `first` to `last`, fast at first, as `at` goes from 0 to 1.

    Zhu and Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878), equation 1.
    """
    return last + (first - last) * (1 - min(max(at, 0.0), 1.0)) ** 3

"""Least squares from normal equations.

A layer computes ``y = W x``. Where some of its inputs are gone or have changed, the weights that
come closest to given outputs follow from two sums over samples, ``x x'`` and ``x y'``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Normal"]

MOST_SHRUNK = 0.9


class Normal:
    """Streaming normal equations in float64, for several independent groups at once.

    Args:
        groups, inputs, outputs: sizes of ``x`` (rows, groups, inputs) and ``y`` (rows, groups,
            outputs); a constant input of one is added.
    """

    def __init__(self, groups: int, inputs: int, outputs: int):
        self.gram = torch.zeros(groups, inputs + 1, inputs + 1, dtype=torch.float64)
        self.cross = torch.zeros(groups, inputs + 1, outputs, dtype=torch.float64)
        self.rows = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in more rows: x (rows, groups, inputs), y (rows, groups, outputs)."""
        one = torch.ones(*x.shape[:2], 1, dtype=torch.float64)
        x = torch.cat([x.double(), one], 2).transpose(0, 1)
        self.gram += x.transpose(1, 2) @ x
        self.cross += x.transpose(1, 2) @ y.double().transpose(0, 1)
        self.rows += x.shape[1]

    def shrinkage(self, intercept: bool) -> float:
        """The ridge that so few rows call for: what brings ``x x'`` closest to that of all inputs.

        Oracle approximating shrinkage (Chen et al. 2010, "Shrinkage Algorithms for MMSE Covariance
        Estimation", IEEE TSP 58(10), equation 23), mean over the groups: with many rows near 0,
        with fewer rows than inputs it may be above 1.
        """
        n = self.gram.shape[1] - 1
        moments = self.gram[:, :n, :n] / self.rows
        if intercept:
            mean = self.gram[:, :n, n:] / self.rows
            moments = moments - mean @ mean.mT
        trace = moments.diagonal(dim1=1, dim2=2).sum(1)
        squares = moments.square().sum((1, 2))
        above = (1 - 2 / n) * squares + trace.square()
        below = (self.rows + 1 - 2 / n) * (squares - trace.square() / n)
        share = (above / below.clamp(min=1e-300)).clamp(max=MOST_SHRUNK)
        return float((share / (1 - share)).mean())

    def solve(
        self,
        start: Tensor,
        ridge: float,
        intercept: bool,
        choose: Callable[[Tensor, Tensor], Tensor | None] = lambda weight, hessian: weight,
    ) -> tuple[Tensor, Tensor] | None:
        """The W and b of least |W x + b - y|^2 + ridge m |W - start|^2, m the mean square of x.

        Args:
            start: (groups, outputs, inputs), what W is drawn towards.
            choose: is given that W and the Hessian (groups, inputs, inputs) of what leaving it
                costs, in the mean over rows, and says what to take instead: weights of some form,
                or None to give up.

        Returns:
            W like `start` and b (groups, outputs), zero without `intercept`; float64. None where
            `choose` gave up.
        """
        n = self.gram.shape[1] - 1
        gram, cross, start = self.gram, self.cross, start.double().transpose(1, 2)
        if intercept:  # the same equations between deviations from the mean
            mean = gram[:, :n, n:] / self.rows
            gram = gram[:, :n, :n] - gram[:, :n, n:] @ gram[:, n:, :n] / self.rows
            middle = cross[:, n:] / self.rows
            cross = cross[:, :n] - self.rows * mean @ middle
        else:
            gram, cross = gram[:, :n, :n], cross[:, :n]
        scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
        damped = gram + (ridge * scale)[:, None, None] * torch.eye(n, dtype=torch.float64)
        weight = start + torch.cholesky_solve(cross - gram @ start, torch.linalg.cholesky(damped))
        weight = choose(weight.transpose(1, 2), damped / self.rows)
        if weight is None:
            return None
        weight = weight.transpose(1, 2)
        shift = torch.zeros_like(weight[:, 0])
        if intercept:
            shift = (middle - mean.transpose(1, 2) @ weight)[:, 0]
        return weight.transpose(1, 2), shift

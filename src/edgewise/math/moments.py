"""What is needed of a layer's inputs and wanted outputs to know the error of any weights.

With the means taken up by the bias, the squared error of weights W is a quadratic form:
``|W x - y|^2 = tr(W Sxx W^T) - 2 tr(W Sxy) + Syy``, S being second moments about the means. They
are summed batch by batch, in float64, so that no sample has to be kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Moments"]


LEAST = 16  # positions that a mean is taken over


class Moments:
    """Sums over all positions added; groups as in `edgewise.graph.patches`.

    Args:
        limits: of the clamp behind the layer. What it cuts off matters to nothing, and would
            outweigh in the means what it lets through: the bias is for that alone, as the
            activation in equation 25 of AdaRound (arXiv:2004.10568) has it.
    """

    def __init__(self, limits: tuple[float, float] = (-math.inf, math.inf)) -> None:
        self.limits = limits
        self.count = 0
        self.passed = self.passed_x = self.passed_y = torch.zeros((), dtype=torch.float64)
        self.x = self.y = self.xx = self.xy = self.yy = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add positions.

        Args:
            x: (groups, columns, n), what the weights are multiplied with.
            y: (groups, rows, n), what should come out.
        """
        x, y = x.double(), y.double()
        self.count += x.shape[-1]
        self.x, self.y = self.x + x.sum(-1), self.y + y.sum(-1)
        self.xx, self.xy = self.xx + x @ x.mT, self.xy + x @ y.mT
        self.yy = self.yy + (y**2).sum(-1)
        passes = ((y > self.limits[0]) & (y < self.limits[1])).double()
        self.passed = self.passed + passes.sum(-1)
        self.passed_x, self.passed_y = (
            self.passed_x + passes @ x.mT,
            self.passed_y + (passes * y).sum(-1),
        )

    def inputs(self) -> Tensor:
        """Sxx, (groups, columns, columns)."""
        return self.xx - self.x[..., None] * self.x[:, None] / self.count

    def error(self, weight: Tensor) -> float:
        """The squared error with the best bias, relative to the variance of what should come out.

        Args:
            weight: (groups, rows, columns).
        """
        crossed = self.xy - self.x[..., None] * self.y[:, None] / self.count
        variance = float((self.yy - self.y**2 / self.count).sum())
        form = ((weight @ self.inputs()) * weight).sum() - 2 * (weight.mT * crossed).sum()
        return max(0.0, float(form) + variance) / (variance or 1.0)

    def bias(self, weight: Tensor) -> Tensor:
        """The best bias for these weights, (groups * rows,)."""
        every = (self.y - (weight @ self.x[..., None])[..., 0]) / self.count
        passing = (self.passed_y - (weight * self.passed_x).sum(-1)) / self.passed.clamp(min=1)
        return torch.where(self.passed >= LEAST, passing, every).flatten()

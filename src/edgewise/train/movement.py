"""How each weight moved while it was trained: away from zero, or towards it."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Movement"]


class Movement:
    """Scores of movement pruning.

    Sanh, Wolf & Rush 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning"
    (arXiv:2005.07683), section 3: ``S = -sum over steps of dL/dW * W``, up to a factor; weights
    that training makes larger rise, those that it makes smaller fall.

    Args:
        wanted: False keeps no scores.

    Attributes:
        scores: parameter's name -> as large as the parameter, float32; of those with two axes or
            more.
    """

    def __init__(self, module: nn.Module, wanted: bool):
        self.weights = {n: p for n, p in module.named_parameters() if wanted and p.ndim > 1}
        self.scores = {name: torch.zeros_like(p) for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the gradients of a step, before the optimizer moves the weights."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                self.scores[name].addcmul_(weight.grad, weight, value=-1)

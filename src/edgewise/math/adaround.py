"""Learning whether each weight is rounded up or down.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(arXiv:2004.10568), equations 21 to 25. The layer's squared output error is a quadratic form in the
weights, so that it is computed from the inputs' second moments and every step sees all samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gptq import spread

__all__ = ["learn_rounding"]

# Equation 23: the rectified sigmoid reaches 0 and 1.
STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1


def learn_rounding(
    weight: Tensor, hessian: Tensor, scale: Tensor, low: Tensor | int, high: Tensor | int,
    *, steps: int = 1000, regularization: float = 2.0,
) -> Tensor:  # fmt: skip
    """The steps, of the two next to each weight, with the least output error.

    Args:
        weight: (groups, rows, columns): one group for a plain layer; rows are output channels.
        hessian: (groups, columns, columns), the sum of ``x x^T`` over the layer's inputs.
        scale: (groups, rows), or like `weight`: a step.
        low, high: the least and largest number of steps from zero: one, or shaped like `scale`.
        steps: of Adam.
        regularization: lambda of equation 21, relative to the mean error of nearest rounding.

    Returns:
        int32 like `weight`, in [low, high].
    """
    step, low, high = (spread(each, weight).float() for each in (scale, low, high))
    target = weight.float() / step
    floor = target.floor().clamp(low, high)
    part = (target - floor).clamp(1e-3, 1 - 1e-3)
    v = torch.logit((part - STRETCH_LOW) / (STRETCH_HIGH - STRETCH_LOW)).requires_grad_()
    # In units in which rounding to nearest has the error 1 for each weight.
    h = hessian.float() * step.mean() ** 2
    nearest = target.round().clamp(low, high) - target
    h = h / ((nearest @ h) * nearest).mean().clamp(min=1e-20)
    optimizer = torch.optim.Adam([v], lr=0.02)
    relative = step / step.mean()
    with torch.enable_grad():
        for i in range(steps):
            soft = _rectified(v)
            error = ((floor + soft).clamp(low, high) - target) * relative
            loss = ((error @ h) * error).mean()
            progress = i / steps
            if progress > 0.2:  # equation 24: free at first, then pushed to 0 and 1
                beta = 2 + 18 * (1 - (progress - 0.2) / 0.8)
                loss = loss + regularization * (1 - (2 * soft - 1).abs().pow(beta)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    up = (_rectified(v.detach()) >= 0.5).float()
    return (floor + up).clamp(low, high).to(torch.int32)


def _rectified(v: Tensor) -> Tensor:
    return (torch.sigmoid(v) * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0, 1)

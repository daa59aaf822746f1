"""Factors that move what is hard to quantize from what a layer reads into its weights.

``W x = (W diag(s)) (diag(s)^-1 x)`` for any factors s > 0, one an input of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["activation_aware", "smoothing"]

SMALLEST = 1e-5  # of a magnitude, relative to the largest: a dead channel has nothing to move
STEPS = 20  # of the search, as in the paper


def smoothing(inputs: Tensor, weights: Tensor, strength: float = 0.5) -> Tensor:
    """Factors that share the range of each channel between inputs and weights.

    Xiao et al. 2022, "SmoothQuant" (arXiv:2211.10438), equation 4:
    ``s_j = max |X_j|^strength / max |W_j|^(1 - strength)``. The inputs are divided by s.

    Args:
        inputs, weights: the largest magnitude of each channel, (channels,).
        strength: how much of the difficulty moves to the weights, 0 to 1.

    Returns:
        float64 (channels,); 1 for a channel that is dead on either side.
    """
    x, w = inputs.double(), weights.double()
    dead = (x <= SMALLEST * x.max()) | (w <= SMALLEST * w.max())
    factors = x**strength / w ** (1 - strength)
    return torch.where(dead, 1.0, factors)


def activation_aware(
    inputs: Tensor, weights: Sequence[Tensor], rounded: Callable[[Tensor], Tensor]
) -> tuple[Tensor, float, float]:
    """Factors under which rounding the weights changes the outputs least.

    Lin et al. 2023, "AWQ" (arXiv:2306.00978), equations 4 and 5: ``s = (mean |X|)^a``, with the a
    of the least ``|Q(W diag(s)) diag(s)^-1 X - W X|`` from a grid over [0, 1].

    Args:
        inputs: what the layers read, (n, channels).
        weights: of the layers that read it, each (outputs, channels).
        rounded: a weight -> the same as it is after quantization.

    Returns:
        The factors, float64 (channels,), and the squared error of the outputs, all layers
        together, without factors and with these.
    """
    x = inputs.double()
    size = x.abs().mean(0)
    size = size.clamp(min=SMALLEST * float(size.max()) or 1.0)
    best, errors = torch.ones_like(size), []
    for step in range(STEPS):
        factors = size ** (step / STEPS)
        factors = factors / torch.sqrt(factors.max() * factors.min())
        error = 0.0
        for weight in weights:
            scaled = weight.double() * factors
            change = rounded(scaled.float()).double() / factors - weight.double()
            error += float(((x @ change.T) ** 2).sum())
        if not errors or error < min(errors):
            best = factors
        errors.append(error)
    return best, errors[0], min(errors)

"""Rounding a layer's weights one column at a time, each making up for the errors before it.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (arXiv:2210.17323), sections 3.2 and 3.3, algorithm 1: after a column is rounded, the
columns still to come move so that the layer's output on real inputs changes least. The inverse
Hessian that says how is factorised once (Cholesky).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["nearest", "round_weights", "spread", "sweep"]


def round_weights(
    weight: Tensor, hessian: Tensor, scale: Tensor, low: Tensor | int, high: Tensor | int,
    *, damping: float = 0.01,
) -> Tensor:  # fmt: skip
    """The steps whose layer output, not whose values, are closest to the weights'.

    Args:
        weight: (groups, rows, columns): one group for a plain layer; rows are output channels.
        hessian: (groups, columns, columns), the sum of ``x x^T`` over the layer's inputs.
        scale: (groups, rows), or like `weight`: a step.
        low, high: the least and largest number of steps from zero: one, or shaped like `scale`.
        damping: added to the Hessian's diagonal, as a share of its mean (section 3.3).

    Returns:
        int32 like `weight`, in [low, high].
    """
    step = spread(scale, weight)
    diagonal = hessian.double().diagonal(dim1=-2, dim2=-1)
    # Columns with the largest inputs first, while all others can still make up for them.
    order = diagonal.argsort(-1, descending=True)
    ordered, low, high = (
        each.gather(-1, order[:, None, :].expand_as(step))
        for each in (step, spread(low, weight), spread(high, weight))
    )
    integers = torch.empty_like(step)

    def choose(k: int, w: Tensor, pivots: Tensor) -> Tensor:
        at = (..., slice(k, k + 1))
        integers[at] = (w[at] / ordered[at]).round().clamp(low[at], high[at])
        return integers[at] * ordered[at]

    sweep(weight, hessian, choose, order=order, damping=damping)
    back = order.argsort(-1)[:, None, :].expand_as(integers)
    return integers.gather(-1, back).to(torch.int32)


def sweep(
    weight: Tensor,
    hessian: Tensor,
    choose: Callable[[int, Tensor, Tensor], Tensor],
    *,
    order: Tensor | None = None,
    damping: float = 0.01,
) -> Tensor:
    """Settle a layer's weights one column at a time, the others making up for each.

    Args:
        weight: (groups, rows, columns).
        hessian: (groups, columns, columns).
        choose: is given the column's place k, all weights as they are now in that order, and the
            pivots (groups, columns), whose square is what moving a column by one costs the inverse
            of; says what column k becomes, (groups, rows, 1).
        order: (groups, columns), in which columns are settled; None as they stand.
        damping: added to the Hessian's diagonal, as a share of its mean.

    Returns:
        float64, the settled weights in the order of `weight`.
    """
    w, h = weight.double().clone(), hessian.double().clone()
    diagonal = h.diagonal(dim1=-2, dim2=-1)
    dead = diagonal <= 0  # inputs that are always zero: their weights matter to nothing
    diagonal += damping * diagonal.mean(-1, keepdim=True).clamp(min=1e-12)
    diagonal[dead] += 1.0
    if order is not None:
        w = w.gather(-1, order[:, None, :].expand_as(w))
        h = h.gather(-2, order[:, :, None].expand_as(h)).gather(-1, order[:, None, :].expand_as(h))
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    pivots = upper.diagonal(dim1=-2, dim2=-1)
    for k in range(w.shape[-1]):
        settled = choose(k, w, pivots)
        error = (w[..., k : k + 1] - settled) / pivots[:, k, None, None]
        w[..., k : k + 1] = settled
        w[..., k + 1 :] -= error * upper[:, None, k, k + 1 :]
    if order is not None:
        w = w.gather(-1, order.argsort(-1)[:, None, :].expand_as(w))
    return w


def nearest(
    weight: Tensor, hessian: Tensor, scale: Tensor, low: Tensor | int, high: Tensor | int
) -> Tensor:
    """The steps nearest to the weights, whatever the inputs; arguments as in `round_weights`."""
    steps = torch.round(weight / spread(scale, weight))
    return steps.clamp(spread(low, weight), spread(high, weight)).to(torch.int32)


def spread(value: Tensor | int, weight: Tensor) -> Tensor:
    """One number, or one a row, as float64 for each weight."""
    value = torch.as_tensor(value)
    return (value if value.ndim == weight.ndim else value[..., None]).double().expand_as(weight)

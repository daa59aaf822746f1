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

__all__ = ["nearest", "round_weights", "sweep"]


def round_weights(
    weight: Tensor, hessian: Tensor, scale: Tensor, quant_min: int, quant_max: int,
    *, damping: float = 0.01,
) -> Tensor:  # fmt: skip
    """The integers whose layer output, not whose values, are closest to the weights'.

    Args:
        weight: (groups, rows, columns): one group for a plain layer; rows are output channels.
        hessian: (groups, columns, columns), the sum of ``x x^T`` over the layer's inputs.
        scale: (groups, rows), or like `weight`; symmetric.
        damping: added to the Hessian's diagonal, as a share of its mean (section 3.3).

    Returns:
        int32 like `weight`, in [quant_min, quant_max].
    """
    step = _spread(scale, weight)
    diagonal = hessian.double().diagonal(dim1=-2, dim2=-1)
    # Columns with the largest inputs first, while all others can still make up for them.
    order = diagonal.argsort(-1, descending=True)
    ordered = step.gather(-1, order[:, None, :].expand_as(step))
    integers = torch.empty_like(step)

    def choose(k: int, w: Tensor, pivots: Tensor) -> Tensor:
        unit = ordered[..., k : k + 1]
        integers[..., k : k + 1] = (w[..., k : k + 1] / unit).round().clamp(quant_min, quant_max)
        return integers[..., k : k + 1] * unit

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
    weight: Tensor, hessian: Tensor, scale: Tensor, quant_min: int, quant_max: int
) -> Tensor:
    """The integers nearest to the weights, whatever the inputs; arguments as in `round_weights`."""
    integers = torch.round(weight / _spread(scale, weight)).clamp(quant_min, quant_max)
    return integers.to(torch.int32)


def _spread(scale: Tensor, weight: Tensor) -> Tensor:
    return (scale if scale.ndim == weight.ndim else scale[..., None]).double().expand_as(weight)

"""Rounding a layer's weights one column at a time, each making up for the errors before it.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (arXiv:2210.17323), sections 3.2 and 3.3, algorithm 1: after a column is rounded, the
columns still to come move so that the layer's output on real inputs changes least. The inverse
Hessian that says how is factorised once (Cholesky).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest", "round_weights"]


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
    w, h, step = weight.double().clone(), hessian.double().clone(), _spread(scale, weight)
    diagonal = h.diagonal(dim1=-2, dim2=-1)
    dead = diagonal <= 0  # inputs that are always zero: their weights matter to nothing
    diagonal += damping * diagonal.mean(-1, keepdim=True).clamp(min=1e-12)
    diagonal[dead] += 1.0
    # Columns with the largest inputs first, while all others can still make up for them.
    order = diagonal.argsort(-1, descending=True)
    w, step = (t.gather(-1, order[:, None, :].expand_as(w)) for t in (w, step))
    h = h.gather(-2, order[:, :, None].expand_as(h)).gather(-1, order[:, None, :].expand_as(h))
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    integers = torch.empty_like(w)
    for k in range(w.shape[-1]):
        column, unit = w[..., k : k + 1], step[..., k : k + 1]
        integers[..., k : k + 1] = (column / unit).round().clamp(quant_min, quant_max)
        error = (column - integers[..., k : k + 1] * unit) / upper[:, k, k, None, None]
        w[..., k + 1 :] -= error * upper[:, None, k, k + 1 :]
    back = order.argsort(-1)[:, None, :].expand_as(w)
    return integers.gather(-1, back).to(torch.int32)


def nearest(
    weight: Tensor, hessian: Tensor, scale: Tensor, quant_min: int, quant_max: int
) -> Tensor:
    """The integers nearest to the weights, whatever the inputs; arguments as in `round_weights`."""
    integers = torch.round(weight / _spread(scale, weight)).clamp(quant_min, quant_max)
    return integers.to(torch.int32)


def _spread(scale: Tensor, weight: Tensor) -> Tensor:
    return (scale if scale.ndim == weight.ndim else scale[..., None]).double().expand_as(weight)

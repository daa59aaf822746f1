"""The weights that are left, when others become zero: least change of what a layer gives.

For a layer ``y = W x`` on real inputs, changing W to V costs ``tr((V - W) H (V - W)')`` with the
Hessian ``H = sum of x x'``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gptq import sweep
from .sparsity import largest

__all__ = ["least_squares", "sparsegpt"]


def sparsegpt(
    weight: Tensor,
    hessian: Tensor,
    zeros: float,
    keep: int = 0,
    of: int = 0,
    *,
    block: int = 128,
    order: Tensor | None = None,
) -> Tensor:
    """Zero weights column by column, each column making up for those before it.

    Frantar and Alistarh 2023, "SparseGPT" (arXiv:2301.00774), algorithm 1: weights with the least
    ``w^2 / [H^-1]_jj`` go, chosen anew for each block of columns.

    Args:
        weight: (groups, rows, columns).
        hessian: (groups, columns, columns).
        zeros: the share that goes of each block.
        keep, of: so many stay of each so many neighbouring columns instead.
        order: (groups, columns), in which columns are taken.

    Returns:
        float64, like `weight`.
    """
    width = of or block
    mask = torch.zeros_like(weight, dtype=torch.bool)

    def choose(k: int, w: Tensor, pivots: Tensor) -> Tensor:
        if k % width == 0:
            score = (w[..., k : k + width] / pivots[:, None, k : k + width]).square()
            if of:
                stays = largest(score, keep)
            else:
                stays = largest(score.flatten(), score.numel() - round(zeros * score.numel()))
            mask[..., k : k + width] = stays.reshape(score.shape)
        return torch.where(mask[..., k : k + 1], w[..., k : k + 1], 0.0)

    return sweep(weight, hessian, choose, order=order)


def least_squares(
    weight: Tensor, hessian: Tensor, start: Tensor, mask: Tensor, steps: int = 60
) -> Tensor:
    """The V of least cost that is zero wherever `mask` is False.

    Conjugate gradients on all rows at once, each over its own weights, preconditioned by the
    diagonal; no step makes the cost larger.

    Args:
        weight, start: (groups, rows, columns); W, and where to begin.
        hessian: (groups, columns, columns), positive definite.

    Returns:
        float64, like `weight`.
    """
    v = torch.where(mask, start.double(), 0.0)
    h = hessian.double()
    scale = 1 / h.diagonal(dim1=1, dim2=2)[:, None]
    residual = torch.where(mask, (weight.double() - v) @ h, 0.0)
    ahead = towards = residual * scale
    size = (residual * ahead).sum(-1, keepdim=True)
    floor = size * 1e-20
    for _ in range(steps):
        if bool((size <= floor).all()):
            break
        moved = torch.where(mask, ahead @ h, 0.0)
        length = torch.where(size > floor, size / (ahead * moved).sum(-1, keepdim=True), 0.0)
        v = v + length * ahead
        residual = residual - length * moved
        towards = residual * scale
        before, size = size, (residual * towards).sum(-1, keepdim=True)
        ahead = towards + torch.where(before > floor, size / before, 0.0) * ahead
    return v

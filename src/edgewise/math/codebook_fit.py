"""Codebooks for what a layer gives: which value each weight takes, and what the values are.

Changing a layer's weights W to V costs ``tr((V - W) H (V - W)')`` with the Hessian ``H`` of its
inputs (`edgewise.math.sparse_solve`). k-means (`edgewise.math.codebook`) sees the diagonal of H
alone; here all of it counts. Weights take values one column after the other, those to come making
up for each (`gptq.sweep`). Then the values and the choices are made better in turns, as in Lloyd's
algorithm: for given choices the best values are a least-squares solution; for given values each
weight is chosen anew while the others stay (coordinate descent, Behdin et al. 2023, "QuantEase",
arXiv:2309.01885, section 3). Neither makes the cost larger.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .codebook import nearest
from .gptq import sweep

__all__ = ["choose", "cost", "fit_values", "improve", "settle", "values_of"]

BLOCK = 64  # columns between which slopes are brought up to date one by one


def values_of(codebook: Tensor, at: Tensor, unit: Tensor) -> Tensor:
    """The weights (groups, rows, columns), float64.

    Args:
        codebook: (groups * rows, values) or (1, values), ascending.
        at: int64 (groups, rows, columns).
        unit: like `at`, what values are multiplied by.
    """
    rows = codebook.double().expand(at.shape[0] * at.shape[1], -1)
    return rows.gather(1, at.flatten(0, 1)).view(at.shape) * unit


def cost(weight: Tensor, hessian: Tensor, found: Tensor) -> Tensor:
    """Of each row (groups, rows)."""
    error = found - weight.double()
    return ((error @ hessian.double()) * error).sum(-1)


def settle(
    weight: Tensor,
    hessian: Tensor,
    codebook: Tensor,
    unit: Tensor,
    zero: Tensor,
    rounds: int,
    *,
    fixed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Values and indices of small cost, from values to begin with; arguments as of `improve`.

    Args:
        rounds: in which values, then indices are made better.
        fixed: leave the values as they are.
    """
    at, _ = choose(weight, hessian, codebook, unit, zero)
    for _ in range(rounds):
        if not fixed:
            codebook, at = fit_values(weight, hessian, codebook, at, unit)
        at = improve(weight, hessian, codebook, at, unit, zero)
    return codebook, at


def choose(
    weight: Tensor, hessian: Tensor, codebook: Tensor, unit: Tensor, zero: Tensor
) -> tuple[Tensor, Tensor]:
    """Indices, column after column, and the weights that they make; arguments as of `improve`."""
    rows = codebook.double().expand(weight.shape[0] * weight.shape[1], -1).contiguous()
    at = torch.empty_like(weight, dtype=torch.int64)

    def settle(k: int, w: Tensor, pivots: Tensor) -> Tensor:
        column = slice(k, k + 1)
        parts = (w[..., column] / unit[..., column]).masked_fill(zero[..., column], 0)
        place = nearest(parts.reshape(-1, 1), rows)
        at[..., column] = place.view(parts.shape)
        return rows.gather(1, place).view(parts.shape) * unit[..., column]

    return at, sweep(weight, hessian, settle)


def improve(
    weight: Tensor,
    hessian: Tensor,
    codebook: Tensor,
    at: Tensor,
    unit: Tensor,
    zero: Tensor,
) -> Tensor:
    """Indices of no larger cost: each weight anew, in turn, the others as they are.

    Args:
        weight: (groups, rows, columns), W.
        hessian: (groups, columns, columns), positive definite.
        codebook: (groups * rows, values), or (1, values) for all rows, ascending.
        at: int64, like `weight`.
        unit: like `weight`, what values are multiplied by, above zero.
        zero: bool, like `weight`: stays as it is.
    """
    h, at = hessian.double(), at.clone()
    rows = codebook.double().expand(weight.shape[0] * weight.shape[1], -1).contiguous()
    found = values_of(codebook, at, unit)
    slopes = (found - weight.double()) @ h
    for first in range(0, weight.shape[-1], BLOCK):
        block = slice(first, first + BLOCK)
        before, inner = found[..., block].clone(), h[:, block, block]
        slope = slopes[..., block]
        for i in range(before.shape[-1]):
            k = first + i
            now, one, stays = found[..., k], unit[..., k], zero[..., k]
            best = now - slope[..., i] / inner[:, None, i, i]
            place = nearest((best / one).reshape(-1, 1), rows)
            moved = (rows.gather(1, place).view(now.shape) * one).where(~stays, now)
            at[..., k] = place.view(now.shape).where(~stays, at[..., k])
            slope = slope + (moved - now)[..., None] * inner[:, None, i]
            found[..., k] = moved
        slopes += (found[..., block] - before) @ h[:, block]
    return at


def fit_values(
    weight: Tensor, hessian: Tensor, codebook: Tensor, at: Tensor, unit: Tensor, steps: int = 8
) -> tuple[Tensor, Tensor]:
    """The values of least cost for these indices, ascending, and the indices in that order.

    A value that is zero stays zero. Conjugate gradients from the values as they are, on all
    codebooks at once, preconditioned by the diagonal. Other arguments as of `improve`.
    """
    h, codebook = hessian.double(), codebook.double()
    free = codebook != 0
    rows = at.flatten(0, 1)

    def summed(x: Tensor) -> Tensor:
        """Over all weights that share a value."""
        total = torch.zeros(len(rows), codebook.shape[1], dtype=torch.float64)
        total.scatter_add_(1, rows, (x * unit).flatten(0, 1))
        total = total.sum(0, keepdim=True) if len(codebook) == 1 else total
        return torch.where(free, total, 0.0)

    weigh = h.diagonal(dim1=1, dim2=2)[:, None] * unit
    scale = 1 / summed(weigh).clamp(min=1e-30)
    residual = summed((weight.double() - values_of(codebook, at, unit)) @ h)
    ahead = residual * scale
    size = (residual * ahead).sum(-1, keepdim=True)
    floor = size * 1e-12
    for _ in range(steps):
        moved = summed(values_of(ahead, at, unit) @ h)
        length = torch.where(size > floor, size / (ahead * moved).sum(-1, keepdim=True), 0.0)
        codebook = codebook + length * ahead
        residual = residual - length * moved
        towards = residual * scale
        before, size = size, (residual * towards).sum(-1, keepdim=True)
        ahead = towards + torch.where(before > floor, size / before, 0.0) * ahead
    ordered, order = codebook.sort(1)
    back = order.argsort(1).expand(len(rows), -1)
    return ordered, back.gather(1, rows).view(at.shape)

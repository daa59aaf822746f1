"""Low rank: a weight as a product of smaller ones, least error first.

`moments` stands for the layer's inputs: with ``H = C C'`` their second moments, the error
``tr((V - W) H (V - W)')`` of what the layer gives is that of the plain matrices ``V C`` and ``W C``
(Wang et al. 2024, "SVD-LLM", arXiv:2403.07378, section 3.1). Without, errors are of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rank", "svd", "tucker2"]

DAMPING = 1e-6  # of the mean of the moments: inputs that are always zero


def svd(weight: Tensor, moments: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of ``weight = left @ right``, those that matter most in front.

    With the first r of them, the error is the root of the sum of squares of the sizes that are left
    out, and no product of rank r has less (Eckart and Young 1936).

    Args:
        weight: (rows, columns).
        moments: (columns, columns), of what it multiplies.

    Returns:
        left (rows, n), sizes (n,) falling, right (n, columns); float64, n the lesser of the two.
    """
    root = _root(weight.shape[1], moments)
    left, sizes, right = torch.linalg.svd(weight.double() @ root, full_matrices=False)
    half = sizes.sqrt()  # to either side: weights of like size quantize best
    return left * half, sizes, _without(half[:, None] * right, root)


def tucker2(
    weight: Tensor, moments: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The factors of a convolution: channels down, a small convolution, channels up.

    Tucker decomposition of the two channel axes (Kim et al. 2016, arXiv:1511.06530, equation 2) by
    the singular vectors of either unfolding. The squared error is at most the sum of squares of the
    sizes left out on both sides (De Lathauwer et al. 2000, property 10).

    Args:
        weight: (outputs, inputs, *kernel).
        moments: (inputs, inputs), of its input channels.

    Returns:
        up (outputs, n) and its sizes (n,); core (n, m, *kernel); down (m, inputs) and its sizes
        (m,); float64. ``up core down`` is the weight.
    """
    root = _root(weight.shape[1], moments)
    seen = torch.tensordot(weight.double(), root, ([1], [0])).movedim(-1, 1)
    up, out_sizes, _ = torch.linalg.svd(seen.flatten(1), full_matrices=False)
    down, in_sizes, _ = torch.linalg.svd(seen.transpose(0, 1).flatten(1), full_matrices=False)
    core = torch.tensordot(torch.tensordot(up.T, seen, 1), down, ([1], [0])).movedim(-1, 1)
    return up, out_sizes, core, _without(down.T, root), in_sizes


def rank(sizes: Tensor, error: float) -> int:
    """How many factors, at least one, leave at most this share of the norm out.

    Args:
        sizes: (n,), falling.
    """
    tails = sizes.square().flip(0).cumsum(0).flip(0)  # what leaving out from here on costs
    return max(1, int((tails > error**2 * tails[0]).sum()))


def _root(size: int, moments: Tensor | None) -> Tensor:
    eye = torch.eye(size, dtype=torch.float64)
    if moments is None:
        return eye
    moments = moments.double()
    least = DAMPING * moments.diagonal().mean().clamp(min=1e-30)
    return torch.linalg.cholesky(moments + least * eye)


def _without(factor: Tensor, root: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(root, factor, upper=False, left=False)

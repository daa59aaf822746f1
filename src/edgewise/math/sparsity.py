"""Sparsity: which weights become zero.

A mask is a bool tensor, True where a weight stays. Scores are any numbers, larger for weights that
matter more. Patterns are laid over matrices (outputs, inputs): the weight of a convolution is read
as one with the kernel's places in front of its input channels, which is how runtimes store it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Pattern", "as_matrix", "as_weight", "erdos_renyi", "lamp", "largest", "shared"]


@dataclass(frozen=True)
class Pattern:
    """What zeros have in common.

    Attributes:
        keep, of: with ``2:4`` two of every four neighbouring inputs stay (Mishra et al. 2021,
            arXiv:2104.08378, section 3); both 0 where the pattern is of blocks.
        rows, columns: blocks of outputs by inputs that are zero or not together; 1 by 1 is no
            pattern at all.
    """

    keep: int = 0
    of: int = 0
    rows: int = 1
    columns: int = 1

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Of ``"2:4"``, ``"4x1"`` (outputs by inputs), or ``""``.

        Raises:
            ValueError: it is none of these.
        """
        if not text:
            return cls()
        if found := re.fullmatch(r"([1-9]\d?):([1-9]\d?)", text):
            keep, of = map(int, found.groups())
            if keep < of:
                return cls(keep, of)
        if found := re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,2})", text):
            return cls(0, 0, *map(int, found.groups()))
        raise ValueError(f"a pattern is N:M with N < M, or ROWSxCOLUMNS, found '{text}'")

    def reason(self, rows: int, inputs: int) -> str | None:
        """Why a weight of so many outputs and input channels cannot have it."""
        if inputs % (self.of or self.columns):
            return f"its {inputs} inputs cannot be divided by {self.of or self.columns}"
        if rows % self.rows:
            return f"its {rows} outputs cannot be divided by {self.rows}"
        return None

    def sums(self, score: Tensor) -> Tensor:
        """One number a block, from a matrix of scores."""
        rows, columns = score.shape
        blocks = score.reshape(rows // self.rows, self.rows, columns // self.columns, self.columns)
        return blocks.sum((1, 3))

    def spread(self, mask: Tensor) -> Tensor:
        """A mask of weights from one of blocks."""
        return mask.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)

    def mask(self, score: Tensor, zeros: float) -> Tensor:
        """Keep what has the largest scores of a matrix.

        Args:
            score: (outputs, columns).
            zeros: the share that goes; N:M has its own.
        """
        if self.of:
            groups = score.reshape(score.shape[0], -1, self.of)
            return largest(groups, self.keep).reshape(score.shape)
        sums = self.sums(score)
        return self.spread(
            largest(sums.flatten(), sums.numel() - round(zeros * sums.numel())).view_as(sums)
        )


def largest(score: Tensor, keep: int) -> Tensor:
    """True for exactly `keep` numbers along the last axis: the largest, the first among equals."""
    order = score.sort(dim=-1, descending=True, stable=True).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order[..., :keep], True)


def shared(scores: Mapping[str, Tensor], zeros: float) -> dict[str, Tensor]:
    """Masks that keep the largest of all scores of all weights together."""
    flat = torch.cat([score.flatten().double() for score in scores.values()])
    mask = largest(flat, flat.numel() - round(zeros * flat.numel()))
    parts = mask.split([score.numel() for score in scores.values()])
    return {n: part.view_as(scores[n]) for n, part in zip(scores, parts, strict=True)}


def lamp(score: Tensor) -> Tensor:
    """Scores of one weight, made comparable with those of others.

    Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning" (arXiv:2010.07611),
    equation 4: the square over the sum of all squares that are not smaller.
    """
    squares = score.double().square().flatten()
    order = squares.argsort(descending=True)
    found = torch.empty_like(squares)
    found[order] = squares[order] / squares[order].cumsum(0).clamp(min=1e-300)
    return found.view_as(score)


def erdos_renyi(shapes: Sequence[Sequence[int]], zeros: float) -> list[float]:
    """The share of zeros of each weight, which together make `zeros` of all.

    Evci et al. 2020, "Rigging the Lottery" (arXiv:1911.11134), section 3(1), Erdos-Renyi-Kernel:
    what stays is in proportion to the sum of a weight's axes over their product; a weight for
    which that is more than all stays whole.
    """
    sizes = torch.tensor([torch.Size(s).numel() for s in shapes], dtype=torch.float64)
    part = torch.tensor([sum(s) for s in shapes], dtype=torch.float64) / sizes
    whole = torch.zeros(len(sizes), dtype=torch.bool)
    while True:
        left = (1 - zeros) * sizes.sum() - sizes[whole].sum()
        factor = left / (part * sizes)[~whole].sum().clamp(min=1e-300)
        density = torch.where(whole, 1.0, factor * part)
        over = density > 1 + 1e-12
        if not over.any():
            return (1 - density).clamp(0, 1).tolist()
        whole |= over


def as_matrix(weight: Tensor, inputs: int = 1) -> Tensor:
    """(outputs, columns) of a weight (outputs, inputs, ...): its input channels come last.

    Args:
        inputs: the axis of input channels; 0 for weights (inputs, outputs).
    """
    weight = weight.transpose(0, 1) if inputs == 0 else weight
    return weight.movedim(1, -1).flatten(1)


def as_weight(matrix: Tensor, like: Tensor, inputs: int = 1) -> Tensor:
    """What `as_matrix` made a matrix of."""
    shape = like.transpose(0, 1).shape if inputs == 0 else like.shape
    weight = matrix.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
    return (weight.transpose(0, 1) if inputs == 0 else weight).contiguous()

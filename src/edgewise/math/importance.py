"""Importance: how much each unit of a group of channels matters.

A criterion is a function from what is known about a group to one number a unit; the units with the
smallest are cut. What is known is `Evidence`: the slice of every weight that a unit owns, in the
layers that make it and in those that read it, the gradients of these weights, and the unit's
activations. A user's own criterion is any such function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["CRITERIA", "Activity", "Criterion", "Evidence", "Known", "Slices", "of_those_left"]


@dataclass(frozen=True)
class Slices:
    """What each unit of a group owns of one parameter.

    Attributes:
        parameter: its name.
        kind: ``"weight"`` (two or more axes), ``"scale"`` (of a batch norm), or ``"other"``.
        summed: whether the operator sums over the group's axis: the unit's channels come in here.
        values: float32 (units, n).
        gradients: of the loss, float32 (batches, units, n), one for each batch of samples.
    """

    parameter: str
    kind: str
    summed: bool
    values: Tensor
    gradients: Tensor | None = None


@dataclass(frozen=True)
class Activity:
    """What each unit hands on to the layers that read it, over real samples.

    Attributes:
        total: mean of max(x, 0), float64 (units,).
        zeros: share of x <= 0, float64 (units,).
    """

    total: Tensor
    zeros: Tensor


@dataclass(frozen=True)
class Evidence:
    """What is known about one group.

    Attributes:
        group: its name.
        slices: one row a parameter.
        activity: only where the criterion asks for it.
        seed: for criteria that draw.
    """

    group: str
    slices: tuple[Slices, ...]
    activity: Activity | None = None
    seed: int = 0

    @property
    def weights(self) -> list[Slices]:
        """The rows of weights."""
        return [row for row in self.slices if row.kind == "weight"]

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.slices[0].values)


Criterion = Callable[[Evidence], Tensor]


@dataclass(frozen=True)
class Known:
    """One criterion of this file.

    Attributes:
        score: gives float (units,), the larger the more important.
        needs: ``"gradients"`` or ``"activity"`` beside the weights, or "".
        comparable: whether scores of different groups are compared as they are; others by what
            is left of their group (`of_those_left`).
    """

    score: Criterion
    needs: str = ""
    comparable: bool = False


def l1(evidence: Evidence) -> Tensor:
    """Sum of magnitudes (Li et al., arXiv:1608.08710, section 3.1), over the whole group."""
    return sum(row.values.abs().mean(1) for row in evidence.weights)


def l2(evidence: Evidence) -> Tensor:
    """Root of the sum of squares, over the whole group (Fang et al., arXiv:2301.12900, eq. 4)."""
    return sum(row.values.square().mean(1) for row in evidence.weights).sqrt()


def random(evidence: Evidence) -> Tensor:
    """A draw: the baseline that every criterion must beat."""
    generator = torch.Generator().manual_seed(evidence.seed)
    return torch.rand(evidence.size, generator=generator)


def bn_scale(evidence: Evidence) -> Tensor:
    """Magnitude of the batch norm's factors (Liu et al., arXiv:1708.06519)."""
    scales = [row.values.abs().mean(1) for row in evidence.slices if row.kind == "scale"]
    return sum(scales) if scales else l2(evidence)


def fpgm(evidence: Evidence) -> Tensor:
    """Sum of distances to all other units: what lies amid the others can be replaced by them.

    He et al., "Filter Pruning via Geometric Median", arXiv:1811.00250, equation 4.
    """
    made = [row.values for row in evidence.weights if not row.summed]
    matrix = torch.cat(made or [row.values for row in evidence.weights], 1)
    return torch.cdist(matrix, matrix).sum(1)


def lamp(evidence: Evidence) -> Tensor:
    """Squared norm over the sum of those that are not smaller (Lee et al., arXiv:2010.07611)."""
    squares = l2(evidence).square()
    order = squares.argsort(descending=True)
    rest = squares[order].cumsum(0)
    score = torch.empty_like(squares)
    score[order] = squares[order] / rest.clamp(min=torch.finfo(rest.dtype).tiny)
    return score


def taylor(evidence: Evidence) -> Tensor:
    """First-order change of the loss by each weight, squared and summed over the unit's weights.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", arXiv:1906.10771, section
    3.1: (g w)^2, over batches. The sum is taken after squaring, since for a layer before a batch
    norm the changes of a filter's weights all but cancel.
    """
    return sum((row.values * row.gradients).square().sum((0, 2)) for row in _made(evidence))


def gradient(evidence: Evidence) -> Tensor:
    """Magnitude of the gradient."""
    return sum(row.gradients.sum(0).abs().sum(1) for row in _made(evidence))


def fisher(evidence: Evidence) -> Tensor:
    """Second-order change of the loss with the Fisher information for the Hessian.

    Half the sum over batches of (sum of w g)^2: Liu et al., "Group Fisher Pruning",
    arXiv:2108.00708, equation 5. Over the weights that read the unit this is what the unit's own
    values and their gradients give; over those that make it, before a batch norm, it is zero.
    """
    readers = [row for row in evidence.weights if row.summed] or evidence.weights
    change = sum((row.values * row.gradients).sum(2) for row in readers)
    return change.square().sum(0) / 2


def activation(evidence: Evidence) -> Tensor:
    """Mean of relu(x) of what the unit hands on, over real samples."""
    return evidence.activity.total


def apoz(evidence: Evidence) -> Tensor:
    """One minus the average percentage of zeros (Hu et al., arXiv:1607.03250, equation 1)."""
    return 1 - evidence.activity.zeros


def of_those_left(score: np.ndarray) -> np.ndarray:
    """Scores by the root mean square of those in their group that are not smaller, in order.

    A group whose small units have gone holds on to the others: what is compared between groups is
    what a unit is to those that are there when its turn comes. Lee et al. 2021 (LAMP,
    arXiv:2010.07611), equation 4, but for the mean in place of the sum: groups differ in units.

    Args:
        score: (units,), 0 or above; infinite for units that must stay.
    """
    order = np.argsort(score, kind="stable")
    order = order[np.isfinite(score[order])]
    left = np.arange(len(order), 0, -1)
    size = np.sqrt(np.cumsum(score[order][::-1] ** 2)[::-1] / left)
    rising = np.maximum.accumulate(score[order] / np.maximum(size, 1e-30))
    found = np.array(score, np.float64)  # what is infinite stays so
    found[order] = rising * (1 + 1e-12 * np.arange(len(order)))  # strictly
    return found


def _made(evidence: Evidence) -> list[Slices]:
    """Weights on the side that makes the units; cutting there is cutting them once."""
    return [row for row in evidence.weights if not row.summed] or evidence.weights


CRITERIA: dict[str, Known] = {
    "l1": Known(l1),
    "l2": Known(l2),
    "random": Known(random),
    "bn_scale": Known(bn_scale),
    "fpgm": Known(fpgm),
    "lamp": Known(lamp, comparable=True),
    "taylor": Known(taylor, "gradients"),
    "gradient": Known(gradient, "gradients", comparable=True),
    "fisher": Known(fisher, "gradients", comparable=True),
    "activation": Known(activation, "activity"),
    "apoz": Known(apoz, "activity", comparable=True),
}

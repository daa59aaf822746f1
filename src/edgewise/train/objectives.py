"""What a training makes small: the loss of a task, and the distance to teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DataError, StepError
from ..math import distillation
from .features import Pair

__all__ = ["LOSSES", "MATCHES", "Distillation", "Supervision", "task_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]
Said = tuple[tuple[Tensor, ...], ...]


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Classes on axis 1 of (batch, classes, *places), else on the last axis."""
    if targets.is_floating_point():  # probabilities, shaped like the outputs
        return -(targets * F.log_softmax(outputs, -1)).sum(-1).mean()
    if outputs.ndim == 4:
        return F.cross_entropy(outputs, targets)
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets.reshape(outputs.shape))


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets.reshape(outputs.shape).float())


LOSSES: dict[str, Loss] = {
    "cross-entropy": _cross_entropy, "squared": _squared, "binary": _binary,
}  # fmt: skip


def task_loss(loss: str | Loss, outputs: Tensor, targets: Tensor | None) -> Tensor:
    """The mean loss of a batch.

    Args:
        loss: one of `LOSSES`; a function of (outputs, targets); or ``"auto"``: cross-entropy for
            classes, binary where there is one output, squared for numbers.

    Raises:
        DataError: there are no targets, or they do not fit the outputs.
    """
    if targets is None:
        raise DataError("this training learns from labels, and the data have none: distill with "
                        "alpha=1 instead")  # fmt: skip
    if loss == "auto":
        mixed = targets.is_floating_point() and targets.shape == outputs.shape and (
            outputs.ndim == 2 and bool((targets.sum(-1) - 1).abs().max() < 1e-4)
        )  # fmt: skip
        if targets.is_floating_point() and not mixed:
            loss = "squared"
        else:
            loss = "binary" if outputs[0].numel() == 1 else "cross-entropy"
    function = LOSSES[loss] if isinstance(loss, str) else loss
    try:
        return function(outputs, targets)
    except (RuntimeError, IndexError, ValueError) as error:
        raise DataError(
            f"targets of shape {list(targets.shape)} ({targets.dtype}) do not fit outputs of shape "
            f"{list(outputs.shape)}: {str(error).splitlines()[0]}"
        ) from error


class Supervision(nn.Module):
    """Labels teach.

    Args:
        loss: see `task_loss`.
    """

    def __init__(self, loss: str | Loss):
        super().__init__()
        self.loss = loss

    def forward(self, outputs: tuple[Tensor, ...], targets: Tensor | None, said: Said) -> Tensor:
        return task_loss(self.loss, outputs[0], targets)


def _soft(student: Tensor, teachers: list[Tensor], targets, temperature: float) -> Tensor:
    taught = distillation.mixture(teachers, temperature)
    return distillation.soft_divergence(student, taught, temperature)


def _decoupled(student: Tensor, teachers: list[Tensor], targets, temperature: float) -> Tensor:
    if targets is None or targets.is_floating_point() or student.ndim != 2:
        raise StepError("match='decoupled' needs one class a sample: use match='soft'")
    taught = distillation.mixture(teachers, temperature)
    return distillation.decoupled_divergence(student, taught, targets, temperature)


def _same(student: Tensor, teachers: list[Tensor], targets, temperature: float) -> Tensor:
    return distillation.hint(student, torch.stack(teachers).mean(0))


# (student's outputs, the teachers', targets, temperature) -> distance
MATCHES = {"soft": _soft, "decoupled": _decoupled, "outputs": _same}


class Distillation(nn.Module):
    """``(1 - alpha) task + alpha match + sum of weight * hint``: arXiv:1503.02531, section 2.

    Args:
        loss: of the task; see `task_loss`. Unused where alpha is 1.
        match: one of `MATCHES`.
        pairs: of features.
        count: outputs of the model; the features follow them.
    """

    def __init__(
        self,
        loss: str | Loss,
        match: str,
        alpha: float,
        temperature: float,
        pairs: Sequence[Pair],
        count: int,
    ):
        super().__init__()
        self.loss, self.match = loss, MATCHES[match]
        self.alpha, self.temperature = alpha, temperature
        self.pairs = tuple(pairs)
        self.count = count
        self.projections = nn.ModuleList(pair.projection() for pair in pairs)

    def forward(self, outputs: tuple[Tensor, ...], targets: Tensor | None, said: Said) -> Tensor:
        total = outputs[0].new_zeros(())
        if self.alpha < 1:
            total = total + (1 - self.alpha) * task_loss(self.loss, outputs[0], targets)
        if self.alpha > 0:
            met = [
                self.match(outputs[i], [each[i] for each in said], targets, self.temperature)
                for i in range(self.count)
            ]
            total = total + self.alpha * torch.stack(met).mean()
        for i, (pair, project) in enumerate(zip(self.pairs, self.projections, strict=True)):
            at = self.count + i
            total = total + pair.weight * pair.distance(project(outputs[at]), said[0][at])
        return total

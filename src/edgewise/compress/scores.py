"""Scores: one number for each unit of each group, by a criterion."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data import Data
from ..data.split import Split
from ..errors import DataError, InputError, StepError
from ..graph.axes import Coupling
from ..math.importance import CRITERIA, Criterion, of_those_left
from ..model import Model
from .evidence import gather

__all__ = ["calibration", "check_criterion", "tensors", "unit_scores"]

BATCH, SQUARED = 32, 8  # the latter where gradients of batches are squared: the fewer, the better


def check_criterion(criterion: str | Criterion) -> None:
    """Refuse a name that is none.

    Raises:
        InputError: it is none of `CRITERIA`.
    """
    if not callable(criterion) and criterion not in CRITERIA:
        raise InputError(
            f"unknown criterion '{criterion}': choose one of {', '.join(CRITERIA)}, or "
            "give a function"
        )


def unit_scores(
    model: Model,
    coupling: Coupling,
    criterion: str | Criterion,
    data: Data | None,
    samples: int,
) -> dict[str, np.ndarray]:
    """By group, float64 (units,), the larger the more important; those of groups are comparable.

    Args:
        coupling: of the model's graph.
        criterion: one of `edgewise.math.importance.CRITERIA`, or a function from `Evidence`.
        data: for criteria that look at samples.
        samples: at most so many.

    Raises:
        StepError: a criterion gives NaN or the wrong shape.
        DataError: a criterion that needs samples, and there are none.
    """
    known = CRITERIA.get(criterion) if isinstance(criterion, str) else None
    needs = known.needs if known else ""
    batches = iter(())
    if needs:
        size = SQUARED if needs == "gradients" else BATCH
        batches = calibration(data, samples, f"criterion '{criterion}'").batches(size)
    scores = {}
    for evidence in gather(model.graph, coupling, needs, batches, 0):
        score = np.asarray((known.score if known else criterion)(evidence), np.float64)
        called = criterion if known else getattr(criterion, "__name__", "criterion")
        if score.shape != (evidence.size,):
            raise StepError(
                f"{called} gives shape {score.shape} for the group '{evidence.group}' of "
                f"{evidence.size} units: give one number a unit"
            )
        if np.isnan(score).any():
            raise StepError(f"{called} gives NaN for the group '{evidence.group}'")
        comparable = known is not None and known.comparable
        scores[evidence.group] = score if comparable else of_those_left(score)
    return scores


def calibration(data: Data | None, samples: int, what: str) -> Split:
    """The calibration samples, at most so many.

    Raises:
        DataError: there are none; says what needs them.
    """
    if data is None:
        raise DataError(f"{what} needs calibration samples: give data=")
    return data.require("calibration").subset(samples)


def tensors(split: Split, size: int) -> list[tuple[Tensor, ...]]:
    """The inputs of all samples, in batches of this size."""
    return [tuple(map(torch.from_numpy, inputs)) for inputs, _ in split.batches(size)]

"""Lessons: how what was cut learns again, found out from the model and its samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..compress.judge import choices
from ..errors import InputError
from ..model import Model
from ..step import Step
from ..train import Distill, Optimizer, Training
from ..train.augment import Augment
from .roles import Roles

__all__ = ["GROWTH", "Learning", "learning_for"]

GROWTH = 2  # each rung trains so many times as long as the one before
RUNGS = 6
STEPS = 100  # of the first rung, at least
BATCH = 128
OPTIMIZER = Optimizer("adamw", 1e-3)  # does not mind how inputs and weights are scaled
SEEN = 256  # samples on which an augmentation is tried
KEPT = 0.85  # share of predictions that it may not change
TRIED = ("crop", "flip", "shift", "noise")


@dataclass(frozen=True)
class Learning:
    """How what was cut is trained again: by distillation from the given model.

    Attributes:
        training: of the first rung; each further one goes on from there, `GROWTH` times as long.
        alpha: the teacher's weight; 1 where there are no labels.
        match: as of `Distill`.
        rungs: the most of them.
    """

    training: Training
    alpha: float = 0.9
    match: str = "soft"
    rungs: int = RUNGS

    def steps(self, rungs: int) -> list[Step]:
        """The steps up to that rung."""
        return [
            Distill(
                alpha=self.alpha,
                match=self.match,
                training=replace(self.training, epochs=self.epochs(rung), seed=rung),
            )
            for rung in range(rungs)
        ]

    def epochs(self, rung: int) -> float:
        """Of one rung, counted from 0."""
        return self.training.epochs * GROWTH**rung


def learning_for(model: Model, roles: Roles, classes: bool) -> Learning | None:
    """A training that suits; None where there are no training samples.

    Augmented are the samples in every way that leaves the given model's own predictions as they
    are: what it was not trained to overlook, it cannot teach either.

    Args:
        classes: whether the outputs are scores of classes.
    """
    split = roles.data.training
    if split is None or len(split) < 2:
        return None
    batch = min(BATCH, max(1, len(split) // 8))
    epochs = math.ceil(STEPS * batch / len(split))
    training = Training(
        epochs, batch, OPTIMIZER, augment=_harmless(model, roles) if classes else ()
    )
    if not classes:
        return Learning(training, 1.0, "outputs")
    return Learning(training, 0.9 if split.source.labelled else 1.0)


def _harmless(model: Model, roles: Roles) -> tuple[str, ...]:
    inputs, _ = roles.data.training.take(SEEN)
    spec = model.signature.inputs[0]
    whole = choices(model(*inputs))
    found = []
    for name in TRIED:
        try:
            augment = Augment((name,), spec, 0)
        except InputError:  # this input cannot take it
            continue
        drawn = augment.draw(np.random.default_rng(0), len(whole))
        changed, _ = augment(
            torch.from_numpy(inputs[0]), None, {k: torch.from_numpy(v) for k, v in drawn.items()}
        )
        again = choices(model(changed.contiguous().numpy(), *inputs[1:]))
        if np.mean(again == whole) >= KEPT:
            found.append(name)
    return tuple(found)

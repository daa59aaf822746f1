"""Finetune: train a compressed model further on labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from ..compress.regrid import regrid
from ..data import Data
from ..data.split import Split
from ..errors import DataError, InputError
from ..model import Model
from ..step import Plan, Step
from .learning import fix_scales, free_scales
from .loop import train
from .objectives import LOSSES, Supervision
from .teacher import Teachers
from .training import Session, Training

__all__ = ["Finetune", "TrainingPlan", "carry_out", "plan_training"]

VALIDATION, MOST_VALIDATION = 0.1, 2000  # of the training samples, held out to choose by


@dataclass(frozen=True)
class TrainingPlan(Plan):
    """What a training will see.

    Attributes:
        samples, validation: to learn from, and held out of the same split to choose by.
        learns: parameters, and the learned scales among them.
        scales: names of these.
        zeros: numbers of weights that are 0 and stay so.
    """

    samples: Split = field(repr=False)
    validation: Split = field(repr=False)
    learns: int
    scales: tuple[str, ...]
    zeros: int
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        kept = f", {self.zeros:,} zeros are kept" if self.zeros else ""
        scales = f" and {len(self.scales)} scales" if self.scales else ""
        return (
            f"{self.learns:,} parameters{scales} learn from {len(self.samples):,} samples{kept}; "
            f"{len(self.validation):,} others choose the best epoch"
        )


def plan_training(model: Model, data: Data | None, training: Training) -> TrainingPlan:
    """Hold out validation samples and count what learns.

    Raises:
        DataError: there are no training samples, or fewer than two.
    """
    if data is None:
        raise DataError("training needs samples: give data=")
    split = data.require("training")
    if len(split) < 2:
        raise DataError(f"training needs at least 2 samples, found {len(split)}")
    out = min(MOST_VALIDATION, max(1, round(len(split) * VALIDATION)))
    order = np.random.default_rng(0).permutation(len(split))
    held, rest = (replace(split, indices=split.indices[np.sort(o)])
                  for o in (order[:out], order[out:]))  # fmt: skip
    module = model.module()
    scales = tuple(free_scales(module)) if training.scales else ()
    weights = [p for p in model.graph.parameters() if p.ndim > 1]
    return TrainingPlan(
        rest,
        held,
        sum(p.numel() for p in model.graph.parameters()),
        scales,
        sum(int((p == 0).sum()) for p in weights),
    )


def carry_out(
    model: Model,
    plan: TrainingPlan,
    objective: nn.Module,
    training: Training,
    session: Session,
    teachers: Teachers | None = None,
    taps: tuple[str, ...] = (),
) -> Model:
    """Train a copy of the model and close it again."""
    module = model.module()
    if plan.scales:
        free_scales(module)
    train(
        module, objective, plan.samples, plan.validation, model.signature, training, session,
        teachers=teachers, taps=taps, scales=plan.scales,
    )  # fmt: skip
    fix_scales(module, plan.scales)
    regrid(module)
    return replace(model, graph=module)


@dataclass(frozen=True)
class Finetune(Step):
    """Train on labels: after pruning, or to learn a quantized model's weights and scales.

    Attributes:
        loss: ``"auto"``, one of ``"cross-entropy"``, ``"squared"`` and ``"binary"``, or a function
            of (outputs, targets), both tensors, to a scalar. ``"auto"`` goes by the targets.
        training: how.
        session: where.
    """

    loss: str | Callable[[Tensor, Tensor], Tensor] = "auto"
    training: Training = field(default=Training())
    session: Session = field(default=Session(), metadata={"lineage": False})

    def __post_init__(self):
        if isinstance(self.loss, str) and self.loss not in ("auto", *LOSSES):
            raise InputError(
                f"unknown loss '{self.loss}': choose one of auto, {', '.join(LOSSES)}, or give a "
                "function"
            )

    def requires(self, model: Model) -> None:
        pass

    def plan(self, model: Model, data: Data | None) -> TrainingPlan:
        return plan_training(model, data, self.training)

    def apply(self, model: Model, plan: TrainingPlan) -> Model:
        return carry_out(model, plan, Supervision(self.loss), self.training, self.session)

"""Distill: a student learns what its teachers say, with labels or without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ..data import Data
from ..errors import InputError, StepError
from ..model import Model
from ..step import Step
from .features import Hint, pairs_of
from .finetune import TrainingPlan, carry_out, plan_training
from .learning import judged
from .objectives import LOSSES, MATCHES, Distillation
from .teacher import Teachers
from .training import Session, Training

__all__ = ["Distill"]


@dataclass(frozen=True)
class Distill(Step):
    """Knowledge distillation: ``(1 - alpha) task loss + alpha T^2 KL(teacher || student)``.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531). With
    `alpha` 1 no labels are used. A quantized student learns its scales too.

    Attributes:
        teacher: a trained Model of the same outputs, or several, whose probabilities are averaged;
            None within a Recipe for the Model that the Recipe was given.
        temperature: T, above 0, softens both sides' logits.
        alpha: weight of the teacher's word, in [0, 1].
        match: ``"soft"`` (probabilities), ``"decoupled"`` (arXiv:2203.08679; needs labels), or
            ``"outputs"`` (numbers, for regression).
        hints: features to share besides, or the kind of them: ``"fitnets"``, ``"attention"``,
            ``"relational"``. They are the first teacher's.
        loss: of the task; see `Finetune`.
        training: how.
        session: where.
    """

    teacher: Model | tuple[Model, ...] | None = None
    temperature: float = 4.0
    alpha: float = 0.9
    match: str = "soft"
    hints: str | tuple[Hint, ...] = ()
    loss: str | Callable[[Tensor, Tensor], Tensor] = "auto"
    training: Training = field(default=Training())
    session: Session = field(default=Session(), metadata={"lineage": False})

    def __post_init__(self):
        if not self.temperature > 0:
            raise InputError(f"temperature must be above 0, found {self.temperature}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha must be in [0, 1], found {self.alpha}")
        if self.match not in MATCHES:
            raise InputError(f"unknown match '{self.match}': choose one of {', '.join(MATCHES)}")
        if isinstance(self.loss, str) and self.loss not in ("auto", *LOSSES):
            raise InputError(f"unknown loss '{self.loss}': choose one of auto, {', '.join(LOSSES)}")
        if self.teacher == () or not all(isinstance(t, Model) for t in self._teachers):
            raise InputError("teacher must be a Model, or several: load it with edgewise.load")
        _ = self._hints

    @property
    def _teachers(self) -> tuple[Model, ...]:
        if isinstance(self.teacher, tuple):
            return self.teacher
        return () if self.teacher is None else (self.teacher,)

    @property
    def _hints(self) -> tuple[Hint, ...]:
        return (Hint(self.hints),) if isinstance(self.hints, str) else self.hints

    def within(self, original: Model) -> Distill:
        return self if self._teachers else replace(self, teacher=original)

    def requires(self, model: Model) -> None:
        if not self._teachers:
            raise StepError("distillation needs a teacher: give the model before compression")
        want = [(s.shape, s.dtype) for s in model.signature.inputs]
        outputs = [s.shape for s in model.signature.outputs]
        for teacher in self._teachers:
            have = [(s.shape, s.dtype) for s in teacher.signature.inputs]
            if want != have:
                raise StepError(
                    f"the student takes {want} and the teacher {have}: both must take the same "
                    "inputs"
                )
            theirs = [s.shape for s in teacher.signature.outputs]
            if outputs != theirs:
                raise StepError(
                    f"the student gives {outputs} and the teacher {theirs}: their outputs must "
                    "match; choose a teacher of the same classes"
                )

    def plan(self, model: Model, data: Data | None) -> TrainingPlan:
        pairs_of(self._hints, model, self._teachers[0])
        return plan_training(model, data, self.training)

    def apply(self, model: Model, plan: TrainingPlan) -> Model:
        pairs = pairs_of(self._hints, model, self._teachers[0])
        objective = Distillation(
            self.loss, self.match, self.alpha, self.temperature, pairs,
            len(model.signature.outputs),
        )  # fmt: skip
        taps = [tuple(pair.teacher for pair in pairs)] + [()] * (len(self._teachers) - 1)
        teachers = Teachers(
            [judged(t.module(), tap) for t, tap in zip(self._teachers, taps, strict=True)],
            0 if self.training.augment else len(plan.samples),
            None if self.session.folder is None else Path(self.session.folder),
        )
        student = tuple(pair.student for pair in pairs)
        return carry_out(model, plan, objective, self.training, self.session, teachers, student)

"""How a model is trained, and where: the same two records for every step that learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor, fx

from ..errors import InputError
from .augment import AUGMENTATIONS
from .schedule import SCHEDULES

__all__ = ["Change", "Optimizer", "Progress", "Session", "Training"]

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Optimizer:
    """Stochastic gradient descent, or Adam.

    Attributes:
        name: ``"sgd"`` (with Nesterov's momentum) or ``"adamw"``.
        rate: the highest learning rate of the schedule.
        momentum: of ``"sgd"``; beta 1 of ``"adamw"``.
        decay: weight decay, of weights alone (not of biases, norms and scales).
        clip: the largest norm of the gradient, without which a network whose batch-norms were
            folded, as a quantized one's are, soon diverges; None for any.
        warmup: share of the steps over which the rate rises from nothing.
    """

    name: str = "sgd"
    rate: float = 0.01
    momentum: float = 0.9
    decay: float = 1e-4
    clip: float | None = 1.0
    warmup: float = 0.05

    def __post_init__(self):
        if self.name not in OPTIMIZERS:
            raise InputError(
                f"unknown optimizer '{self.name}': choose one of {', '.join(OPTIMIZERS)}"
            )
        if not self.rate > 0:
            raise InputError(f"the learning rate must be above 0, found {self.rate}")
        for name in ("momentum", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be in [0, 1), found {getattr(self, name)}")
        if self.decay < 0 or (self.clip is not None and self.clip <= 0):
            raise InputError("decay must be 0 or above, and clip above 0")


class Change(Protocol):
    """Something that changes over a training, as a sparsity that rises.

    A frozen dataclass; what it does must follow from its arguments alone.
    """

    @property
    def needs_movement(self) -> bool:
        """Whether it asks how the weights moved."""

    def __call__(self, module: fx.GraphModule, at: float, movement: Mapping[str, Tensor]) -> bool:
        """Change the weights in place, before a step; whether it did.

        Args:
            at: the share of the training that is done, in [0, 1).
            movement: parameter's name -> scores (`edgewise.train.movement`); empty where no change
                needs them.
        """


@dataclass(frozen=True)
class Training:
    """What decides the result of a training, to the last bit on one machine.

    Attributes:
        epochs: passes over the training samples; a part of one is allowed.
        batch: samples a step, over all processes.
        optimizer: how the weights move.
        schedule: of the learning rate: ``"cosine"``, ``"one-cycle"``, ``"linear"`` or
            ``"constant"``.
        augment: any of ``"crop"``, ``"flip"``, ``"randaugment"``, ``"mixup"``, ``"cutmix"``
            (images), ``"shift"``, ``"noise"`` (signals).
        average: what is kept are the weights' running average: of this decay (an exponential
            moving average, as 0.999), or ``"swa"``: of the last quarter of the steps, evenly
            (Izmailov et al. 2018, arXiv:1803.05407). 0 for the last weights.
        patience: stop after so many epochs without a better validation; None to go on.
        norms: batch-norms see each batch and gather new statistics; otherwise they stay frozen.
        scales: a quantized model's scales are learned too (Esser et al. 2020, "Learned Step Size
            Quantization", arXiv:1902.08153); otherwise its weights alone (straight-through).
        changes: what else changes over the training, as a sparsity that rises.
        seed: of the order of the samples, augmentation and dropout.
    """

    epochs: float = 10
    batch: int = 128
    optimizer: Optimizer = Optimizer()
    schedule: str = "cosine"
    augment: tuple[str, ...] = ()
    average: float | str = 0.0
    patience: int | None = None
    norms: bool = True
    scales: bool = True
    changes: tuple[Change, ...] = ()
    seed: int = 0

    def __post_init__(self):
        if not self.epochs > 0 or self.batch < 1:
            raise InputError(
                f"epochs must be above 0 and batch at least 1, found {self.epochs} and {self.batch}"
            )
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"unknown schedule '{self.schedule}': choose one of {', '.join(SCHEDULES)}"
            )
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise InputError(
                    f"unknown augmentation '{name}': choose of {', '.join(AUGMENTATIONS)}"
                )
        if self.average != "swa" and not (
            isinstance(self.average, int | float) and 0 <= self.average < 1
        ):
            raise InputError(f"average is a decay in [0, 1) or 'swa', found {self.average!r}")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience must be at least 1 epoch, found {self.patience}")


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step, steps: done, and in all.
        loss: mean of the last steps.
        rate: the learning rate.
        validation: (what, value) of the last validation, if there was one.
    """

    step: int
    steps: int
    loss: float
    rate: float
    validation: tuple[str, float] | None = None


@dataclass(frozen=True)
class Session:
    """Where a training runs and what it leaves there; decides nothing of its result but rounding.

    Started by ``accelerate launch`` or ``torchrun``, each process takes its share of every batch.

    Attributes:
        folder: for checkpoints, TensorBoard's logs and the teacher's outputs. The same training
            started again with the same folder goes on where it stood. None keeps nothing.
        every: seconds between checkpoints.
        precision: ``"float32"``, or ``"bfloat16"`` for the products (weights stay float32).
        accumulate: parts in which a batch is computed, one after the other, to save memory.
        compile: try torch.compile, and keep it where it is faster here.
        watch: is called a few times a second.
    """

    folder: str | Path | None = None
    every: float = 60.0
    precision: str = "float32"
    accumulate: int = 1
    compile: bool = False
    watch: Callable[[Progress], None] | None = field(default=None, compare=False)

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise InputError(
                f"unknown precision '{self.precision}': choose one of {', '.join(PRECISIONS)}"
            )
        if self.accumulate < 1 or self.every < 0:
            raise InputError("accumulate must be at least 1, and every 0 seconds or more")

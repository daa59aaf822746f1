"""Making: a recipe becomes a file of one runtime that was judged; this is what workers do."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..bundling.segments import segments_of
from ..compress.damage import kept_in
from ..compress.judge import Judge
from ..edge import runners
from ..edge.artifact import Artifact
from ..edge.codec import encode
from ..errors import EdgewiseError
from ..goals import Figures
from ..graph.cost import total_macs
from ..lowering import lower
from ..metric import Metric
from ..model import Model
from ..record import Agreement
from ..step import Recipe, Step
from ..train import Session, fresh
from .cache import Cache, digest_of_data, digest_of_model, key_of
from .quiet import Quiet
from .roles import Roles

__all__ = ["Made", "Maker", "OutOfTime", "Task"]


class OutOfTime(EdgewiseError):
    """The time was up, or the search interrupted, before a training had ended."""


@dataclass(frozen=True)
class Task:
    """One thing to make.

    Attributes:
        recipe: the steps.
        runtime: to lower to.
        deadline: by `time.time`, after which no training goes on; None for none.
        cuts: steps after which the weights are drawn anew, as for a network that never was a
            larger one; 0 keeps them.
    """

    recipe: Recipe
    runtime: str
    deadline: float | None = None
    cuts: int = 0


@dataclass(frozen=True)
class Made:
    """What came of it.

    Attributes:
        artifact: the file, in the cache.
        figures: all but what a clock or a meter tells.
        epochs: of training; 0 where nothing was trained.
        training: seconds of these epochs.
    """

    artifact: Artifact
    figures: Figures
    agreement: Agreement | None
    epochs: float
    training: float


class Maker:
    """Carries out tasks in one process.

    Args:
        model: the given one.
        roles: the samples.
        metric: by which is judged.
        cache: where results lie.
        quiet: the machine's locks.

    Attributes:
        watch: is told what is being done.
        stopped: whether a training shall end at once.
    """

    def __init__(
        self,
        model: Model,
        roles: Roles,
        metric: str | Metric,
        cache: Cache,
        quiet: Quiet,
    ):
        self.model, self.roles, self.cache, self.quiet = model, roles, cache, quiet
        self.watch: Callable[[str], None] = lambda what: None
        self.stopped: Callable[[], bool] = lambda: False
        self.threads = torch.get_num_threads()
        self.base = key_of(digest_of_model(model), digest_of_data(roles.data), self.threads)
        self._metric = metric
        self._judge: Judge | None = None

    @property
    def judge(self) -> Judge:
        """Of the samples that choose."""
        if self._judge is None:
            self._judge = Judge(self.model, self.roles.selection, self._metric)
        return self._judge

    def __call__(self, task: Task) -> Made:
        """Make it.

        Raises:
            EdgewiseError: a step refuses, a runtime lacks an operator or disagrees, or the time
                is up; the message says so.
        """
        model, key, epochs, training = self.compressed(task.recipe, task.deadline, task.cuts)
        suffix = runners.get(task.runtime).suffixes[0]

        def make(path: Path) -> Artifact:
            self.watch(f"lowering to {task.runtime}")
            with self.quiet.computing():
                return lower(model, task.runtime, path)

        artifact = self.cache.artifact(key_of(key, task.runtime), suffix, make)
        self.watch(f"judging on {len(self.roles.selection)} samples")
        with self.quiet.computing():
            figures = replace(
                self.judge(artifact.run),
                size_bytes=artifact.size_bytes,
                download_bytes=download_bytes(artifact),
                macs=total_macs(model.graph, model.signature),
                parameters=sum(p.numel() for p in model.graph.parameters()),
            )
        # A new one: what runs a file cannot be sent to another process.
        return Made(replace(artifact), figures, artifact.agreement, epochs, training)

    def compressed(
        self, recipe: Recipe, deadline: float | None = None, cuts: int = 0
    ) -> tuple[Model, str, float, float]:
        """The Model after a recipe, its key, and the epochs of training with their seconds."""
        model, key, epochs, training = self.model, self.base, 0.0, 0.0
        for count, step in enumerate(recipe.steps):
            if cuts and count == cuts:
                model, key = fresh(model), key_of(key, "fresh")
            step = step.within(self.model)
            key = key_of(key, type(step).__name__, step.params())
            begin = time.perf_counter()
            done: list[bool] = []

            def make(scratch: Path, step: Step = step, model: Model = model, done=done) -> Model:
                done.append(True)
                return self._carried_out(step, model, scratch, deadline)

            model = self.cache.model(key, make)
            if done and hasattr(step, "training"):
                epochs += step.training.epochs
                training += time.perf_counter() - begin
        return model, key, epochs, training

    def _carried_out(
        self, step: Step, model: Model, scratch: Path, deadline: float | None
    ) -> Model:
        name = type(step).__name__.lower()
        self.watch(name)

        def between(done: int, total: int, what: str = "") -> None:
            self.watch(f"{name} {done}/{total}{what}")
            self.quiet.pause()
            if self.stopped() or (deadline is not None and time.time() > deadline):
                raise OutOfTime(f"stopped after {done} of {total} steps")

        if hasattr(step, "session"):
            step = replace(
                step,
                session=Session(
                    scratch, watch=lambda p: between(p.step, p.steps, f", loss {p.loss:.3g}")
                ),
            )
        with (
            self.quiet.computing(),
            kept_in(self.cache.path, between),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # advice to who chose the step
            return step(model, self.roles.data)


def download_bytes(artifact: Artifact) -> int:
    """What the files take in a bundle."""
    segments = segments_of(artifact)
    return sum(
        len(encode((artifact.path.parent / name).read_bytes(), segments.get(name, [])))
        for name in artifact.files
    )

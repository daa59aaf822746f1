"""Closing: the choice is proved and written down, whatever stopped the search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..compress.damage import sensitivity
from ..compress.prune import Prune
from ..edge import machine
from ..edge.artifact import Artifact
from ..goals import Figures
from ..graph.axes import analyse
from ..model import Model
from ..record import Curves
from ..reporting.report import now
from ..run import Arm, Proof, Run, Standing, Trial
from ..step import Recipe, Step
from .fitted import BEST, RUNNERS_UP, Fitted, Folder
from .making import Made, Maker, Task
from .proof import prove
from .ranking import front_of
from .search import Search

__all__ = ["Told", "close", "made_again"]

KEPT = 3  # runners-up
SENSED, AMOUNTS = 64, (0.25, 0.5, 0.75)  # samples and cuts for the sensitivity of each group
PATIENCE = 30.0  # seconds that this may take


@dataclass(frozen=True)
class Told:
    """What the caller said of the run, for its record.

    Attributes:
        first: steps before those of a trial.
    """

    model: str
    objective: str | Mapping[str, float]
    seed: int
    metric: object
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    first: tuple[Step, ...] = ()


def close(
    search: Search,
    chosen: Trial | None,
    arms: tuple[Arm, ...],
    stopped: str,
    maker: Maker,
    folder: Folder,
    told: Told,
) -> Fitted:
    """Prove the choice, keep the files of the best, write everything.

    Raises:
        EdgewiseError: the device fails while the choice is measured.
        InputError: the folder cannot be written.
    """
    trials = {t.number: t for t in search.trials}
    front = [t.number for t in front_of(search.good)]
    others = [t for t in search.ranked if chosen is None or t.number != chosen.number][:KEPT]
    folder.clear()
    recipe = small = proof = None
    notes = list(told.notes)
    if told.first:
        notes.append("What was quantized in the given model was made float before all else.")

    def keep(trial: Trial, where: str) -> Artifact:
        artifact = made_again(search, maker, trial).artifact
        kept = folder.keep(artifact, trial, where)
        trials[trial.number] = replace(trial, artifact=kept)
        return artifact

    if chosen is not None:
        recipe = search.space.recipe(search.point_of(chosen))
        small, *_ = maker.compressed(recipe)
        artifact = keep(chosen, BEST)
        for trial in others:
            keep(trial, RUNNERS_UP)
        proof = _proved(search, maker, small, artifact, chosen.figures, told)
    run = Run(
        model=told.model,
        created=now(),
        budget=search.budget,
        objective=_words(told.objective),
        seed=told.seed,
        samples=maker.roles.counts,
        metric=maker.judge.name,
        device=search.clock.place.name,
        trials=tuple(sorted(trials.values(), key=lambda t: t.number)),
        reference=search.reference.number,
        best=None if chosen is None else chosen.number,
        front=tuple(front),
        runners_up=tuple(t.number for t in others) if chosen is not None else (),
        proof=proof,
        arms=arms,
        curves=_curves(maker, recipe),
        stopped=stopped,
        seconds=search.seconds,
        notes=tuple(notes),
        commands=told.commands,
        machine=proof.after.machine if proof else machine.describe(),
        versions=proof.after.versions if proof else machine.versions(),
    )
    whole = None if recipe is None else Recipe((*told.first, *recipe.steps))
    return folder.close(run, whole, small)


def _curves(maker: Maker, recipe: Recipe | None) -> tuple[Curves, ...]:
    """How the groups bear to be cut, where some were, and where it is soon known."""
    data, model = maker.roles.data, maker.model
    if (
        recipe is None
        or data.calibration is None
        or not any(isinstance(s, Prune) for s in recipe.steps)
    ):
        return ()
    inputs, _ = data.calibration.take(SENSED)
    begin = time.perf_counter()
    model(*inputs)
    groups = len(analyse(model.graph, model.signature).groups)
    if (time.perf_counter() - begin) * groups * len(AMOUNTS) > PATIENCE:
        return ()
    found = sensitivity(model, data, AMOUNTS, samples=SENSED, folder=maker.cache.path)
    return (found,)


def made_again(search: Search, maker: Maker, trial: Trial) -> Made:
    """What a trial had made, from the cache."""
    point = search.point_of(trial)
    return maker(Task(search.space.recipe(point), point["runtime"]))


def _proved(
    search: Search, maker: Maker, small: Model, artifact: Artifact, figures: Figures, told: Told
) -> Proof:
    def watch(what: str) -> None:
        limit = search.limits.seconds
        search.watch(
            Standing(stage="proof", done=len(search.trials), seconds=search.seconds, limit=limit,
                     doing=(what,))
        )  # fmt: skip

    return prove(
        maker.model,
        small,
        (search.clock.reference, artifact),
        figures,
        search.budget,
        maker.roles,
        metric=told.metric,
        place=search.clock.place,
        threads=search.clock.threads,
        quiet=search.clock.quiet,
        watch=watch,
    )


def _words(objective: str | Mapping[str, float]) -> str:
    if isinstance(objective, str):
        return objective
    return ",".join(f"{name}={weight:g}" for name, weight in objective.items())

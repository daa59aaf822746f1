"""How soon the stages reach what a random search of the same space finds; ResNet-20, no training.

Both have the same machine, the same cache (none) and the same clock. What is compared is the front:
the volume that its points dominate in drop, latency and size (logarithms), up to the float model
and 10 points of drop. The points of both fronts are timed again, longer, before that: who times
more points is lucky more often.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna

import edgewise as ew
from edgewise.edge.place import HERE
from edgewise.fitting.cache import Cache
from edgewise.fitting.clock import Clock
from edgewise.fitting.closing import made_again
from edgewise.fitting.crew import Here
from edgewise.fitting.making import Maker
from edgewise.fitting.opening import reference, space_for
from edgewise.fitting.quiet import Quiet
from edgewise.fitting.ranking import front_of, values_of
from edgewise.fitting.roles import assign
from edgewise.fitting.search import Limits, Search
from edgewise.fitting.stages import stages
from edgewise.goals import Objective
from edgewise.run import Trial

from .nets import load
from .pruning_nets import labelled

__all__ = ["efficiency"]

RUNTIMES = ("onnxruntime", "litert")
TRIALS = 200
WORST = 10.0  # points of drop that still count
TOGETHER = 8  # files that are timed in turns
BUDGET = ew.Budget(max_drop=0.5)


def efficiency(trials: int = TRIALS) -> None:
    """Print the volume of both, and when the stages reach the random search's within a quarter of
    its time."""
    net = load("resnet20")
    model = ew.load(net.module, example=net.example)
    data = ew.load_data(
        {"training": labelled(), "evaluation": (net.inputs, net.labels)}, model.signature
    )
    goal_at, goal = _run(model, data, "random", Limits(None, trials))[-1]
    curve = _run(model, data, "stages", Limits(goal_at / 4, None))
    reached = next((at for at, volume in curve if volume >= goal), None)
    at, volume = curve[-1]
    if reached is None:
        print(f"after {at / goal_at:.2f} of its time the stages have {volume / goal:.3f} of that")
    else:
        print(f"the stages reach that after {reached:.0f} s: {reached / goal_at:.2f} of its time")


def _run(model: ew.Model, data: ew.Data, name: str, limits: Limits) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        search, maker = _search(model, data, Path(folder), name, limits)
        search.clock.reference = reference(search, maker)
        if name == "stages":
            for _ in stages(search):
                pass
        # The stages end before that; the front may still grow.
        while not search.over and (point := search.suggest(lambda point: True)) is not None:
            search.run([point], name)
        curve = _curve(_timed_again(search, maker))
        at, volume = curve[-1]
        print(f"{name}: {len(search.trials)} trials, {at:.0f} s, volume {volume:.3f}", flush=True)
        return curve


def _search(
    model: ew.Model, data: ew.Data, folder: Path, name: str, limits: Limits
) -> tuple[Search, Maker]:
    roles = assign(data, 0)
    quiet = Quiet(folder)
    maker = Maker(model, roles, "accuracy", Cache.at(folder / "cache"), quiet)
    objective = Objective.of("balanced")
    space = space_for(model, roles, RUNTIMES, BUDGET, objective, "accuracy", False)
    sampler = (
        optuna.samplers.RandomSampler(0)
        if name == "random"
        else optuna.samplers.TPESampler(seed=0, multivariate=True, group=True)
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 3)
    clock = Clock(HERE, quiet, roles.selection, "p50", None)
    search = Search(space, BUDGET, objective, study, Here(maker), clock, limits, lambda s: None)
    return search, maker


def _timed_again(search: Search, maker: Maker) -> list[Trial]:
    """All trials, those on the front with the latency that many more runs tell."""
    trials = list(search.trials)
    front = [t for t in front_of(search.good) if t.figures.drop < WORST]
    for at in range(0, len(front), TOGETHER):
        few = front[at : at + TOGETHER]
        rows = [(made_again(search, maker, t).artifact, t.figures) for t in few]
        for trial, figures in zip(few, search.clock.again(rows), strict=True):
            trials[trials.index(trial)] = replace(trial, figures=figures)
    return trials


def _curve(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Seconds, and the volume that was dominated by then."""
    seconds, found, rows = 0.0, [], []
    whole = values_of(trials[0].figures)
    for trial in trials:
        seconds += trial.seconds
        if trial.figures is not None:
            drop, latency, size = values_of(trial.figures)
            rows.append((drop - WORST, latency - whole[1], size - whole[2]))
        found.append((seconds, _volume(rows)))
    return found


def _volume(rows: Sequence[tuple[float, float, float]]) -> float:
    """Of the union of boxes from each point to 0, of points below 0; drop counts from 0 points."""
    points = np.array([(max(d, -WORST), t, s) for d, t, s in rows if d < 0 and t < 0 and s < 0])
    if not len(points):
        return 0.0
    total, drops = 0.0, np.unique(points[:, 0])
    for low, high in zip(drops, [*drops[1:], 0.0], strict=True):
        total += (high - low) * _area(points[points[:, 0] <= low][:, 1:])
    return total


def _area(points: np.ndarray) -> float:
    """The same in two dimensions."""
    total, floor = 0.0, 0.0
    for x, y in sorted(map(tuple, points)):
        if y < floor:
            total += -x * (floor - y)
            floor = y
    return total

"""How soon the stages reach what a random search of the same space finds; ResNet-20, no training.

Both have the same machine, the same cache (none) and the same clock. What is compared is the front:
the volume that its points dominate in drop, latency and size (logarithms), up to the float model
and 10 points of drop.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

import edgewise as ew
from edgewise.edge.place import HERE
from edgewise.fitting.cache import Cache
from edgewise.fitting.clock import Clock
from edgewise.fitting.crew import Here
from edgewise.fitting.making import Maker
from edgewise.fitting.opening import reference, space_for
from edgewise.fitting.quiet import Quiet
from edgewise.fitting.roles import assign
from edgewise.fitting.search import Limits, Search, values_of
from edgewise.fitting.stages import stages
from edgewise.goals import Objective
from edgewise.run import Trial

from .nets import load
from .pruning_nets import labelled

__all__ = ["efficiency"]

RUNTIMES = ("onnxruntime", "litert")
TRIALS = 200
WORST = 10.0  # points of drop that still count
BUDGET = ew.Budget(max_drop=0.5)


def efficiency(trials: int = TRIALS) -> None:
    """Print the volume over time of both, and when the stages reach the random search's end."""
    net = load("resnet20")
    model = ew.load(net.module, example=net.example)
    data = ew.load_data(
        {"training": labelled(), "evaluation": (net.inputs, net.labels)}, model.signature
    )
    curves = {}
    for name, go in (("stages", _staged), ("random", _random)):
        with tempfile.TemporaryDirectory() as folder:
            search, maker = _search(model, data, Path(folder), name, trials)
            search.clock.reference = reference(search, maker)
            go(search)
            curves[name] = _curve(search.trials)
            at, volume = curves[name][-1]
            print(
                f"{name}: {len(search.trials)} trials, {at:.0f} s, volume {volume:.3f}", flush=True
            )
    goal_at, goal = curves["random"][-1]
    reached = next((at for at, volume in curves["stages"] if volume >= goal), None)
    if reached is None:
        print(f"the stages do not reach the random search's {goal:.3f}")
    else:
        print(
            f"the stages reach the random search's {goal:.3f} after {reached:.0f} s of its "
            f"{goal_at:.0f}: {reached / goal_at:.2f} of its time"
        )


def _search(
    model: ew.Model, data: ew.Data, folder: Path, name: str, trials: int
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
    search = Search(
        space, BUDGET, objective, study, Here(maker), clock, Limits(None, trials), lambda s: None
    )
    return search, maker


def _staged(search: Search) -> None:
    for _ in stages(search):
        pass


def _random(search: Search) -> None:
    while not search.over and (point := search.suggest(lambda point: True)) is not None:
        search.run([point], "random")


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

"""The stages of a search, from what costs least to know to what costs most.

Each asks a `Search` to run points, looks at what came out, and leaves the rest to the next. What
they decide follows from recorded figures alone: begun anew, a search that was stopped asks for the
same points and finds them known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from ..compress.prune import Prune
from ..run import Trial
from ..step import searched_fields
from .lessons import GROWTH
from .ranking import front_of, steady_values
from .search import Search
from .space import FLOAT, Point, scheme_of

__all__ = ["STAGES", "stages"]

# Of what is cut before anything is known: first far apart, then in between.
AMOUNTS = (0.3, 0.6, 0.45, 0.75, 0.15, 0.85, 0.9)
BITS = (6, 5, 4)  # of weights, where the download counts
RATES = (3.0, 2.0)  # bits of a weight once coded, likewise
# Shares of the time after which no more is cut untrained: where the budgets hold, and where not.
CUTTING, IN_NEED = 0.4, 0.7
COSTS = {"macs": ("latency", "macs", "energy"), "parameters": ("size", "download", "memory")}
WIDTHS = {"macs": 4, "parameters": 1}  # of what is left: kernels like round numbers
DECAY = 0.65  # share of the drop that is left after a rung more, at best
ROUGH = 0.15  # a tenth of latency: how far off a short look at the clock may be
TRAINED = 8  # candidates on the first rung, at most
DEPTH = 5  # rungs that there should be time for
FREE = ("prune", "shorten", "recovery", "condense.bits")  # what is refined
PATIENCE = 12  # refinements in a row that are no better
CLOSE = 4  # neighbours of the best that are polished
WORST = 10.0  # points of drop up to which somebody may still want a network
NEAR = 0.2  # a seventh of the operations or bytes: what is not farther apart needs none between
BEYOND = 0.1  # further cut at the end of the front
WIDENED = 40  # points of that, at most
AMOUNT = "prune.amount"


def stages(search: Search) -> Iterator[str]:
    """Run all of them; yields the name of each before it begins."""
    for name, stage in STAGES.items():
        if search.over:
            return
        yield name
        stage(search)


def as_it_is(search: Search) -> None:
    """The given model, lowered in float and in integers to every runtime."""
    space = search.space
    search.run([_plain(search, space.runtimes[0], FLOAT)], "as it is")
    for scheme in ("int8", FLOAT):
        search.run(
            [
                _plain(search, runtime, scheme)
                for runtime in space.runtimes
                if scheme in space.schemes[runtime]
            ],
            "as it is",
        )


def repair(search: Search) -> None:
    """Where integers cost accuracy: other ranges, other rounding; then other numbers."""
    best = search.best
    if best is None:
        return
    if scheme_of(search.point_of(best)) != "int8":
        best = next((t for t in search.ranked if scheme_of(search.point_of(t)) == "int8"), best)
    base = search.point_of(best)
    if scheme_of(base) == "int8" and (best.figures.drop > 0 or _drop_missed(search, best)):
        search.run(
            [
                search.space.near(base, changes)
                for changes in (
                    {"roundweights": True},
                    {"quantize.ranges": "auto"},
                    {"equalize": True, "roundweights": True},
                )
            ],
            "repair",
        )
    if _drop_missed(search, search.best):
        for runtime in search.space.runtimes:
            others = (s for s in search.space.schemes[runtime] if s not in (FLOAT, "int8"))
            search.run([_plain(search, runtime, scheme) for scheme in others], "repair")


def cut(search: Search) -> None:
    """Smaller networks, solved anew but not trained: each is lowered and run, so that nothing
    fails after an hour of training."""
    if "prune" not in search.space.cuts or search.best is None:
        return
    base, measures = _leader(search), _measures(search)
    if search.space.bits and scheme_of(base) == "int8":
        narrow = [{"quantize.weight_bits": bits, "roundweights": True} for bits in BITS]
        narrow += [{"condense": True, "condense.bits": bits} for bits in RATES]
        search.run([search.space.near(base, changes) for changes in narrow], "cut")
        base = _leader(search, base["runtime"])
    useless = dict.fromkeys(measures, 1.0)
    for amount in AMOUNTS:
        for of in measures:
            latest = CUTTING if search.ranking.holds(search.best) else IN_NEED
            if amount >= useless[of] or search.share > latest:
                continue
            changes = {
                "prune": True,
                AMOUNT: amount,
                "prune.of": of,
                "prune.scope": "sensitivity",
                "prune.reconstruct": True,
                "prune.multiple": WIDTHS[of],
            }
            found = search.run([search.space.near(base, changes)], "cut")
            if found and _hopeless(search, found[0]):
                useless[of] = amount


def recover(search: Search) -> None:
    """Train what was cut, the promising half of it longer and longer (successive halving).

    Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization" (arXiv:1502.07943); what is beaten by a network that holds already drops out.
    """
    learning = search.space.learning
    if learning is None:
        return
    candidates = [t for t in search.good if t.stage == "cut" and not _recovery(search, t)]
    most = TRAINED
    for rung in range(1, learning.rungs + 1):
        points = [
            search.space.near(search.point_of(t), {"recovery": rung})
            for t in _promising(search, candidates, rung)[:most]
        ]
        if not points or _seconds(search, rung) > search.left:
            return
        # The first ones tell how long it takes, and so for how many there is time.
        first = search.crew.size if rung == 1 else len(points)
        found = search.run(points[:first], "recover")
        most = min(most, _bearable(search, rung))
        found += search.run(points[first:most], "recover")
        candidates = [t for t in found if t.figures is not None]
        most = max(1, most // 2)


def polish(search: Search) -> None:
    """The best ones with the repairs, and on the other runtimes."""
    if search.best is None:
        return
    best, ranking = search.ranked[:CLOSE], search.ranking
    if not ranking.holds(best[0]):
        best += [t for t in search.good if _recovery(search, t)][-CLOSE:]
    for trial in best:
        if ranking.holds(search.best) and ranking.cost(trial) > ranking.cost(search.best):
            continue
        point = search.point_of(trial)
        if scheme_of(point) == "int8" and not point.get("condense"):
            search.run([search.space.near(point, {"roundweights": True})], "polish")
    if (found := search.best) is not None:
        point = search.point_of(found)
        search.run(
            [
                search.space.near(point, {"runtime": r, f"scheme.{r}": scheme_of(point)})
                for r in search.space.runtimes
                if scheme_of(point) in search.space.schemes[r]
            ],
            "polish",
        )


def refine(search: Search) -> None:
    """What Optuna's sampler (TPE) makes of all that is known about cutting and training, on the
    best runtime with the best numbers; until it finds nothing better. What is not cut was tried
    by the stages before."""
    fruitless, cutting = 0, {"prune": True} if "prune" in search.space.cuts else {}
    while fruitless < PATIENCE and not search.over and search.best is not None:
        before = search.best
        point = search.point_of(before)
        fixed = {name: value for name, value in point.items() if not name.startswith(FREE)}
        fixed |= cutting
        batch: list[Point] = []
        for _ in range(search.crew.size):
            found = search.suggest(lambda p: _in_time(search, p), fixed)
            if found is None:
                return
            batch.append(found)
        search.run(batch, "refine")
        fruitless = 0 if search.best is not before else fruitless + len(batch)


def widen(search: Search) -> None:
    """What a softer or a harder budget would get: more of the cuts on the front that no training
    made, between those that are far apart, then beyond the last."""
    while not search.over and sum(t.stage == "widen" for t in search.trials) < WIDENED:
        if not (found := _gaps(search)):
            return
        search.run(found[: search.crew.size], "widen")


STAGES: dict[str, Callable[[Search], None]] = {
    "as it is": as_it_is,
    "repair": repair,
    "cut": cut,
    "recover": recover,
    "polish": polish,
    "refine": refine,
    "widen": widen,
}


def _gaps(search: Search) -> list[Point]:
    """The middles of the gaps between neighbours, the widest first."""
    tried = [t for t in search.good if not _recovery(search, t)]
    front = front_of([t for t in tried if t.figures.drop < WORST], steady_values)
    reached = [steady_values(t.figures) for t in front]
    gaps = []
    for point, rows in _families(search, tried):
        for (low, trial), (high, other) in pairwise(rows):
            there = trial in front and (other in front or other.figures.drop >= WORST)
            middle = np.mean([steady_values(t.figures) for t in (trial, other)], axis=0)
            if there and not any((values <= middle).all() for values in reached):
                gaps.append((_apart(trial, other), (low + high) / 2, point))
        if rows[-1][1] in front:
            gaps.append((NEAR, rows[-1][0] + BEYOND, point))
    grid = searched_fields(Prune)["amount"][1]
    points = [
        search.space.near(point, {AMOUNT: round(round(amount / grid.step) * grid.step, 6)})
        for width, amount, point in sorted(gaps, key=lambda gap: -gap[0])
        if width >= NEAR and amount <= grid.high
    ]
    return [point for point in points if search.known(point) is None]


def _families(
    search: Search, trials: list[Trial]
) -> Iterator[tuple[Point, list[tuple[float, Trial]]]]:
    """What differs in the amount that is cut alone, by amount; what is not cut is in all."""
    found: list[tuple[Point, list[tuple[float, Trial]]]] = []
    for trial in trials:
        point = search.point_of(trial)
        if not point.get("prune"):
            continue
        amount, family = point[AMOUNT], {n: v for n, v in point.items() if n != AMOUNT}
        rows = next((rows for other, rows in found if other == family), None)
        if rows is None:
            rest = {n: v for n, v in family.items() if not n.startswith("prune")}
            whole = search.known(search.space.near(rest, {}))
            rows = [(0.0, whole)] if whole in trials else []
            found.append((family, rows))
        rows.append((amount, trial))
    for family, rows in found:
        yield family, sorted(rows, key=lambda row: row[0])


def _apart(one: Trial, other: Trial) -> float:
    """How many times, as log2, the operations or bytes of one are those of the other."""
    rows = zip(steady_values(one.figures)[1:], steady_values(other.figures)[1:], strict=True)
    return max(abs(a - b) for a, b in rows)


def _plain(search: Search, runtime: str, scheme: str) -> Point:
    return search.space.near({}, {"runtime": runtime, f"scheme.{runtime}": scheme})


def _drop_missed(search: Search, trial: Trial) -> bool:
    """Whether its accuracy stands in the way."""
    return any(
        limit.excess(trial.figures) > 0
        for limit in search.budget.limits
        if limit.figure in ("drop", "value")
    )


def _leader(search: Search, runtime: str = "") -> Point:
    """What is not cut, and best by the objective of what is as accurate as it must be: the form in
    which all that is cut is lowered. On a runtime that is given, the best by everything."""
    whole = [t for t in search.ranked if not any(search.point_of(t)[c] for c in search.space.cuts)]
    if runtime:
        return search.point_of(next(t for t in whole if t.runtime == runtime))

    accurate = [t for t in whole if not _drop_missed(search, t)]
    return search.point_of(search.ranking.cheapest(accurate or whole)[0])


def _measures(search: Search) -> list[str]:
    """What pruning is to save, by what the user wants to be small."""
    wanted = {name for name, weight in search.objective.weights if weight >= 0.5}
    bounded = {limit.figure for limit in search.budget.limits}
    figures = {"latency": "latency_ms", "size": "size_bytes", "download": "download_bytes",
               "memory": "memory_bytes", "macs": "macs", "energy": "energy_mj"}  # fmt: skip
    found = [
        of
        for of, names in COSTS.items()
        if any(name in wanted or figures[name] in bounded for name in names)
    ]
    return found or ["macs"]


def _hopeless(search: Search, trial: Trial) -> bool:
    """Whether no training that is allowed would bring its accuracy back."""
    bound = _bound(search)
    if trial.figures is None or bound is None:
        return False
    rungs = 0 if search.space.learning is None else search.space.learning.rungs
    return max(0.0, trial.figures.drop) * DECAY**rungs > bound


def _bound(search: Search) -> float | None:
    """Of the drop."""
    return next((x.bound for x in search.budget.limits if x.figure == "drop"), None)


def _recovery(search: Search, trial: Trial) -> int:
    return search.point_of(trial).get("recovery", 0)


def _promising(search: Search, trials: list[Trial], rung: int) -> list[Trial]:
    """Those that may yet hold and would then be better than the best that holds, the most
    rewarding first.

    Args:
        rung: that comes next; the drop is taken to fall by `DECAY` on it and on each that there
            is time for after it, at best.
    """
    best = search.best
    bar = best if best is not None and search.ranking.holds(best) else None
    bound = _bound(search)
    others = [x for x in search.budget.limits if x.figure not in ("drop", "value")]
    last = rung
    while last < search.space.learning.rungs and _seconds(search, last + 1) <= search.left:
        last += 1
    rows = []
    for trial in trials:
        if bar is not None and not _better(search, trial, bar):
            continue
        missed = sum(limit.excess(trial.figures) for limit in others)
        hoped = max(0.0, trial.figures.drop) * DECAY ** (last - rung + 1)
        late = 0.0 if bound is None else max(0.0, hoped - bound)
        rows.append((missed, late, search.ranking.steady(trial), trial.number, trial))
    return [row[-1] for row in sorted(rows)]


def _better(search: Search, trial: Trial, bar: Trial) -> bool:
    """Whether it may cost less, though it was timed only once and for short."""
    point, other = search.point_of(trial), search.point_of(bar)
    alike = trial.runtime == bar.runtime and scheme_of(point) == scheme_of(other)
    ranking = search.ranking
    if alike and ranking.steady(trial) >= ranking.steady(bar):
        return False
    return ranking.cost(trial) < ranking.cost(bar) + (ROUGH if alike else 0.0)


def _seconds(search: Search, rung: int) -> float:
    """Of one more rung for one network, as far as that is known."""
    return search.pace * search.space.learning.epochs(rung - 1)


def _bearable(search: Search, rung: int) -> int:
    """How many may be trained on this rung, so that there is time for `DEPTH` rungs: all of them
    take equally long, for on each half as many are trained twice as long."""
    seconds = _seconds(search, rung) * max(1, DEPTH - rung)
    return TRAINED if search.left > TRAINED * seconds else max(1, int(search.left // seconds))


def _in_time(search: Search, point: Point) -> bool:
    """Whether there is time for the training of a point."""
    rungs = point.get("recovery", 0)
    if not rungs:
        return True
    epochs = search.space.learning.training.epochs * (GROWTH**rungs - 1) / (GROWTH - 1)
    return search.pace * epochs <= search.left

"""Ranking: which trial is better, by budget, objective and what a clock can tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..goals import Budget, Figures, Objective
from ..run import Trial

__all__ = ["Ranking", "front_of", "steady_values", "values_of", "with_spare"]

SPARE = 1.0  # standard errors of the drop that a choice should have to spare
LEAST_PRIOR = 0.25  # points that what a model expects may be wrong by, at least
TIE = 0.05  # costs that differ by less (3.5 % of latency) are one ...
GRAIN_MS = 0.003  # ... as are latencies: from process to process they differ by so much
WIDTH = 3.92  # standard errors in a 95 % interval


@dataclass(frozen=True)
class Ranking:
    """What makes one trial better than another.

    Attributes:
        budget, objective: as asked.
        given: figures of the given model in float.
    """

    budget: Budget
    objective: Objective
    given: Figures

    def cost(self, trial: Trial) -> float:
        """By the objective; lower is better."""
        return self.objective.cost(trial.figures, self.given)

    def excess(self, trial: Trial) -> float:
        """How far the budgets are missed, by what was counted and with some of it to spare."""
        return max(map(self.budget.excess, (trial.figures, with_spare(trial.figures))))

    def holds(self, trial: Trial) -> bool:
        """Whether all budgets hold, with that to spare."""
        return self.excess(trial) == 0

    def steady(self, trial: Trial) -> float:
        """The cost with multiply-accumulates in place of latency and energy: what no clock
        disturbs, so that the same search does the same again."""
        mine, given = (
            replace(f, ratio=_macs(f), energy_mj=_macs(f)) for f in (trial.figures, self.given)
        )
        return self.objective.cost(mine, given)

    def cheapest(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those whose cost is the least, within what a clock can tell; the most accurate first."""

        def at_best(trial: Trial) -> float:
            figures = trial.figures
            if figures.ratio is None or figures.latency_ms is None:
                return self.cost(trial)
            ratio = figures.ratio * figures.latency_ms / (figures.latency_ms + GRAIN_MS)
            return self.objective.cost(replace(figures, ratio=ratio), self.given)

        least = min(map(self.cost, trials))
        return sorted(
            (t for t in trials if at_best(t) <= least + TIE),
            key=lambda t: (t.figures.drop, self.steady(t), t.number),
        )

    def order(self, trials: Sequence[Trial]) -> list[Trial]:
        """The best first: those that hold with something to spare, then those that just hold, by
        cost; then the others by how far they are away."""
        spare = [t for t in trials if self.holds(t)]
        just = [t for t in trials if t not in spare and self.budget.excess(t.figures) == 0]
        found: list[Trial] = []
        for level in (spare, just):
            first = self.cheapest(level) if level else []
            others = [t for t in level if t not in first]
            found += first + sorted(others, key=lambda t: (self.cost(t), t.number))
        away = [t for t in trials if t not in found]
        return found + sorted(
            away, key=lambda t: (self.budget.excess(t.figures), self.cost(t), t.number)
        )


def with_spare(figures: Figures) -> Figures:
    """The figures with a drop that is likely, and `SPARE` of its standard errors added.

    Of many recipes the one that looks best on few samples was lucky. So what was counted is drawn
    to what the given model expects, the more the fewer samples there are: the mean of a normal
    posterior whose prior is as wide as that expectation (empirical Bayes; Efron & Morris 1975,
    "Data Analysis Using Stein's Estimator and its Generalizations", section 2).
    """
    if figures.drop is None or figures.drop_ci95 is None:
        return figures
    drop, error = figures.drop, (figures.drop_ci95[1] - figures.drop_ci95[0]) / WIDTH
    if figures.expected is not None and error > 0:
        prior = max(figures.expected, LEAST_PRIOR)
        trust = prior**2 / (prior**2 + error**2)
        drop, error = trust * drop + (1 - trust) * figures.expected, error * trust**0.5
    return replace(figures, drop=drop + SPARE * error)


def values_of(figures: Figures) -> list[float]:
    """What a front is of: drop, latency and size."""
    ratio = 1.0 if figures.ratio is None else figures.ratio
    return [float(figures.drop), math.log2(ratio), math.log2(figures.size_bytes)]


def steady_values(figures: Figures) -> list[float]:
    """What Optuna makes smaller: the same, with multiply-accumulates in place of latency. It is
    asked for one runtime at a time, and what it asks for shall not hang on a clock."""
    return [float(figures.drop), math.log2(_macs(figures)), math.log2(figures.size_bytes)]


def _macs(figures: Figures) -> int:
    return max(1, figures.macs)  # a network may have none that are counted


def front_of(
    trials: Sequence[Trial], values: Callable[[Figures], list[float]] = values_of
) -> list[Trial]:
    """Those that no other one beats in drop, latency and size at once, by latency."""
    rows = [(t, values(t.figures)) for t in trials if t.figures is not None]
    kept = [
        trial
        for trial, own in rows
        if not any(
            all(a <= b for a, b in zip(other, own, strict=True)) and other != own
            for _, other in rows
        )
    ]
    return sorted(kept, key=lambda t: values(t.figures)[1])

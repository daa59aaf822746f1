"""Verdicts of a fit: which budget holds, which stands in the way, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..goals import Figures, Limit, Verdict
from ..run import Run
from .figures import (
    bytes_text,
    count_text,
    energy_text,
    lost_text,
    metric_text,
    ms_text,
)

__all__ = [
    "Judged", "bound_text", "chosen", "headline", "obstacles", "standing", "verdicts",
]  # fmt: skip

LONGEST = 1.5  # of a bound: where the bar of a verdict ends


@dataclass(frozen=True)
class Judged:
    """One budget.

    Attributes:
        name: as a user knows it.
        bound, found: as text.
        verdict: in words.
        share: what was found as a share of the bound, at most `LONGEST`; None where it has none.
    """

    name: str
    bound: str
    found: str
    verdict: str
    holds: bool
    share: float | None


# How each figure is written.
TEXTS: dict[str, Callable[[Any], str]] = {
    "drop": lambda points: f"{lost_text(points)} points",
    "latency_ms": ms_text,
    "size_bytes": bytes_text,
    "download_bytes": bytes_text,
    "memory_bytes": bytes_text,
    "energy_mj": energy_text,
    "macs": count_text,
}


def verdicts(run: Run) -> tuple[Judged, ...]:
    """One for each budget, of what was proven; where nothing was, of what the choice was by; none
    where nothing was chosen."""
    if run.best is None:
        return ()
    if run.proof is not None:
        return tuple(_judged(v, run.metric, run.proof.figures) for v in run.proof.verdicts)
    found = chosen(run)
    return standing(run.budget.verdicts(found), run.metric, found)


def standing(
    found: Sequence[Verdict], metric: str = "", figures: Figures | None = None
) -> tuple[Judged, ...]:
    """One for each verdict."""
    return tuple(_judged(v, metric, figures or Figures()) for v in found)


def _judged(verdict: Verdict, metric: str, figures: Figures) -> Judged:
    """A verdict in words."""
    limit, value = verdict.limit, verdict.value
    found = "not measured" if value is None else _text(limit, value, metric)
    if limit.figure == "drop" and value is not None:
        found = lost_text(value, figures.drop_ci95)
    share = None
    if value is not None and limit.bound > 0:
        share = min(max(value / limit.bound, 0.0), LONGEST)
    return Judged(
        limit.name,
        bound_text(limit, metric),
        found,
        _verdict(verdict, metric, figures),
        verdict.holds,
        share,
    )


def bound_text(limit: Limit, metric: str) -> str:
    """``at most 1.00 ms at p50``."""
    side = "at least" if limit.name == "min-value" else "at most"
    of = f" at {limit.percentile}" if limit.percentile else ""
    return f"{side} {_text(limit, limit.bound, metric)}{of}"


def _verdict(verdict: Verdict, metric: str, figures: Figures) -> str:
    if verdict.value is None:
        return "not measured"
    if not verdict.holds:
        return f"missed by {_over(verdict, metric)}"
    if verdict.sure:
        return "holds, and so does its whole 95 % interval"
    if verdict.sure is False and figures.drop_ci95:
        return f"holds; its 95 % interval reaches {lost_text(figures.drop_ci95[1])}"
    return "holds"


def _over(verdict: Verdict, metric: str) -> str:
    limit, over = verdict.limit, abs(verdict.value - verdict.limit.bound)
    share = f" ({100 * over / limit.bound:.0f} %)" if limit.figure not in ("drop", "value") else ""
    return _text(limit, over, metric) + share


def _text(limit: Limit, value: float, metric: str) -> str:
    if limit.figure == "value":
        return metric_text(metric, value)
    return TEXTS[limit.figure](value)


def headline(run: Run) -> str:
    """The verdict in one sentence."""
    if run.best is None:
        return "Nothing could be run."
    found = verdicts(run)
    missed = [row.name for row in found if not row.holds]
    if not found:
        return "No budget was set: this is the best by the objective."
    if missed:
        verb = "stands" if len(missed) == 1 else "stand"
        return f"{_listed(missed)} {verb} in the way: no trial holds all budgets at once."
    says = "Every budget holds" if len(found) > 1 else "The budget holds"
    return f"{says}." if run.proof else f"{says} on the samples that chose; nothing is proven."


def obstacles(run: Run) -> tuple[str, ...]:
    """For each budget that is missed, the trial that holds it and misses the others least."""
    return tuple(_obstacles(run))


def _obstacles(run: Run) -> Iterator[str]:
    limits = {limit.name: limit for limit in run.budget.limits}
    if not all(row.holds for row in verdicts(run)):
        yield f"The nearest is trial {run.best} ({run.trial(run.best).name}); its figures follow."
    ran = [t for t in run.trials if t.figures is not None]
    for row in verdicts(run):
        if row.holds:
            continue
        holding = [t for t in ran if limits[row.name].excess(t.figures) == 0]
        if not holding:
            yield f"No trial holds {row.name} ({row.bound})."
            continue
        near = min(holding, key=lambda t: run.budget.excess(t.figures))
        others = run.budget.verdicts(near.figures)
        costs = [
            f"{v.limit.name} by {'an unknown amount' if v.value is None else _over(v, run.metric)}"
            for v in others
            if not v.holds
        ]
        yield (
            f"Trial {near.number} ({near.name}) holds {row.name} and misses {_listed(costs)}."
            if costs
            else f"Trial {near.number} ({near.name}) held every budget on the samples that "
            "chose, and the samples that prove say otherwise."
        )


def chosen(run: Run) -> Figures:
    """What the chosen trial was chosen by; nothing where none was."""
    found = run.trial(run.best).figures if run.best is not None else None
    return found or Figures()


def _listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

"""The trials of a fit as tables: the front, all of them, and what each step gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..goals import Figures
from ..run import Run, Trial
from .columns import Column
from .figures import (
    bytes_text,
    count_text,
    energy_text,
    lost_text,
    metric_text,
    ms_text,
    percent_text,
    ratio_text,
    seconds_text,
)
from .verdicts import chosen

__all__ = ["Grid", "ablation", "front", "recipe_text", "role_of", "trials"]

UNTOLD = {"memory", "MACs"}  # of the front; of every trial they are


@dataclass(frozen=True)
class Grid:
    """A table: columns of which each has a cell in some row.

    Attributes:
        rows: what the columns read.
    """

    columns: tuple[Column, ...]
    rows: tuple[Any, ...]

    @classmethod
    def of(cls, columns: Sequence[Column], rows: Sequence[Any]) -> Grid:
        """Without the columns that are empty."""
        used = [c for c in columns if any(c.text(row) is not None for row in rows)]
        return cls(tuple(used), tuple(rows))


def front(run: Run) -> Grid:
    """The given model, the front, the chosen and the runners-up, the fastest first."""
    numbers = dict.fromkeys((run.reference, *run.front, run.best, *run.runners_up))
    rows = [run.trial(n) for n in numbers if n is not None]
    columns = [c for c in _columns(run, intervals=False) if c.title not in UNTOLD]
    return Grid.of(columns, sorted(rows, key=_speed))


def _speed(trial: Trial) -> float:
    f = trial.figures
    return math.inf if f is None else f.ratio or f.latency_ms or math.inf


def trials(run: Run) -> Grid:
    """Every trial, in the order in which they were asked for."""
    extra = (
        Column("stage", lambda t: t.stage, number=False),
        Column("threads", lambda t: None if t.threads is None else str(t.threads)),
        Column(
            "agreement",
            lambda t: None if t.agreement is None else percent_text(t.agreement.top1),
            "share of samples on which the file and the model that it came from put the same "
            "output first",
        ),
        Column("took", lambda t: seconds_text(t.seconds), "steps that had been done took nothing"),
        Column("file", lambda t: t.artifact, number=False),
    )
    return Grid.of((*_columns(run), *extra), run.trials)


def _columns(run: Run, *, intervals: bool = True) -> tuple[Column, ...]:
    def of(name: str, text: Callable[[Any], str]) -> Callable[[Trial], str | None]:
        def cell(trial: Trial) -> str | None:
            value = getattr(trial.figures, name, None)
            return None if value is None else text(value)

        return cell

    def role(trial: Trial) -> str | None:
        return role_of(run, trial.number) or None

    def ratio(trial: Trial) -> str | None:
        f = trial.figures
        if f is None or f.ratio is None:
            return None
        return ratio_text(f.ratio, f.ratio_ci95 if intervals else None)

    def drop(trial: Trial) -> str | None:
        f = trial.figures
        return None if f is None or f.drop is None else lost_text(f.drop, f.drop_ci95)

    def misses(trial: Trial) -> str | None:
        if trial.figures is None or not run.budget.limits:
            return None
        missed = [v.limit.name for v in run.budget.verdicts(trial.figures) if not v.holds]
        return ", ".join(missed) or "none"

    lost = "points lost" if run.samples.labelled else "points lost, expected"
    return (
        Column("trial", lambda t: str(t.number)),
        Column("recipe", lambda t: t.name, number=False),
        Column("", role, number=False),
        Column(run.metric, of("value", lambda v: metric_text(run.metric, v))),
        Column(lost, drop, "of 100, on the samples that choose, with the paired 95 % interval"),
        Column("latency", of("latency_ms", ms_text), f"{run.budget.percentile} of one inference"),
        Column("ratio", ratio, "latency as a multiple of the given model's, measured in turns"),
        Column("size", of("size_bytes", bytes_text)),
        Column("download", of("download_bytes", bytes_text), "of the same files in a bundle"),
        Column("memory", of("memory_bytes", bytes_text)),
        Column("energy", of("energy_mj", energy_text), "of the processor for one inference"),
        Column("MACs", of("macs", count_text)),
        Column("misses", misses, "budgets that it does not hold", number=False),
    )


def role_of(run: Run, number: int) -> str:
    """What a trial is in this run: chosen, the given model, a runner-up, or on the front."""
    roles = {
        "chosen": number == run.best,
        "given": number == run.reference,
        "runner-up": number in run.runners_up,
        "front": number in run.front,
    }
    return next((role for role, held in roles.items() if held), "")


def ablation(run: Run) -> Grid:
    """The chosen recipe with one thing changed: its figures, and each against the chosen's."""
    best = chosen(run)
    ran = [(arm.name, run.trial(arm.trial)) for arm in run.arms if arm.trial is not None]
    rows = [("as chosen", run.trial(run.best)), *ran] if ran and run.best is not None else ran
    rows = [(name, trial.figures) for name, trial in rows if trial.figures is not None]

    def of(name: str, text: Callable[[Any], str]) -> Callable[[Any], str | None]:
        def cell(row: tuple[str, Figures]) -> str | None:
            value = getattr(row[1], name)
            return None if value is None else text(value)

        return cell

    def against(name: str) -> Callable[[Any], str | None]:
        def cell(row: tuple[str, Figures]) -> str | None:
            ours, theirs = getattr(row[1], name), getattr(best, name)
            return ratio_text(ours / theirs) if ours and theirs and row[1] is not best else None

        return cell

    def more(row: tuple[str, Figures]) -> str | None:
        if row[1].drop is None or best.drop is None or row[1] is best:
            return None
        return ("+" if row[1].drop > best.drop else "") + lost_text(row[1].drop - best.drop)

    columns = (
        Column("", lambda row: row[0], number=False),
        Column("points lost", of("drop", lost_text), "on the samples that choose"),
        Column("more lost", more, "than the chosen recipe; below zero, it would have lost less"),
        Column("latency", of("latency_ms", ms_text)),
        Column("× latency", against("ratio"), "as a multiple of the chosen recipe's"),
        Column("size", of("size_bytes", bytes_text)),
        Column("× size", against("size_bytes"), "likewise"),
    )
    return Grid.of(columns, rows)


def recipe_text(trial: Trial) -> str:
    """The recipe as `edgewise apply` reads it."""
    import yaml

    if not trial.steps:
        return "# No step: the model as it was given, in float."
    return yaml.safe_dump(
        {"steps": list(trial.steps)}, sort_keys=False, default_flow_style=None, width=80
    ).rstrip()

"""What a fit found, as sentences and tables: verdicts, the front, what each step gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..goals import Figures, Limit, Verdict
from ..run import Run, Trial
from .columns import CONDITIONS, Column, filled
from .columns import FIGURES as MEASURED
from .figures import (
    PROPORTIONS,
    bytes_text,
    count_text,
    lost_text,
    metric_text,
    ms_text,
    percent_text,
    ratio_text,
)
from .report import Report, Row

__all__ = [
    "Change", "Grid", "Judged", "ablation", "asked", "changes", "ended", "evidence", "front",
    "headline", "measured", "not_run", "obstacles", "recipe_text", "role_of", "seconds_text",
    "standing", "trials", "value_text", "verdicts",
]  # fmt: skip

UNTOLD = {"memory", "MACs"}  # of the front; of every trial they are
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


@dataclass(frozen=True)
class Change:
    """One figure before and after: ``3.4× faster``, and from what to what."""

    what: str
    from_to: str
    of: str


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


# How each figure is written.
TEXTS: dict[str, Callable[[Any], str]] = {
    "drop": lambda points: f"{lost_text(points)} points",
    "latency_ms": ms_text,
    "size_bytes": bytes_text,
    "download_bytes": bytes_text,
    "memory_bytes": bytes_text,
    "macs": count_text,
}


def verdicts(run: Run) -> tuple[Judged, ...]:
    """One for each budget, of what was proven; where nothing was, of what the choice was by; none
    where nothing was chosen."""
    if run.best is None:
        return ()
    if run.proof is not None:
        return tuple(_judged(v, run.metric, run.proof.figures) for v in run.proof.verdicts)
    found = _chosen(run)
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
        _bound(limit, metric),
        found,
        _verdict(verdict, metric, figures),
        verdict.holds,
        share,
    )


def _bound(limit: Limit, metric: str) -> str:
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


def value_text(run: Run, value: float) -> str:
    """The metric; of samples without targets, the share of predictions that stayed."""
    return metric_text(run.metric if run.samples.labelled else PROPORTIONS[0], value)


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


def changes(run: Run) -> tuple[Change, ...]:
    """Latency, size and accuracy: the given model's and the chosen file's."""
    return tuple(_changes(run))


def _changes(run: Run) -> Iterator[Change]:
    after = run.proof.figures if run.proof else _chosen(run)
    before = _before(run)
    if after.ratio:
        faster = after.ratio <= 1
        times = 1 / after.ratio if faster else after.ratio
        yield Change(
            f"{times:.2f}× {'faster' if faster else 'slower'}",
            _from_to(before.latency_ms, after.latency_ms, ms_text),
            f"{run.budget.percentile} of one inference",
        )
    for name, of in (("size_bytes", "file"), ("download_bytes", "download")):
        old, new = getattr(before, name), getattr(after, name)
        if old and new:
            smaller = new <= old
            times = old / new if smaller else new / old
            yield Change(
                f"{times:.2f}× {'smaller' if smaller else 'larger'}",
                _from_to(old, new, bytes_text),
                of,
            )
    if after.drop is not None:
        what = "points lost" if run.samples.labelled else "% answered otherwise"
        yield Change(
            f"{lost_text(after.drop)} {what}",
            _from_to(before.value, after.value, lambda v: value_text(run, v)),
            run.metric if run.samples.labelled else "predictions",
        )


def _before(run: Run) -> Figures:
    """Of the given model: as it was measured beside the chosen file, where it was."""
    given = run.trial(run.reference).figures if run.reference is not None else None
    given = given or Figures()
    if run.proof is None:
        return given
    found = run.proof.before
    latency = getattr(found.latency_ms, run.budget.percentile, None)
    return Figures(
        value=found.value,
        latency_ms=latency or given.latency_ms,
        size_bytes=found.size_bytes or given.size_bytes,
        download_bytes=given.download_bytes,
    )


def _from_to(old: Any, new: Any, text: Callable[[Any], str]) -> str:
    return "" if old is None or new is None else f"{text(old)} → {text(new)}"


def evidence(run: Run) -> tuple[str, ...]:
    """How the loss of accuracy is known."""
    return tuple(_evidence(run))


def _evidence(run: Run) -> Iterator[str]:
    samples = run.samples
    if not samples.labelled:
        yield (
            "No targets were used: a prediction that the chosen file makes otherwise than the "
            "given model counts as lost."
        )
    if run.proof is None:
        if run.best is not None:
            yield (
                f"Nothing was proven: the figures are of the {samples.selection:,} samples that "
                "chose the recipe, which flatters it."
            )
        return
    figures, before, after = run.proof.figures, run.proof.before, run.proof.after
    yield (
        f"Chosen on {samples.selection:,} samples; proven on {figures.n or samples.test:,} others, "
        "which were looked at once, after the choice."
    )
    if figures.drop is not None:
        lost = "points are lost" if samples.labelled else "% are answered otherwise"
        text = f"{lost_text(figures.drop)} {lost}"
        if (ends := figures.drop_ci95) is not None:
            text += f", with 95 % confidence between {lost_text(ends[0])} and {lost_text(ends[1])}"
        chosen = _chosen(run).drop
        if chosen is not None:
            text += f"; on the samples that chose it was {lost_text(chosen)}"
        yield f"{text}."
    if (t := after.latency_ms) is not None and before.latency_ms is not None:
        ratio = "" if figures.ratio is None else ratio_text(figures.ratio, figures.ratio_ci95)
        yield (
            f"Latency is of {t.runs:,} runs with batch {t.batch} on {t.threads} threads, the two "
            f"files in turns{f': {ratio}, with its 95 % interval' if ratio else ''}."
        )
    if (a := after.agreement) is not None:
        yield (
            f"The file and the model that it was made from put the same output first on "
            f"{percent_text(a.top1)} of {a.n:,} samples."
        )


def measured(run: Run) -> tuple[tuple[str, str, str], ...]:
    """Everything that was measured after the choice: what, of the given model, of the chosen."""
    if run.proof is None:
        return ()
    both = Row(run.proof.before), Row(run.proof.after)
    columns = filled((*MEASURED, *CONDITIONS), Report("", run.created, both))
    return tuple((c.title, *(c.text(row) or "–" for row in both)) for c in columns)


def _chosen(run: Run) -> Figures:
    found = run.trial(run.best).figures if run.best is not None else None
    return found or Figures()


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

    kept = run.metric if run.samples.labelled else "as before"
    lost = "points lost" if run.samples.labelled else "answered otherwise, %"
    return (
        Column("trial", lambda t: str(t.number)),
        Column("recipe", lambda t: t.name, number=False),
        Column("", role, number=False),
        Column(kept, of("value", lambda v: value_text(run, v))),
        Column(lost, drop, "of 100, on the samples that choose, with the paired 95 % interval"),
        Column("latency", of("latency_ms", ms_text), f"{run.budget.percentile} of one inference"),
        Column("ratio", ratio, "latency as a multiple of the given model's, measured in turns"),
        Column("size", of("size_bytes", bytes_text)),
        Column("download", of("download_bytes", bytes_text), "of the same files in a bundle"),
        Column("memory", of("memory_bytes", bytes_text)),
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
    chosen = _chosen(run)
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
            ours, theirs = getattr(row[1], name), getattr(chosen, name)
            return ratio_text(ours / theirs) if ours and theirs and row[1] is not chosen else None

        return cell

    def more(row: tuple[str, Figures]) -> str | None:
        if row[1].drop is None or chosen.drop is None or row[1] is chosen:
            return None
        return ("+" if row[1].drop > chosen.drop else "") + lost_text(row[1].drop - chosen.drop)

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


def not_run(run: Run) -> tuple[str, ...]:
    """What was not run or failed, and why."""
    arms = []
    for arm in run.arms:
        trial = None if arm.trial is None else run.trial(arm.trial)
        if trial is None or trial.figures is None:
            arms.append(f"{arm.name}: {arm.reason or (trial and trial.reason) or 'not run'}")
    failed = {}
    for trial in run.trials:
        if trial.figures is None:
            failed.setdefault(trial.reason or "no reason was kept", []).append(trial.number)
    return (
        *arms,
        *(
            f"{'trial' if len(numbers) == 1 else 'trials'} {', '.join(map(str, numbers))}: {reason}"
            for reason, numbers in failed.items()
        ),
    )


def ended(run: Run) -> str:
    """How much was tried, and why no more."""
    ran = sum(trial.figures is not None for trial in run.trials)
    text = f"{ran} of {len(run.trials)} trials ran, in {seconds_text(run.seconds)}"
    return text + (f"; the search ended: {run.stopped}." if run.stopped else ".")


def asked(run: Run) -> tuple[tuple[str, str], ...]:
    """What was asked for, and when it was found."""
    bounds = ", ".join(f"{x.name} {_bound(x, run.metric)}" for x in run.budget.limits)
    return (
        ("budget", bounds or "none"),
        ("objective", run.objective),
        ("seed", str(run.seed)),
        ("device", run.device),
        ("ended", run.created),
    )


def recipe_text(trial: Trial) -> str:
    """The recipe as `edgewise apply` reads it."""
    import yaml

    if not trial.steps:
        return "# No step: the model as it was given, in float."
    return yaml.safe_dump(
        {"steps": list(trial.steps)}, sort_keys=False, default_flow_style=None, width=80
    ).rstrip()


def seconds_text(seconds: float) -> str:
    """``1 h 02 min``, ``29 min 56 s``, ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

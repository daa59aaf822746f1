"""What a fit found, in sentences: what was won, how that is known, what was not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..goals import Figures
from ..run import Run
from .columns import CONDITIONS, FIGURES, filled
from .figures import (
    bytes_text,
    lost_text,
    metric_text,
    ms_text,
    percent_text,
    ratio_text,
    seconds_text,
    times_text,
)
from .report import Report, Row
from .verdicts import bound_text, chosen

__all__ = ["Change", "asked", "changes", "ended", "evidence", "measured", "not_run"]


@dataclass(frozen=True)
class Change:
    """One figure before and after: ``3.4× faster``, and from what to what."""

    what: str
    from_to: str
    of: str


def changes(run: Run) -> tuple[Change, ...]:
    """Latency, size and accuracy: the given model's and the chosen file's."""
    return tuple(_changes(run))


def _changes(run: Run) -> Iterator[Change]:
    after = run.proof.figures if run.proof else chosen(run)
    before = _before(run)
    if after.ratio:
        faster = after.ratio <= 1
        times = 1 / after.ratio if faster else after.ratio
        yield Change(
            f"{times_text(times)} {'faster' if faster else 'slower'}",
            _from_to(before.latency_ms, after.latency_ms, ms_text),
            f"{run.budget.percentile} of one inference",
        )
    for name, of in (("size_bytes", "file"), ("download_bytes", "download")):
        old, new = getattr(before, name), getattr(after, name)
        if old and new:
            smaller = new <= old
            times = old / new if smaller else new / old
            yield Change(
                f"{times_text(times)} {'smaller' if smaller else 'larger'}",
                _from_to(old, new, bytes_text),
                of,
            )
    if after.drop is not None:
        yield Change(
            f"{lost_text(after.drop)} points lost",
            _from_to(before.value, after.value, lambda v: metric_text(run.metric, v)),
            run.metric,
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
            "No targets were used: a prediction is worth the probability that the given model "
            "itself gives to it. If that model is too sure of itself, less is lost than is said."
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
        lost = "points are lost" if samples.labelled else "points are expected to be lost"
        text = f"{lost_text(figures.drop)} {lost}"
        if (ends := figures.drop_ci95) is not None:
            text += f", with 95 % confidence between {lost_text(ends[0])} and {lost_text(ends[1])}"
        then = chosen(run).drop
        if then is not None:
            text += f"; on the samples that chose it was {lost_text(then)}"
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
    columns = filled((*FIGURES, *CONDITIONS), Report("", run.created, both))
    return tuple((c.title, *(c.text(row) or "–" for row in both)) for c in columns)


def not_run(run: Run) -> tuple[str, ...]:
    """What was not run or failed, and why."""
    others = []
    for arm in run.arms:
        trial = None if arm.trial is None else run.trial(arm.trial)
        if trial is None or trial.figures is None:
            others.append(f"{arm.name}: {arm.reason or (trial and trial.reason) or 'not run'}")
    failed = {}
    for trial in run.trials:
        if trial.figures is None:
            failed.setdefault(trial.reason or "no reason was kept", []).append(trial.number)
    if run.proof is not None and run.proof.unexplained:
        others.append(f"time by operator: {run.proof.unexplained}")
    return (
        *others,
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
    bounds = ", ".join(f"{x.name} {bound_text(x, run.metric)}" for x in run.budget.limits)
    return (
        ("budget", bounds or "none"),
        ("objective", run.objective),
        ("seed", str(run.seed)),
        ("device", run.device),
        ("ended", run.created),
    )

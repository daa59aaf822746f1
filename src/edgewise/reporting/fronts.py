"""What accuracy costs in latency and in size, as points to be drawn: numbers in percent of a plot.

Left is faster or smaller, down is more of the metric lost, so that the best corner is the upper
left one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..goals import Figures
from ..run import Run, Trial
from .figures import bytes_text, lost_text, ms_text
from .trials import role_of

__all__ = ["Front", "Point", "Tick", "fronts", "runtimes"]

MARGIN = 0.06  # of a plot, around its points
STEPS = (1, 2, 5)  # ticks of bytes and milliseconds, times powers of ten
MORE = 1.2  # times the most that is told: what lies beyond is drawn apart from it
LEAST = 1.0  # points of loss that are of interest where no budget says so
WORTH = 4  # times as much is shown, where it is on the front; what loses more is at the edge


@dataclass(frozen=True)
class Point:
    """One trial.

    Attributes:
        number: of the trial.
        x, y: where it lies, 0..100 from the left and from the top.
        role: ``"chosen"``, ``"given"``, ``"runner-up"``, ``"front"`` or empty.
        kind: which of `runtimes` it ran on.
        beyond: whether it loses more than the plot shows, and is drawn at its edge.
        text: its figures.
    """

    number: int
    x: float
    y: float
    role: str
    kind: int
    beyond: bool
    text: str


@dataclass(frozen=True)
class Tick:
    """Where an axis says what."""

    at: float
    text: str


@dataclass(frozen=True)
class Front:
    """One plot.

    Attributes:
        title, across, down: what it shows, and what its axes are.
        points: those on the front last, so that they lie above the others.
        stairs: (x, y) of the corners of the line that no trial lies beyond.
        ticks_x, ticks_y: of the axes.
        limit_x, limit_y: where the budget ends; None where it bounds nothing.
        note: what is not seen.
    """

    title: str
    across: str
    down: str
    points: tuple[Point, ...]
    stairs: tuple[tuple[float, float], ...]
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]
    limit_x: float | None
    limit_y: float | None
    note: str


@dataclass(frozen=True)
class _Across:
    """What is drawn from left to right: a figure, on a scale of its logarithm."""

    title: str
    words: str
    value: Callable[[Figures], float | None]
    text: Callable[[float], str]
    limit: float | None
    halves: bool = False


def runtimes(run: Run) -> tuple[str, ...]:
    """Of all trials, in the order in which they were tried."""
    return tuple(dict.fromkeys(trial.runtime for trial in run.trials))


def fronts(run: Run) -> tuple[Front, ...]:
    """Latency, size and download, each where two trials at least have it."""
    made = (_front(run, across) for across in _axes(run))
    return tuple(front for front in made if front is not None)


def _axes(run: Run) -> Iterator[_Across]:
    bounds = {limit.figure: limit.bound for limit in run.budget.limits}
    given = run.trial(run.reference).figures if run.reference is not None else None
    bound, whole = bounds.get("latency_ms"), given.latency_ms if given else None
    if any(t.figures and t.figures.ratio for t in run.trials):
        # Ratios were measured in turns: they hold on a machine whose load changes.
        limit = bound / whole if bound and whole else None
        words = "latency as a multiple of the given model's"
        yield _Across("Latency", words, _ratio, lambda r: f"{r:.3g}×", limit, True)
    else:
        yield _Across("Latency", "latency", lambda f: f.latency_ms, ms_text, bound)
    for figure, title in (("size_bytes", "Size"), ("download_bytes", "Download")):
        yield _Across(
            title,
            {"Size": "size of the files", "Download": "size of the bundle"}[title],
            lambda f, figure=figure: getattr(f, figure),
            bytes_text,
            bounds.get(figure),
        )


def _ratio(figures: Figures) -> float | None:
    return figures.ratio


def _front(run: Run, across: _Across) -> Front | None:
    drawn = [
        (trial, x, trial.figures.drop)
        for trial in run.trials
        if trial.figures is not None
        and trial.figures.drop is not None
        and (x := across.value(trial.figures)) is not None
        and x > 0
    ]
    if len(drawn) < 2:
        return None
    bound = _most_lost(run)
    least, most = _losses(run, [y for _, _, y in drawn], bound)
    wide = _Scale.around([math.log(x) for _, x, _ in drawn])
    high = _Scale.between(least, most)
    kinds = runtimes(run)
    roles = {trial.number: role_of(run, trial.number) for trial, _, _ in drawn}
    points = [
        Point(
            trial.number,
            wide.place(math.log(x)),
            high.place(min(y, most)),
            roles[trial.number],
            kinds.index(trial.runtime),
            y > most,
            _told(trial, across.text(x), y, run),
        )
        for trial, x, y in drawn
    ]
    beyond = sum(p.beyond for p in points)
    lost = "points lost" if run.samples.labelled else "points lost, expected"
    trials = "trial loses" if beyond == 1 else "trials lose"
    return Front(
        f"Accuracy and {across.title.lower()}",
        across.words,
        lost,
        tuple(sorted(points, key=lambda p: (p.role != "", p.role == "chosen"))),
        _stairs([p for p in points if not p.beyond]),
        tuple(_ticks(wide, across)),
        tuple(_even(high)),
        wide.inside(math.log(across.limit)) if across.limit else None,
        None if bound is None else high.inside(bound),
        f"{beyond} {trials} more than {lost_text(most)} and "
        f"{'is' if beyond == 1 else 'are'} drawn at the lower edge."
        if beyond
        else "",
    )


def _told(trial: Trial, x: str, y: float, run: Run) -> str:
    role = role_of(run, trial.number)
    lost = "points lost" if run.samples.labelled else "points lost, expected"
    return f"trial {trial.number}{f' ({role})' if role else ''}, {trial.name}: {x}, " + (
        f"{lost_text(y)} {lost}"
    )


def _most_lost(run: Run) -> float | None:
    """The tightest bound on accuracy, in points lost."""
    given = run.trial(run.reference).figures if run.reference is not None else None
    found = []
    for limit in run.budget.limits:
        if limit.figure == "drop":
            found.append(limit.bound)
        if limit.figure == "value" and given is not None and given.value is not None:
            found.append(100 * (given.value - limit.bound))
    return min(found, default=None)


def _losses(run: Run, all_lost: list[float], bound: float | None) -> tuple[float, float]:
    """What the plot shows: a net that has lost everything must not press all others together."""
    front = [run.trial(n).figures for n in (*run.front, *run.runners_up)]
    best = run.trial(run.best).figures if run.best is not None else None
    told = [f.drop for f in front if f is not None and f.drop is not None]
    worth = WORTH * (bound or LEAST)
    shown = [1.5 * (bound or LEAST), *(lost for lost in told if lost <= worth)]
    if best is not None and best.drop is not None:
        shown.append(best.drop)
    return min(0.0, min(all_lost)), MORE * max(shown)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float

    @classmethod
    def around(cls, values: list[float]) -> _Scale:
        return cls.between(min(values), max(values))

    @classmethod
    def between(cls, low: float, high: float) -> _Scale:
        margin = MARGIN * (high - low) or 0.5
        return cls(low - margin, high + margin)

    def place(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def inside(self, value: float) -> float:
        return min(max(self.place(value), 0.0), 100.0)


def _stairs(points: list[Point]) -> tuple[tuple[float, float], ...]:
    """Corners of the line below which, and left of which, nothing lies."""
    corners: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not corners:
            corners.append((point.x, point.y))
        elif point.y < corners[-1][1]:
            corners += [(point.x, corners[-1][1]), (point.x, point.y)]
    return tuple(corners)


def _ticks(scale: _Scale, across: _Across) -> Iterator[Tick]:
    """Powers of two of a ratio, 1, 2 and 5 of everything else; every second where they crowd."""
    low, high = math.exp(scale.low), math.exp(scale.high)
    if across.halves:
        ends = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
        values = [2.0**power for power in ends]
    else:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [step * 10.0**power for power in powers for step in STEPS]
    values = [value for value in values if low <= value <= high]
    for value in values[:: math.ceil(len(values) / 6) or 1]:
        yield Tick(scale.place(math.log(value)), across.text(value))


def _even(scale: _Scale) -> Iterator[Tick]:
    """Four steps or so of 1, 2 or 5 times a power of ten."""
    rough = (scale.high - scale.low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (*STEPS, 10) if s * power >= rough)
    first = math.ceil(scale.low / step)
    for i in range(first, math.floor(scale.high / step) + 1):
        places = max(0, -math.floor(math.log10(step)))
        yield Tick(scale.place(i * step), f"{i * step:.{places}f}".replace("-", "−"))

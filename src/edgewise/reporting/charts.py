"""Charts as numbers: what is to be drawn, in percent of a chart's width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .figures import PROPORTIONS, bytes_text, metric_text, ms_text, ratio_text
from .findings import label
from .report import Report, Row

__all__ = ["Chart", "Mark", "charts"]

LONGEST_LINE = 1.5  # times the longest bar


@dataclass(frozen=True)
class Mark:
    """One row of a chart.

    Attributes:
        at: where its value lies, 0..100.
        low, high: where the line around it ends, if there is one.
        kind: the row's precision, which gives the colour.
        group: what it belongs to; rows of one group stand closer.
        note: a second figure, set small.
    """

    label: str
    text: str
    at: float
    low: float | None
    high: float | None
    kind: str
    group: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """Marks on one axis.

    Attributes:
        bars: whether bars from zero are drawn; else points, on an axis that begins elsewhere.
        left, right: what the ends of the axis stand for.
        note: how to read it.
    """

    title: str
    marks: tuple[Mark, ...]
    bars: bool
    left: str
    right: str
    note: str


def charts(report: Report) -> tuple[Chart, ...]:
    """Latency, metric and size, each where at least two rows have it."""
    made = (_latency(report.rows), _metric(report), _size(report.rows))
    return tuple(chart for chart in made if chart is not None)


def _latency(rows: tuple[Row, ...]) -> Chart | None:
    def ends(row: Row) -> tuple[float | None, float | None]:
        found = row.measurement.latency_ms
        return (found.p50, found.p90) if found.p90 else (None, None)

    def note(row: Row) -> str:
        d = row.difference
        return ratio_text(d.latency) if d and d.latency is not None else ""

    timed = [r for r in rows if r.measurement.latency_ms]
    line = "; line: to p90, cut at the edge" if any(ends(r)[1] for r in timed) else ""
    return _bars(
        "Latency",
        timed,
        lambda r: r.measurement.latency_ms.p50,
        ms_text,
        f"Bar: median (p50) of one inference{line}. Shorter is better.",
        ends,
        note,
    )


def _size(rows: tuple[Row, ...]) -> Chart | None:
    return _bars(
        "Size",
        [r for r in rows if r.measurement.size_bytes],
        lambda r: r.measurement.size_bytes,
        bytes_text,
        "Bytes on disk. Shorter is better.",
    )


def _bars(
    title: str,
    rows: list[Row],
    value: Callable[[Row], float],
    text: Callable[[float], str],
    note: str,
    ends: Callable[[Row], tuple[float | None, float | None]] = lambda row: (None, None),
    second: Callable[[Row], str] = lambda row: "",
) -> Chart | None:
    if len(rows) < 2:
        return None
    longest = max(value(r) for r in rows)
    # One long line must not press all bars together.
    most = min(max(longest, *(ends(r)[1] or 0 for r in rows)), LONGEST_LINE * longest)
    axis = _Axis(0, most)
    marks = tuple(_mark(r, value(r), ends(r), axis, text(value(r)), second(r)) for r in rows)
    return Chart(title, marks, True, "0", text(most), note)


def _metric(report: Report) -> Chart | None:
    rows = [r for r in report.rows if r.measurement.value is not None]
    if len(rows) < 2:
        return None
    metric = report.metric
    ends = {id(r): r.measurement.ci95 or (None, None) for r in rows}
    seen = [v for r in rows for v in (r.measurement.value, *ends[id(r)]) if v is not None]
    low, high = min(seen), max(seen)
    margin = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    low, high = low - margin, high + margin
    if metric in PROPORTIONS:
        low, high = max(low, 0.0), min(high, 1.0)
    axis = _Axis(low, high)
    marks = tuple(
        _mark(r, r.measurement.value, ends[id(r)], axis, metric_text(metric, r.measurement.value))
        for r in rows
    )
    note = "Point: as measured; line: its 95 % interval. The axis does not begin at zero."
    title = metric[:1].upper() + metric[1:]
    return Chart(title, marks, False, metric_text(metric, low), metric_text(metric, high), note)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def place(self, value: float | None) -> float | None:
        if value is None:
            return None
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(100 * min(share, 1.0), 2)


def _mark(
    row: Row,
    value: float,
    ends: tuple[float | None, float | None],
    axis: _Axis,
    text: str,
    note: str = "",
) -> Mark:
    kind = row.origin.precision if row.origin else ""
    low, high = (axis.place(v) for v in ends)
    return Mark(label(row), text, axis.place(value), low, high, kind, row.measurement.runtime, note)

"""What a report's figures say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .columns import name
from .figures import PROPORTIONS, bytes_text, ms_text, points_text, ratio_text
from .report import Report, Row

__all__ = ["conditions", "findings", "label"]

BUSY = 2.0  # processes that want to run, for each core; measuring itself makes less than 1
UNTHROTTLED = {"0", "0x0"}  # a Raspberry Pi's mask


def findings(report: Report) -> tuple[str, ...]:
    """The fastest and the smallest file, what was lost at most, and where nothing was won."""
    return tuple(_sentences(report))


def conditions(report: Report) -> tuple[str, ...]:
    """Under what conditions all files were timed, where they are the same; none where not."""
    timed = [m.latency_ms for m in (r.measurement for r in report.rows) if m.latency_ms]
    shared = {(t.runs, t.threads, t.batch) for t in timed}
    if len(shared) != 1:
        return ()
    runs, threads, batch = shared.pop()
    return (f"Each was run {runs} times with {threads} threads and batch {batch}, in turns.",)


def label(row: Row) -> str:
    """``int8 on litert``, or the file's name where its precision is not known."""
    return f"{row.origin.precision} on {row.measurement.runtime}" if row.origin else name(row)


def _sentences(report: Report) -> Iterator[str]:
    timed = [r for r in report.rows if r.measurement.latency_ms]
    if len(timed) > 1:
        row = min(timed, key=lambda r: r.measurement.latency_ms.p50)
        yield f"Fastest: {label(row)}, {ms_text(row.measurement.latency_ms.p50)} at p50."
    sized = [r for r in report.rows if r.measurement.size_bytes]
    if len(sized) > 1:
        row = min(sized, key=lambda r: r.measurement.size_bytes)
        yield f"Smallest: {label(row)}, {bytes_text(row.measurement.size_bytes)}."
    compared = [r for r in report.rows if r.difference and r.difference.latency is not None]
    for says, holds in VERDICTS.items():
        found = [r for r in compared if holds(*_interval(r))]
        if found:
            which = ", ".join(f"{label(r)} ({ratio_text(r.difference.latency)})" for r in found)
            yield f"{says.format(report.baseline)}: {which}."
    lost = [r for r in report.rows if r.difference and r.difference.drop is not None]
    if lost:
        yield _loss(max(lost, key=lambda r: r.difference.drop), report.baseline)
    machine = report.rows[-1].measurement.machine if report.rows else {}
    load, cores = machine.get("load"), machine.get("cores")
    if timed and isinstance(load, int | float) and isinstance(cores, int) and load > BUSY * cores:
        yield (
            f"The machine was busy (load average {load:.1f} on {cores} cores): measure again when "
            "it is quiet."
        )
    yield from _throttled(machine.get("meanwhile", ()))


# What is said of a ratio whose 95 % interval is (low, high).
VERDICTS = {
    "Faster than {}": lambda low, high: high < 1,
    "Slower than {}": lambda low, high: low > 1,
    "No faster and no slower than {}, as far as these runs tell": lambda low, high: (
        low <= 1 <= high
    ),
}


def _throttled(states: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Whether heat or a weak supply slowed the machine down while it was measured."""
    masks = {s["throttled"] for s in states if "throttled" in s} - UNTHROTTLED
    limits = {s["limit_mhz"] for s in states if "limit_mhz" in s}
    if masks or len(limits) > 1:
        hottest = max((s["temperature_c"] for s in states if "temperature_c" in s), default=None)
        at = "" if hottest is None else f" at up to {hottest:.0f} °C"
        yield f"The device throttled its clock{at}: cool it, check its supply, and measure again."


def _interval(row: Row) -> tuple[float, float]:
    d = row.difference
    return d.latency_ci95 or (d.latency, d.latency)


def _loss(row: Row, baseline: str) -> str:
    m, d = row.measurement, row.difference
    if d.drop <= 0:
        return f"No file loses {m.metric} against {baseline}, on these {m.n} samples."
    text = f"Largest loss of {m.metric} against {baseline}: {label(row)}, "
    text += points_text(m.metric, d.drop, d.drop_ci95)
    if m.metric in PROPORTIONS:
        text += " percentage points"
    if d.drop_ci95 and d.drop_ci95[0] <= 0:
        text += f", which {m.n} samples cannot tell from none"
    return text + "."

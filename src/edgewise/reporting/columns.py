"""The columns of a report's tables: one row here is one column there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath

from .figures import (
    bytes_text,
    energy_text,
    metric_text,
    ms_text,
    percent_text,
    points_text,
    ratio_text,
)
from .report import Report, Row

__all__ = ["CONDITIONS", "FIGURES", "Column", "filled", "name"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title, meaning: its heading, and what a reader may want to know of it; ``{metric}`` and
            ``{baseline}`` stand for the report's.
        text: its cell of a row; None where that was not measured.
        number: whether its cells are set flush right.
    """

    title: str
    text: Callable[[Row], str | None]
    meaning: str = ""
    number: bool = True


def filled(columns: Iterable[Column], report: Report) -> tuple[Column, ...]:
    """The columns that have a cell in some row, with the report's own words in their headings."""
    words = {"metric": report.metric or "", "baseline": report.baseline}
    return tuple(
        replace(c, title=c.title.format(**words), meaning=c.meaning.format(**words))
        for c in columns
        if any(c.text(row) is not None for row in report.rows)
    )


def name(row: Row) -> str:
    """The file's name, without its folder."""
    return PurePath(row.measurement.subject).name


def _metric(row: Row) -> str | None:
    m = row.measurement
    return None if m.value is None else metric_text(m.metric, m.value, m.ci95)


def _drop(row: Row) -> str | None:
    d = row.difference
    if d is None or d.drop is None:
        return None
    return points_text(row.measurement.metric, d.drop, d.drop_ci95)


def _percentile(percentile: str) -> Callable[[Row], str | None]:
    def text(row: Row) -> str | None:
        value = getattr(row.measurement.latency_ms, percentile, None)
        return None if value is None else ms_text(value)

    return text


def _ratio(row: Row) -> str | None:
    d = row.difference
    return None if d is None or d.latency is None else ratio_text(d.latency, d.latency_ci95)


def _of(field: str, text: Callable = str) -> Callable[[Row], str | None]:
    """A field of the measurement, as ``"latency_ms.runs"``."""

    def cell(row: Row) -> str | None:
        value = row.measurement
        for part in field.split("."):
            value = getattr(value, part, None)
        return None if value is None else text(value)

    return cell


FIGURES = (
    Column("runtime", _of("runtime"), number=False),
    Column("precision", lambda r: r.origin and r.origin.precision, number=False),
    Column(
        "{metric}", _metric,
        "through the runtime itself; in brackets the interval that holds the true value in 95 % "
        "of such samples",
    ),
    Column(
        "drop", _drop,
        "what is lost against {baseline} on the same samples, in percentage points for a "
        "proportion, with its paired 95 % interval; below zero is a gain",
    ),
    Column("p50", _percentile("p50"), "half of all inferences are faster than this"),
    Column(
        "ratio", _ratio,
        "p50 as a multiple of that of {baseline}, measured in turns in the same run, with its "
        "95 % interval; above 1 is slower",
    ),
    Column("size", _of("size_bytes", bytes_text), "of the file and its companions"),
    Column(
        "agreement", _of("agreement.top1", percent_text),
        "share of samples on which the file and the model that it came from put the same output "
        "first",
    ),
    Column(
        "as here", _of("device_agreement.top1", percent_text),
        "share of samples on which the file puts the same output first on the device and on the "
        "machine that it was sent from",
    ),
)  # fmt: skip

CONDITIONS = (
    Column("file", name, number=False),
    Column("samples", _of("n")),
    Column("runs", _of("latency_ms.runs")),
    Column("threads", _of("latency_ms.threads")),
    Column("batch", _of("latency_ms.batch")),
    Column("p90", _percentile("p90"), "given from 64 runs on"),
    Column("p99", _percentile("p99"), "given from 662 runs on"),
    Column("load", _of("load_ms", ms_text), "to open the file, the runtime being imported"),
    Column("memory", _of("memory_bytes", bytes_text), "the most that opening and running took"),
    Column(
        "energy", _of("energy_mj", energy_text),
        "of the processor for one inference, its rest included",
    ),
    Column(
        "mean steps", _of("agreement.mean_steps", lambda v: f"{v:.2g}"),
        "mean difference between the file's and the model's outputs, in quantization steps",
    ),
    Column("most steps", _of("agreement.max_steps", lambda v: f"{v:.2g}"), "the largest, likewise"),
    Column("compared on", _of("agreement.n"), "samples on which file and model were compared"),
    Column("device", _of("device", lambda d: None if d == "local" else d), number=False),
    Column(
        "off by", _of("device_agreement.max_steps", lambda v: f"{v:.2g}"),
        "largest difference between outputs on the device and here, in quantization steps",
    ),
)  # fmt: skip

"""Reporting: figures become a record (`report.Report`), the record a table or a page.

Compute, then render: `columns`, `findings` and `charts` say what is shown, `terminal` and `html`
only show it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..record import Difference, Measurement
from ..run import FILE as RUN
from ..run import Run, read_run
from .report import Report, Row, now, origin_of, read, write

__all__ = ["record", "report"]


class Comparison(Protocol):
    """What `edgewise.compare` gives."""

    measurements: tuple[Measurement, ...]
    differences: tuple[Difference | None, ...]


def record(
    found: Comparison,
    *,
    title: str = "Measurements",
    baseline: str = "the first file",
    notes: Iterable[str] = (),
    commands: Iterable[str] = (),
) -> Report:
    """Put figures together with the records of the files; the arguments are `Report`'s fields.

    Raises:
        ModelError: a file is not the one that its record describes.
    """
    rows = zip(found.measurements, found.differences, strict=True)
    return Report(
        title,
        now(),
        tuple(Row(m, origin_of(m.subject), difference) for m, difference in rows),
        baseline,
        tuple(notes),
        tuple(commands),
    )


def report(
    source: Run | Report | Comparison | Measurement | str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
) -> Report | Run:
    """Put figures together, and write them as one page of HTML that loads nothing else.

    Args:
        source: what `edgewise.fit`, `edgewise.measure` or `edgewise.compare` gave; or the folder of
            a run (with its ``run.json`` or ``measurements.json``, or what `edgewise.sensitivity`
            kept there), or that file.
        path: the page to write; None writes none.
        title: of the page; of a fit it is what was given.

    Returns:
        What the page shows.

    Raises:
        InputError: there are no figures, or the page cannot be written.
        ModelError: a file is not the one that its record describes.
        MissingExtra: jinja2 is not installed.
    """
    found: Report | Run
    if isinstance(source, Report | Run):
        found = source
    elif isinstance(source, str | os.PathLike):
        found = _read(Path(source))
    elif isinstance(source, Measurement):
        found = Report("Measurements", now(), (Row(source, origin_of(source.subject)),))
    else:
        found = record(source)
    if isinstance(found, Run):
        found = found if title is None else replace(found, model=title)
    else:
        found = found if title is None else replace(found, title=title)
    if isinstance(found, Report) and not found.rows and not found.curves:
        raise InputError("there are no figures to report: measure at least one file")
    if path is not None:
        from .html import page

        write(Path(path), page(found).encode())
    return found


def _read(path: Path) -> Report | Run:
    """What lies there: a fit, or figures."""
    fitted = path.name == RUN or (path / RUN).is_file()
    return read_run(path) if fitted else read(path)

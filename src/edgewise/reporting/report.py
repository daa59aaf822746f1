"""Report: the figures of a run with their conditions and their origin, as one record."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ..edge.artifact import Artifact
from ..errors import InputError
from ..record import Curves, Difference, Event, Measurement, Signature, decode, encode

__all__ = ["FILE", "Origin", "Report", "Row", "now", "origin_of", "read", "save"]

FILE = "measurements.json"  # in a run's folder
CURVES = "sensitivity-*.json"  # likewise
FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """What a file is and how it came about, from the record beside it."""

    precision: str
    sha256: str
    signature: Signature
    lineage: tuple[Event, ...]


@dataclass(frozen=True)
class Row:
    """One file, or the Model itself, and what was measured of it."""

    measurement: Measurement
    origin: Origin | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class Report:
    """What was measured together.

    Attributes:
        title: what it is about.
        created: when, ISO 8601 in UTC.
        rows: in the order in which they are shown; all of one machine.
        baseline: what a row's difference is against, in words.
        notes: what a reader should know, a sentence each: where the data came from, what was not
            measured and why.
        commands: what makes the same files and figures again.
        curves: how models bear the pruning of each group.
    """

    title: str
    created: str
    rows: tuple[Row, ...]
    baseline: str = "the first file"
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    curves: tuple[Curves, ...] = ()
    format: int = FORMAT

    @property
    def metric(self) -> str | None:
        """The metric's name."""
        return next((r.measurement.metric for r in self.rows if r.measurement.metric), None)


def origin_of(path: str | Path) -> Origin | None:
    """The origin of an artifact, where a record lies beside it.

    Raises:
        ModelError: the file is not the one that the record describes.
    """
    path = Path(path)
    if not path.with_name(path.name + ".json").is_file() or not path.is_file():
        return None
    a = Artifact.open(path)
    return Origin(a.precision, a.sha256, a.signature, a.lineage)


def now() -> str:
    """The time as a report writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save(report: Report, path: Path) -> None:
    """Write a report's record as JSON.

    Raises:
        InputError: the file cannot be written.
    """
    write(path, encode(report))


def write(path: Path, content: bytes) -> None:
    """Write a file at once or not at all.

    Raises:
        InputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def read(path: Path) -> Report:
    """Read a report's record from its file or from the run's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    folder = path.is_dir()
    file = path / FILE if folder else path
    curves = tuple(
        decode(found.read_bytes(), Curves, str(found))
        for found in (sorted(path.glob(CURVES)) if folder else ())
    )
    if curves and not file.is_file():
        return Report("Sensitivity", now(), (), curves=curves)
    if not file.is_file():
        raise InputError(
            f"{file} does not exist: give a folder or a file that `edgewise fit -o`, "
            "`edgewise measure -o`, `edgewise sensitivity -o` or `edgewise demo` wrote"
        )
    found = decode(file.read_bytes(), Report, str(file))
    return replace(found, curves=curves) if curves else found

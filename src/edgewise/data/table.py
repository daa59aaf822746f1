"""CSV, TSV and Parquet tables: one column is the target, the others are the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingExtra
from ..record import Signature
from .arrays import TARGETS, make_parts
from .options import Options
from .split import Parts

__all__ = ["is_table", "open_table"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def is_table(source: Any) -> bool:
    return isinstance(source, Path) and source.suffix in (*SEPARATORS, ".parquet")


def open_table(path: Path, options: Options, signature: Signature | None) -> Parts:
    """Read a table whole; its columns but the target make one input of shape (rows, columns).

    The target is the column that `options` names, else the one called y, label, labels or target,
    else the last. Text in the target column makes classes; the other columns must be numbers.

    Raises:
        DataError: no such column, text or a gap among the numbers, or no table at all.
    """
    frame = _read(path)
    target = _target(frame.columns, options.target, path)
    if frame.is_empty():
        raise DataError(f"{path} has no sample: give at least one")
    for column in frame:
        if column.null_count():
            row = int(column.is_null().arg_max())
            raise DataError(f"{path} has nothing in column '{column.name}' of sample {row}")
        if column.name != target and not _is_numeric(column):
            raise DataError(
                f"column '{column.name}' of {path} holds {column.dtype} ('{column[0]}'): turn it "
                "into numbers or leave it out"
            )
    y = frame[target]
    targets = y.to_numpy() if _is_numeric(y) else np.array([str(value) for value in y])
    inputs = np.ascontiguousarray(frame.drop(target).to_numpy())
    parts = make_parts({"whole": ((inputs,), targets)}, options, signature, path.name)
    return Parts(parts.sources, (f"the target is column '{target}'",))


def _read(path: Path) -> Any:
    """The table as a polars frame."""
    try:
        import polars
    except ImportError:
        raise MissingExtra("polars, which reads tables,", "compress") from None
    try:
        if path.suffix == ".parquet":
            return polars.read_parquet(path, glob=False)
        frame = polars.read_csv(
            path, separator=SEPARATORS[path.suffix], infer_schema_length=None, glob=False
        )
    except (polars.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path} is not a readable table: {reason}") from None
    if all(_is_number(name) for name in frame.columns):
        raise DataError(f"{path} begins with numbers: add a first line with the columns' names")
    return frame


def _target(columns: list[str], asked: str | None, path: Path) -> str:
    """The name of the target column."""
    listed = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    if len(columns) < 2:
        raise DataError(f"{path} has the columns {listed}: it needs a target and another one")
    if asked is not None:
        if asked not in columns:
            raise DataError(f"{path} has no column '{asked}': its columns are {listed}")
        return asked
    named = [name for name in columns if name.lower() in TARGETS]
    if len(named) > 1 and columns[-1] not in named:
        raise DataError(f"{path} has the columns {', '.join(named)}: give target= to say which")
    return named[0] if len(named) == 1 else columns[-1]


def _is_numeric(column: Any) -> bool:
    return column.dtype.is_numeric() or str(column.dtype) == "Boolean"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

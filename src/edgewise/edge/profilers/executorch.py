"""ExecuTorch's ETDump: a flatbuffer with one event for each operator and run.

Its tables are those of ``executorch/devtools/etdump/etdump_schema_flatcc.fbs``. The package's own
reader imports the compiler and pandas; what is needed here is a few fields.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..runners import executorch as runner
from . import Operator

__all__ = ["profile"]

WARM = 3  # runs that are not counted
BEGIN = 4  # the dump's own size stands before it
RUN = "Execute"
CALL = "native_call_"
# Fields of the tables.
DUMP_RUNS, RUN_NAME, RUN_EVENTS, EVENT_PROFILE = 1, 0, 3, 0
NAME, DELEGATE, START, END = 0, 4, 6, 7


def profile(
    path: Path, threads: int, feeds: Iterator[tuple[np.ndarray, ...]], runs: int
) -> list[list[Operator]]:
    """What XNNPACK and the portable kernels ran; see `edgewise.edge.profilers.profile`."""
    opened = runner.open(path, threads, traced=True)
    for _ in range(WARM + runs):
        opened.run(*next(feeds))
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        dump = Path(folder) / "trace.etdp"
        opened.dump(dump)
        return read(dump.read_bytes())[WARM:]


def read(dump: bytes) -> list[list[Operator]]:
    """The operators of each run."""
    buffer = _Buffer(dump)
    runs = [buffer.table(at) for at in buffer.vector(buffer.table(BEGIN), DUMP_RUNS)]
    return [_operators(buffer, run) for run in runs if buffer.text(run, RUN_NAME) == RUN]


def _operators(buffer: _Buffer, run: int) -> list[Operator]:
    found = []
    for at in buffer.vector(run, RUN_EVENTS):
        event = buffer.field(buffer.table(at), EVENT_PROFILE)
        if not event:
            continue
        event = buffer.table(event)
        inside, name = buffer.text(event, DELEGATE), buffer.text(event, NAME)
        us = (buffer.number(event, END) - buffer.number(event, START)) / 1e3
        if inside:
            found.append(Operator("", inside.rpartition(" #")[0], "XNNPACK", us))
        elif name.startswith(CALL):
            found.append(Operator("", name.removeprefix(CALL), "portable", us, fallback=True))
    return found


class _Buffer:
    """Reads a flatbuffer: tables of fields that are reached through offsets."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def table(self, at: int) -> int:
        """Where the offset at `at` leads."""
        return at + self._read("<I", at)

    def field(self, table: int, number: int) -> int:
        """Where a field is, or 0 where it is left out."""
        offsets = table - self._read("<i", table)
        place = 4 + 2 * number
        if place >= self._read("<H", offsets):
            return 0
        offset = self._read("<H", offsets + place)
        return table + offset if offset else 0

    def vector(self, table: int, number: int) -> range:
        """Where each element of a vector is, of four bytes each."""
        at = self.field(table, number)
        if not at:
            return range(0)
        at = self.table(at)
        return range(at + 4, at + 4 + 4 * self._read("<I", at), 4)

    def text(self, table: int, number: int) -> str:
        at = self.field(table, number)
        if not at:
            return ""
        at = self.table(at)
        return self.data[at + 4 : at + 4 + self._read("<I", at)].decode(errors="replace")

    def number(self, table: int, number: int) -> int:
        at = self.field(table, number)
        return self._read("<Q", at) if at else 0

    def _read(self, kind: str, at: int) -> int:
        return struct.unpack_from(kind, self.data, at)[0]

"""Quiet: latency is never measured while a neighbour on the same machine computes.

Every process of edgewise that computes holds a lock with the others that do; who measures waits
until all have let go of it, and keeps them out. A training lets go between two of its steps as
soon as somebody wants to measure, and goes on afterwards.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Quiet"]


class Quiet:
    """The locks of one machine; one object a process.

    Args:
        folder: that all processes share.
    """

    def __init__(self, folder: Path):
        # Who measures closes the door first, so that no one else begins to compute meanwhile.
        self._door, self._room = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for name in ("measuring.lock", "computing.lock")
        )

    @contextmanager
    def computing(self) -> Iterator[None]:
        """While something is computed; may wait until nothing is measured."""
        self._enter()
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def pause(self) -> None:
        """Called in between by who computes: wait where somebody wants to measure."""
        try:
            fcntl.flock(self._door, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._enter()
        else:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """While latency is measured; waits until nobody computes."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self._door)
        os.close(self._room)

    def _enter(self) -> None:
        fcntl.flock(self._door, fcntl.LOCK_SH)
        fcntl.flock(self._room, fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)

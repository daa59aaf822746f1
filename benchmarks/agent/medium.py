"""A disk that loses its power: what is left is what was synced.

A file's bytes are on the medium as they were at its last sync, and a folder's names likewise; a
file that was never synced comes back empty. Real file systems keep more than that.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgewise.edge.updating.disk import Disk

__all__ = ["CALLS", "Crash", "Medium", "Quick"]


class Crash(BaseException):
    """The power is gone."""


class Quick(Disk):
    """A disk that does not wait."""

    def sync(self, path: Path) -> None:
        """Nothing: what is asked here is what is in which order, not how long it takes."""


class Medium(Disk):
    """A disk that crashes at one of its calls, and knows what would be left.

    Args:
        home: the agent's folder.
        at: the number of the call to crash at, counted from 0,
        after: after it rather than before it.
    """

    def __init__(self, home: Path, at: int | None = None, *, after: bool = False):
        self.home, self.at, self.after = home, at, after
        self.count = 0
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict] = {}
        for path in [home, *home.rglob("*")] if home.exists() else []:
            self._remember(path)  # what an earlier start left is on the medium

    def _remember(self, path):
        if path.is_symlink():
            return
        number = path.stat().st_ino
        if path.is_dir():
            self.folders[number] = {p.name: self._entry(p) for p in path.iterdir()}
        else:
            self.files[number] = path.read_bytes()

    @staticmethod
    def _entry(path):
        if path.is_symlink():
            return "link", os.readlink(path)
        return ("folder" if path.is_dir() else "file"), path.stat().st_ino

    def left(self, to: Path) -> None:
        """Write what a power cut leaves into a new folder."""
        self._restore(self.home.stat().st_ino, to)

    def _restore(self, number, to):
        to.mkdir()
        for name, (kind, what) in self.folders.get(number, {}).items():
            if kind == "link":
                (to / name).symlink_to(what)
            elif kind == "file":
                (to / name).write_bytes(self.files.get(what, b""))
            else:
                self._restore(what, to / name)


def _counted(name):
    def call(self, *arguments):
        now, self.count = self.count, self.count + 1
        if now == self.at and not self.after:
            raise Crash
        if name == "sync":
            self._remember(arguments[0])  # no real one: it would take most of the time
        else:
            getattr(Disk, name)(self, *arguments)
        if now == self.at:
            raise Crash

    return call


CALLS = ("write", "link", "symlink", "mkdir", "rename", "unlink", "rmdir", "sync")
for _name in CALLS:
    setattr(Medium, _name, _counted(_name))

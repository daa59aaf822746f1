"""What is made once and kept for the user: under ``$XDG_CACHE_HOME/edgewise``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["folder", "once"]


def folder() -> Path:
    """Of the XDG Base Directory Specification: ``~/.cache/edgewise`` unless the user moved it."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgewise"


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, which `make` fills the first time.

    It appears whole or not at all; two processes may make it at the same time.
    """
    wanted = folder() / name
    if wanted.exists():
        return wanted
    wanted.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=wanted.parent) as scratch:
        making = Path(scratch) / wanted.name
        making.mkdir()
        make(making)
        try:
            making.rename(wanted)
        except OSError:
            if not wanted.exists():  # else another process was faster
                raise
    return wanted

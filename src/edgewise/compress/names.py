"""Patterns that name layers or groups."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..errors import InputError

__all__ = ["matching"]


def matching(option: str, pattern: str, names: Collection[str]) -> list[str]:
    """The names that a pattern (``"layer1.*"``) matches.

    Raises:
        InputError: there is none; the closest names are suggested.
    """
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        close = get_close_matches(pattern, sorted(names), n=3, cutoff=0.4)
        hint = f": did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"{option} '{pattern}' matches nothing that can be named{hint}")
    return found

"""What is in an update repository, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from .figures import bytes_text

__all__ = ["begun", "repository"]


def begun(root: Path, keys: Path) -> RenderableType:
    """What to do with a new repository."""
    return Text(f"{root} goes onto the devices; keep {keys} where nobody else can read it")


def repository(found: Mapping[str, Any]) -> RenderableType:
    """One line for each release, and until when it holds."""
    lines = []
    for release in found["releases"]:
        shares = ", ".join(
            f"{percent:g} % of {'all' if cohort == '*' else cohort}"
            for cohort, percent in sorted(release["rollout"].items())
        )
        size = bytes_text(release["bytes"])
        lines.append(f"{release['model']}/{release['version']}: {shares}; {size}")
    lines.append(f"sign it anew before {found['expires']}")
    return Group(*map(Text, lines))

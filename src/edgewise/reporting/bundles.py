"""What a bundle holds, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from .figures import bytes_text

__all__ = ["bundle"]


def bundle(found: Mapping[str, Any]) -> RenderableType:
    """One line for the bundle, one for each artifact."""
    trust = "signature and hashes are good" if found["verified"] else "its signature is unchecked"
    lines = [
        f"{found['bundle']}: {found['name']}, version {found['version']}, "
        f"{bytes_text(found['bytes'])}; {trust}"
    ]
    for artifact in found["artifacts"]:
        line = f"  {artifact['runtime']}, {artifact['precision']}, sha256 {artifact['sha256']}"
        check = found["golden"].get(artifact["runtime"])
        if check is not None:
            verdict = "passed" if check.passed else "FAILED"
            off = max(check.max_abs, default=0.0)
            line += f"; {check.n} golden inputs {verdict}, off by {off:.3g}"
        lines.append(line)
    return Group(*map(Text, lines))

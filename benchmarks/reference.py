"""The figures that must not get worse, kept in ``reference.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare import Row

__all__ = ["FILE", "failures", "save", "tolerance"]

FILE = Path(__file__).with_name("reference.json")


def tolerance(images: int) -> float:
    """How far accuracy and agreement may fall: 0.1 points and two images.

    Other processors have other kernels, which round single outputs the other way.
    """
    return 0.001 + 2 / images


def save(rows: Sequence[Row], conditions: dict[str, Any]) -> None:
    """Write the rows as the new reference; rows of other networks and runtimes stay."""
    kept = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    new = [_rounded(asdict(row)) for row in rows]
    replaced = {_key(row) for row in new}
    merged = sorted([row for row in kept if _key(row) not in replaced] + new, key=_key)
    head = json.dumps(conditions, indent=1).removesuffix("\n}")
    lines = ",\n".join("  " + json.dumps(row) for row in merged)  # one a row, for short diffs
    FILE.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n')


def _rounded(value: Any) -> Any:
    """Floats to six digits; more say nothing."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def failures(rows: Sequence[Row]) -> list[str]:
    """One sentence for each figure that fell below its reference by more than the tolerance."""
    known = {_key(row): row for row in json.loads(FILE.read_text())["rows"]}
    found = []
    for row in map(asdict, rows):
        if _key(row) not in known:
            found.append(f"{' '.join(_key(row))}: has no reference, make one by --save-reference")
            continue
        was, agreement = known[_key(row)], row["agreement"]
        for name, images, now, before in (
            ("accuracy", row["images"], row["ours"]["accuracy"], was["ours"]["accuracy"]),
            ("agreement", agreement["images"], agreement["top1"], was["agreement"]["top1"]),
        ):
            allowed = tolerance(images)
            if now < before - allowed:
                found.append(
                    f"{' '.join(_key(row))}: {name} {now:.2%}, reference {before:.2%} "
                    f"(may fall by {allowed:.2%})"
                )
    return found


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["net"], row["runtime"], row["kind"]

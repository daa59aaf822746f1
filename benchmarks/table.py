"""The comparison as a table in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compare import Row, Side

__all__ = ["render"]


def _total(side: Side) -> float:
    return sum(side.seconds.values())


def _both(show: Callable[[Side], str]) -> Callable[[Row], str]:
    """Ours and the peer's in one cell."""
    return lambda row: " / ".join(show(s) for s in (row.ours, row.peer) if s is not None)


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    middle, low, high = row.ratio
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _p50(side: Side) -> str:
    return "" if side.p50_ms is None else f"{side.p50_ms:.3f}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "net": lambda r: r.net,
    "runtime": lambda r: r.runtime,
    "": lambda r: r.kind,
    "images": lambda r: f"{r.images}",
    "PyTorch %": lambda r: f"{r.torch_accuracy:.2%}"[:-1],
    "accuracy %, ours / peer": _both(lambda s: f"{s.accuracy:.2%}"[:-1]),
    "agreement %": lambda r: f"{r.agreement.top1:.2%}"[:-1],
    "within 1 step %": lambda r: f"{r.agreement.within_one:.2%}"[:-1],
    "p50 ms, ours / peer": _both(_p50),
    "ratio (95 %)": _ratio,
    "x float": lambda r: "" if r.speedup is None else f"{r.speedup:.2f}",
    "seconds to make, ours / peer": _both(lambda s: f"{_total(s):.1f}"),
    "kB, ours / peer": _both(lambda s: f"{s.size_bytes / 1000:.0f}"),
}


def render(rows: Sequence[Row]) -> str:
    """One line a row, columns padded to the same width."""
    cells = [list(COLUMNS), *([show(row) for show in COLUMNS.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])

"""Sensitivity as lines: what is lost of the whole model as more of one group is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..record import Curves, Damage
from .figures import PROPORTIONS, percent_text

__all__ = ["Line", "Panel", "loss", "loss_text", "panels"]


@dataclass(frozen=True)
class Line:
    """One group.

    Attributes:
        points: (amount, loss), both 0..100 of the panel's ends, from (0, 0) on; a loss grows
            downwards.
        text: the losses in words, smallest amount first.
    """

    group: str
    points: tuple[tuple[float, float], ...]
    text: str


@dataclass(frozen=True)
class Panel:
    """All groups of one model, on the same axes.

    Attributes:
        note: how to read it.
    """

    title: str
    lines: tuple[Line, ...]
    note: str


def loss(curves: Curves, row: Damage) -> float:
    """What pruning this group by this amount costs: a share of a proportion, or divergence."""
    if curves.metric in PROPORTIONS and curves.value is not None and row.value is not None:
        return curves.value - row.value
    return row.divergence


def loss_text(curves: Curves, row: Damage) -> str:
    """``2.31`` points of a proportion, or the divergence."""
    lost = loss(curves, row)
    return f"{100 * lost:.2f}" if curves.metric in PROPORTIONS else f"{lost:.2g}"


def panels(found: Sequence[Curves]) -> tuple[Panel, ...]:
    """One for each model that was asked."""
    return tuple(_panel(curves) for curves in found if curves.rows)


def _panel(curves: Curves) -> Panel:
    groups: dict[str, list[Damage]] = {}
    for row in curves.rows:
        groups.setdefault(row.group, []).append(row)
    # Beyond the variance of the outputs nothing of them is left.
    most = min(1.0, max(loss(curves, row) for row in curves.rows)) or 1.0
    if curves.metric in PROPORTIONS and curves.value is not None:
        what = f"{curves.metric} that is lost of {percent_text(curves.value)}, in points"
        bottom = f"{100 * most:.1f} points"
    else:
        what = "mean square of what the outputs move by, over their variance"
        bottom = f"{most:.2g}"
    amounts = ", ".join(f"{100 * a:.3g}" for a in sorted({r.amount for r in curves.rows}))
    return Panel(
        f"What cutting each group alone costs ({curves.criterion})",
        tuple(
            Line(
                group,
                ((0.0, 0.0), *(_point(curves, row, most) for row in rows)),
                " · ".join(loss_text(curves, row) for row in rows),
            )
            for group, rows in groups.items()
        ),
        f"From left to right: more of the group cut, {amounts} % in the figures. Downwards: "
        f"{what}; the bottom of each line's box is {bottom}. {curves.n} samples, nothing trained "
        "after it.",
    )


def _point(curves: Curves, row: Damage, most: float) -> tuple[float, float]:
    down = min(max(loss(curves, row) / most, 0.0), 1.0)
    return round(100 * row.amount, 2), round(100 * down, 2)

"""What a fit changed: layer by layer, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..record import Curves
from ..run import Classes, LayerChange, Run
from .columns import Column
from .curves import loss_text
from .figures import count_text
from .trials import Grid

__all__ = ["Confusion", "Layer", "Matrix", "Recall", "confusions", "layers", "matrices", "recalls"]

MOST_CLASSES = 20  # of which a matrix is shown


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        change: as it was recorded.
        sensitivity: what cutting its group alone costs, where that was asked.
        bars: how long it takes before and after, 0..100 of the longest; its multiply-accumulates
            where the runtime does not name layers.
    """

    change: LayerChange
    sensitivity: str | None
    bars: tuple[float, float] | None


@dataclass(frozen=True)
class Recall:
    """One class.

    Attributes:
        n: samples of it.
        before, after: share of them that were recognized, and how many these are.
        lost: points.
    """

    label: str
    n: int
    before: float
    after: float
    hits: tuple[int, int]
    lost: float


@dataclass(frozen=True)
class Confusion:
    """One class taken for another: how often before, and after."""

    true: str
    taken_for: str
    before: int
    after: int


@dataclass(frozen=True)
class Matrix:
    """Counts, row = true class.

    Attributes:
        rows: (count, share of its row) a cell.
    """

    title: str
    rows: tuple[tuple[tuple[int, float], ...], ...]


def layers(run: Run) -> Grid:
    """Every layer, in the order of the graph."""
    found = run.proof.layers if run.proof else ()
    worst = _worst(run.curves)
    timed = any(t is not None for row in found for t in row.us)
    cost = (lambda row: row.us) if timed else (lambda row: row.macs)
    most = max((c for row in found for c in cost(row) if c is not None), default=0)
    rows = [
        Layer(
            row,
            worst.get(row.layer),
            tuple(round(100 * (c or 0) / most, 2) for c in cost(row)) if most else None,
        )
        for row in found
    ]
    columns = (
        Column("layer", lambda r: r.change.layer, number=False),
        Column("weight", _shapes, "its shape before and after", number=False),
        Column("MACs", _macs, "multiply-accumulates of one sample, before and after"),
        Column("bits", lambda r: str(r.change.bits), "of its weight in the file"),
        Column(
            "zeros",
            lambda r: f"{100 * r.change.sparsity:.0f} %" if r.change.sparsity else None,
            "share of its weight",
        ),
        Column("sensitivity", lambda r: r.sensitivity, _asked(run.curves)),
        Column(
            "µs", _times, "on the runtime, before and after, where its profiler names the layer"
        ),
    )
    return Grid.of(columns, rows)


def _shapes(row: Layer) -> str:
    before, after = (s and "×".join(map(str, s)) for s in row.change.shape)
    return before if before == after else f"{before} → {after or 'gone'}"


def _macs(row: Layer) -> str:
    before, after = map(count_text, row.change.macs)
    return before if before == after else f"{before} → {after}"


def _times(row: Layer) -> str | None:
    if row.change.us == (None, None):
        return None
    return " → ".join("–" if us is None else f"{us:.0f}" for us in row.change.us)


def _worst(curves: Sequence[Curves]) -> dict[str, str]:
    """Of each group, the loss at the largest amount that was tried."""
    found = {}
    for each in curves:
        most = max((row.amount for row in each.rows), default=0)
        found |= {row.group: loss_text(each, row) for row in each.rows if row.amount == most}
    return found


def _asked(curves: Sequence[Curves]) -> str:
    if not curves or not curves[0].rows:
        return ""
    most = max(row.amount for row in curves[0].rows)
    return f"what is lost where {100 * most:.0f} % of its group alone are cut, untrained"


def recalls(classes: Classes) -> tuple[Recall, ...]:
    """Every class that has samples, the largest loss first."""
    found = []
    for i, label in enumerate(classes.labels):
        n = sum(classes.after[i])
        if not n or not sum(classes.before[i]):
            continue
        hits = classes.before[i][i], classes.after[i][i]
        before, after = hits[0] / sum(classes.before[i]), hits[1] / n
        found.append(Recall(label, n, before, after, hits, 100 * (before - after)))
    return tuple(sorted(found, key=lambda row: -row.lost))


def confusions(classes: Classes) -> tuple[Confusion, ...]:
    """Which class is taken for which other more often than before, the largest growth first."""
    names = classes.labels
    found = [
        Confusion(names[i], names[j], classes.before[i][j], classes.after[i][j])
        for i in range(len(names))
        for j in range(len(names))
        if i != j and classes.after[i][j] > classes.before[i][j]
    ]
    return tuple(sorted(found, key=lambda row: row.before - row.after))


def matrices(classes: Classes) -> tuple[Matrix, ...]:
    """Before and after, where there are few enough classes to be read."""
    if len(classes.labels) > MOST_CLASSES:
        return ()
    return tuple(
        Matrix(
            title,
            tuple(
                tuple((count, round(count / (sum(row) or 1), 4)) for count in row) for row in counts
            ),
        )
        for title, counts in (("Before", classes.before), ("After", classes.after))
    )

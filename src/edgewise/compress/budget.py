"""Budget: how many units of each group go, so that enough is saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from torch import fx

from ..errors import StepError
from ..graph.axes import Coupling, Group
from ..graph.cost import macs
from ..graph.surgery import Sizes

__all__ = ["Budget", "Cost"]

HALVINGS, MEASURED = 30, 6  # the latter where each takes a measurement

# From the units that are cut of each group: the share of the cost that is left.
Cost = Callable[[Mapping[str, np.ndarray]], float]


@dataclass(frozen=True)
class Budget:
    """Chooses units by their scores.

    Attributes:
        coupling: the groups.
        graph: that they were found in.
        scores: one number a unit for each group, comparable between groups.
        shares: for each group the factor on the amount to be cut, 0 where it stays whole.
        multiple: of the widths that are left.
        curves: for each group what cutting it alone does to the outputs, as (share, divergence);
            asked for by the scope ``"sensitivity"`` alone.
    """

    coupling: Coupling
    graph: fx.GraphModule
    scores: Mapping[str, np.ndarray]
    shares: Mapping[str, float]
    multiple: int
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def choose(self, amount: float | None, of: str | Cost, scope: str) -> dict[str, np.ndarray]:
        """The units to be cut of each group, so that the cost falls by at least `amount`.

        Args:
            amount: a share of `of`; None cuts the given shares of each group.
            of: ``"units"``, ``"macs"`` or ``"parameters"``; or what measures.
            scope: ``"layer"``, ``"global"`` or ``"sensitivity"``.

        Raises:
            StepError: so much cannot be saved.
        """
        if amount is None or (of, scope) == ("units", "layer"):
            factor = 1.0 if amount is None else amount
            return self._cut({g: factor * share for g, share in self.shares.items()})
        name, left = ("time", of) if callable(of) else (of, self._left(of))
        order = self._order("macs" if callable(of) else of, scope)

        def saved(level: float) -> float:
            return 1 - left(self._at(level, order))

        if (most := saved(1.0)) < amount:
            raise StepError(
                f"at most {100 * most:.1f} % of the {name} can be cut with one unit left in "
                f"each group, {100 * amount:.1f} % were asked for"
            )
        low, high = 0.0, 1.0
        for _ in range(MEASURED if callable(of) else HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if saved(middle) >= amount else (middle, high)
        return self._at(high, order)

    def _left(self, of: str) -> Cost:
        whole = self.cost(of, {})
        if not whole:
            raise StepError(f"no {of} are counted in this model: give the amount of its units")
        return lambda units: self.cost(of, units) / whole

    def cost(self, of: str, units: Mapping[str, np.ndarray]) -> int:
        """Units, multiply-accumulates of one sample, or parameters, with these units cut."""
        if of == "units":
            return sum(g.size - len(units.get(g.name, ())) for g in self.coupling.groups)
        sizes = Sizes(self.coupling, self.coupling.gone(units))
        if of == "parameters":
            return sum(
                math.prod(map(sizes.count, self.coupling.parameters[name]))
                for name, _ in self.graph.named_parameters()
            )
        return sum(macs(node, sizes.shape) or 0 for node in self._nodes) // self._batch

    @cached_property
    def _nodes(self) -> list[fx.Node]:
        return [n for n in self.graph.graph.nodes if macs(n, self.coupling.shapes.get) is not None]

    @property
    def _batch(self) -> int:
        first = next(n for n in self.graph.graph.nodes if n.op == "placeholder")
        return self.coupling.shapes[first][0]

    def _at(self, level: float, order: np.ndarray | None) -> dict[str, np.ndarray]:
        """With `level` of each group's units cut, or so many of all in this order."""
        if order is None:
            return self._cut({g: level * share for g, share in self.shares.items()})
        count = round(level * len(order))
        cuts: dict[str, float] = {g.name: 0.0 for g in self.coupling.groups}
        for group, number in zip(*np.unique(order[:count], return_counts=True), strict=True):
            name = self.coupling.groups[group].name
            cuts[name] = number / self.coupling.groups[group].size
        return self._cut(cuts)

    def _order(self, of: str, scope: str) -> np.ndarray | None:
        """The groups of all units, the one to be cut first in front; None for `"layer"`."""
        if scope == "layer":
            return None
        open_groups = [i for i, g in enumerate(self.coupling.groups) if self.shares[g.name]]
        keys = [
            self.scores[g.name] if scope == "global" else self._prices(g, of)
            for g in (self.coupling.groups[i] for i in open_groups)
        ]
        of_groups = np.repeat(open_groups, [len(k) for k in keys])
        return of_groups[np.argsort(np.concatenate(keys), kind="stable")]

    def _prices(self, group: Group, of: str) -> np.ndarray:
        """What each further unit of a group costs in divergence, for each `of` that it saves.

        The curve is taken for convex: between the points of its lower hull.
        """
        hull = [(0.0, 0.0)]
        for point in sorted(self.curves[group.name]):
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
                hull.pop()
            hull.append(point)
        ends = [share for share, _ in hull[1:]]
        slopes = [_slope(a, b) for a, b in pairwise(hull)] + [np.inf]  # beyond what was tried
        each = np.searchsorted(ends, (np.arange(group.size) + 0.5) / group.size)
        saved = self.cost(of, {}) - self.cost(of, {group.name: np.array([0])})
        return np.array(slopes)[each] / (group.size * max(saved, 1e-9))

    def _cut(self, cuts: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The least important units, this share of each group."""
        return {
            g.name: np.sort(
                np.argsort(self.scores[g.name], kind="stable")[: self._number(g, cuts[g.name])]
            )
            for g in self.coupling.groups
        }

    def _number(self, group: Group, share: float) -> int:
        """How many units go, so that the rest is a multiple and at least one is left."""
        each = group.members[0].positions.shape[1]
        step = self.multiple // math.gcd(self.multiple, each)
        if group.size % step:
            step = 1
        kept = max(1, math.ceil(group.size * (1 - share) - 1e-9))
        return group.size - min(group.size, math.ceil(kept / step) * step)


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])

"""Budget: how many units of each group go, so that enough is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import fx

from ..errors import StepError
from ..graph.axes import Coupling
from ..graph.cost import macs
from ..graph.surgery import Sizes

__all__ = ["Budget"]

HALVINGS = 30


@dataclass(frozen=True)
class Budget:
    """Chooses units by their scores.

    Attributes:
        coupling: the groups.
        graph: that they were found in.
        scores: one number a unit for each group, comparable between groups.
        shares: for each group the factor on the amount to be cut, 0 where it stays whole.
        multiple: of the widths that are left.
    """

    coupling: Coupling
    graph: fx.GraphModule
    scores: Mapping[str, np.ndarray]
    shares: Mapping[str, float]
    multiple: int

    def choose(self, amount: float | None, of: str, scope: str) -> dict[str, np.ndarray]:
        """The units to be cut of each group, so that the cost falls by at least `amount`.

        Args:
            amount: a share of `of`; None cuts the given shares of each group.
            of: ``"units"``, ``"macs"`` or ``"parameters"``.
            scope: ``"layer"`` or ``"global"``.

        Raises:
            StepError: so much cannot be saved.
        """
        if amount is None or (of, scope) == ("units", "layer"):
            factor = 1.0 if amount is None else amount
            return self._cut({g: factor * share for g, share in self.shares.items()})
        whole = self.cost(of, {})
        if not whole:
            raise StepError(f"no {of} are counted in this model: give the amount of its units")

        def saved(level: float) -> float:
            return 1 - self.cost(of, self._at(level, scope)) / whole

        if saved(1.0) < amount:
            raise StepError(
                f"at most {100 * saved(1.0):.1f} % of the {of} can be cut with one unit left in "
                f"each group, {100 * amount:.1f} % were asked for"
            )
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if saved(middle) >= amount else (middle, high)
        return self._at(high, scope)

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

    def _at(self, level: float, scope: str) -> dict[str, np.ndarray]:
        """With `level` of each group's units cut, or of the least important of all."""
        if scope == "layer":
            return self._cut({g: level * share for g, share in self.shares.items()})
        order = self._order
        count = round(level * len(order))
        cuts: dict[str, float] = {g.name: 0.0 for g in self.coupling.groups}
        for group, number in zip(*np.unique(order[:count], return_counts=True), strict=True):
            name = self.coupling.groups[group].name
            cuts[name] = number / self.coupling.groups[group].size
        return self._cut(cuts)

    @cached_property
    def _order(self) -> np.ndarray:
        """The groups of all units, the least important unit first."""
        open_groups = [i for i, g in enumerate(self.coupling.groups) if self.shares[g.name]]
        scores = [self.scores[self.coupling.groups[i].name] for i in open_groups]
        of = np.repeat(open_groups, [len(s) for s in scores])
        return of[np.argsort(np.concatenate(scores), kind="stable")]

    def _cut(self, cuts: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The least important units, this share of each group."""
        return {
            g.name: np.sort(
                np.argsort(self.scores[g.name], kind="stable")[: self._number(g, cuts[g.name])]
            )
            for g in self.coupling.groups
        }

    def _number(self, group, share: float) -> int:
        """How many units go, so that the rest is a multiple and at least one is left."""
        each = group.members[0].positions.shape[1]
        step = self.multiple // math.gcd(self.multiple, each)
        if group.size % step:
            step = 1
        kept = max(1, math.ceil(group.size * (1 - share) - 1e-9))
        return group.size - min(group.size, math.ceil(kept / step) * step)

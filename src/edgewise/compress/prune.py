"""Prune: whole channels, heads and neurons fewer; the graph gets smaller, no kernel changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..data import Data
from ..data.split import Split
from ..errors import DataError, InputError, StepError
from ..graph.axes import Coupling, analyse
from ..graph.surgery import Sizes, cut
from ..math.importance import Criterion
from ..model import Model
from ..step import Interval, Plan, Step, searched
from .budget import Budget
from .damage import sensitivity
from .names import matching
from .reconstruct import Kept, reconstruct
from .scores import calibration, check_criterion, unit_scores

__all__ = ["GroupCut", "Prune", "PrunePlan"]

SCOPES = ("layer", "global", "sensitivity")
TRIED = (0.125, 0.25, 0.5, 0.75, 0.875)  # of each group alone
SENSED = 128  # samples on which that is looked at
BATCH = 32  # samples at a time for reconstruction


@dataclass(frozen=True)
class GroupCut:
    """One group and what goes of it.

    Attributes:
        group: the layer that makes its units.
        size: how many units there are.
        units: those that go, in order.
        ties: the parameters that are cut with them, as ``name[axis]``.
    """

    group: str
    size: int
    units: tuple[int, ...]
    ties: tuple[str, ...]


@dataclass(frozen=True)
class PrunePlan(Plan):
    """Every unit that `Prune` will cut, what that saves, and what is left alone with its reason.

    Attributes:
        macs, parameters: (before, after), the former for one sample.
        samples: what the weights that are left are solved on, if they are.
    """

    groups: tuple[GroupCut, ...]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    skipped: dict[str, str] = field(default_factory=dict)
    samples: Split | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """One line a group, then the totals."""
        wide = max((len(row.group) for row in self.groups), default=0)
        lines = [
            f"{row.group:<{wide}}  {row.size:>5} -> {row.size - len(row.units):<5} "
            f"with {len(row.ties)} axes"
            for row in self.groups
        ]
        for what, (before, after) in (("MACs", self.macs), ("parameters", self.parameters)):
            fewer = f" ({before / after:.2f}x fewer)" if after else ""
            lines.append(f"{before:,} -> {after:,} {what}{fewer}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Prune(Step):
    """Cut the least important units of each group of channels that move together.

    Attributes:
        amount: the share to take off, in [0, 1); or shares by group, as names or patterns
            (``{"layer1.*": 0.5}``), the other groups then stay whole.
        of: what the share is of: ``"units"``, ``"macs"`` or ``"parameters"``; or what measures it
            (`edgewise.Latency`): a function from the cut Model and the whole one to the share of
            the cost that is left.
        scope: ``"layer"`` cuts the same share of each group, ``"global"`` the least important
            units of all, ``"sensitivity"`` more of the groups whose loss moves the outputs least
            for what it saves (`edgewise.sensitivity`; looks at calibration samples).
        criterion: one of `edgewise.math.importance.CRITERIA`, or a function from `Evidence` to
            one number a unit.
        keep: groups to leave whole, as names or patterns.
        multiple: the widths that are left are multiples of this, where they were before.
        samples: at most so many calibration samples are looked at.
        reconstruct: solve what is left anew, layer by layer, on the calibration samples.
    """

    amount: float | Mapping[str, float] = searched(0.3, within=Interval(0.05, 0.9, 0.05))
    of: str | Callable[[Model, Model], float] = searched("units", "macs", "parameters")
    scope: str = searched("layer", *SCOPES)
    criterion: str | Criterion = searched("l1", "l1", "l2", "lamp", "taylor")
    keep: tuple[str, ...] = ()
    multiple: int = searched(1, 1, 4, 8)
    samples: int = 512
    reconstruct: bool = searched(False, False, True)

    def __post_init__(self):
        by_group = isinstance(self.amount, Mapping)
        for share in self.amount.values() if by_group else [self.amount]:
            if not 0 <= share < 1:
                raise InputError(f"amount is a share in [0, 1), found {share}")
        for name, given, known in (
            ("of", self.of, ("units", "macs", "parameters")),
            ("scope", self.scope, SCOPES),
        ):
            if not callable(given) and given not in known:
                raise InputError(f"unknown {name} '{given}': choose one of {', '.join(known)}")
        if by_group and (self.of, self.scope) != ("units", "layer"):
            raise InputError("shares by group are of units, layer by layer: leave of= and scope=")
        check_criterion(self.criterion)
        if self.multiple < 1 or self.samples < 1:
            raise InputError("multiple and samples must be at least 1")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: prune the float model, then quantize")
        if model.clustered:
            raise StepError("the model's weights share values: prune it before that")

    def plan(self, model: Model, data: Data | None) -> PrunePlan:
        coupling = analyse(model.graph, model.signature)
        if not coupling.groups:
            why = "; ".join(f"{name}: {reason}" for name, reason in coupling.frozen.items())
            raise StepError(f"nothing in this model can be cut ({why})")
        shares, skipped = self._shares(coupling)
        scores = unit_scores(model, coupling, self.criterion, data, self.samples)
        curves = self._curves(model, data) if self.scope == "sensitivity" else {}
        budget = Budget(coupling, model.graph, scores, shares, self.multiple, curves)
        amount = None if isinstance(self.amount, Mapping) else self.amount

        def measured(units: Mapping[str, np.ndarray]) -> float:
            return self.of(Model.of(cut(model.module(), coupling, units), like=model), model)

        units = budget.choose(amount, measured if callable(self.of) else self.of, self.scope)
        return PrunePlan(
            tuple(
                GroupCut(
                    g.name, g.size, tuple(map(int, units[g.name])),
                    tuple(f"{m.parameter}[{m.axis}]" for m in g.members),
                )
                for g in coupling.groups
                if len(units[g.name])
            ),
            *((budget.cost(of, {}), budget.cost(of, units)) for of in ("macs", "parameters")),
            skipped | coupling.frozen,
            calibration(data, self.samples, "reconstruction") if self.reconstruct else None,
        )  # fmt: skip

    def apply(self, model: Model, plan: PrunePlan) -> Model:
        coupling = analyse(model.graph, model.signature)
        sizes = {g.name: g.size for g in coupling.groups}
        for row in plan.groups:
            if sizes.get(row.group) != row.size:
                raise StepError(f"the plan's group '{row.group}' is not one of this model's")
            if len(row.units) >= row.size:
                raise StepError(f"the group '{row.group}' would vanish: leave a unit of it")
        units = {row.group: np.array(row.units, int) for row in plan.groups}
        small = cut(model.module(), coupling, units)
        if plan.samples is not None:
            batches = [
                tuple(map(torch.from_numpy, inputs)) for inputs, _ in plan.samples.batches(BATCH)
            ]
            kept = Kept(Sizes(coupling, coupling.gone(units)))
            reconstruct(small, model.graph, batches, kept)
        return Model(small, model.signature)

    def _shares(self, coupling: Coupling) -> tuple[dict[str, float] | None, dict[str, str]]:
        """The share of each group where they are given, and the groups left whole."""
        names = [g.name for g in coupling.groups]
        skipped = {n: "kept as asked" for p in self.keep for n in matching("keep", p, names)}
        if not isinstance(self.amount, Mapping):
            return {n: 0.0 if n in skipped else 1.0 for n in names}, skipped
        given = {
            name: share for pattern, share in self.amount.items()
            for name in matching("amount", pattern, names)
        }  # fmt: skip
        return {n: 0.0 if n in skipped else given.get(n, 0.0) for n in names}, skipped

    def _curves(self, model: Model, data: Data | None) -> dict[str, list[tuple[float, float]]]:
        if data is None:
            raise DataError("scope 'sensitivity' needs calibration samples: give data=")
        most = min(self.samples, SENSED)
        found = sensitivity(model, data, TRIED, criterion=self.criterion, samples=most)
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in found.rows:
            curves.setdefault(row.group, []).append((row.amount, row.divergence))
        return curves

"""Sparsify: weights become zero, one by one; the graph keeps its shape and the file shrinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, fx

from ..data import Data
from ..data.split import Split
from ..errors import InputError, StepError
from ..graph.fold import constant
from ..math.sparse_solve import least_squares, sparsegpt
from ..math.sparsity import Pattern, as_matrix, as_weight, erdos_renyi, lamp, shared
from ..model import Model
from ..step import Plan, Step
from .constants import changed, written
from .names import matching
from .reconstruct import Chooser, reconstruct
from .saliency import SALIENCIES, Saliency, Weight, chosen_weights, saliencies, weights_of
from .scores import calibration, tensors

__all__ = ["Sparsify", "SparsityPlan", "ThinnedWeight"]

ALLOCATIONS = ("layer", "global", "erdos-renyi", "lamp")
BATCH = 32


@dataclass(frozen=True)
class ThinnedWeight:
    """One weight and how much of it goes.

    Attributes:
        weight: the parameter's name.
        size: how many numbers it has.
        zeros: how many of them will be zero.
    """

    weight: str
    size: int
    zeros: int


@dataclass(frozen=True)
class SparsityPlan(Plan):
    """Which weights `Sparsify` makes zero, and which it leaves whole and why.

    Attributes:
        constants: the new numbers of every parameter and buffer that changes.
    """

    weights: tuple[ThinnedWeight, ...]
    constants: dict[str, np.ndarray] = field(repr=False, compare=False)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line a weight, then the total."""
        wide = max(len(row.weight) for row in self.weights)
        lines = [
            f"{row.weight:<{wide}}  {row.zeros:>9,} of {row.size:>9,} zero "
            f"({row.zeros / row.size:.1%})"
            for row in self.weights
        ]
        zeros, size = (sum(getattr(row, n) for row in self.weights) for n in ("zeros", "size"))
        return "\n".join([*lines, f"{zeros:,} of {size:,} weights are zero ({zeros / size:.1%})"])


@dataclass(frozen=True)
class Sparsify(Step):
    """Make the weights zero that matter least.

    Attributes:
        amount: the share that becomes zero, in [0, 1); or shares by layer, as names or patterns
            (``{"layer1.*": 0.5}``), the other layers then stay whole.
        criterion: ``"magnitude"``, ``"snip"``, ``"taylor"``, ``"wanda"``, ``"sparsegpt"``,
            ``"random"`` (`edgewise.compress.saliency`), or a function from the weight and its
            parameter name to a score for each number.
        allocation: how the amount is shared out: ``"layer"`` the same of each, ``"global"`` the
            least of all weights, ``"lamp"`` likewise by LAMP scores, ``"erdos-renyi"`` more of
            large layers.
        pattern: ``"2:4"`` (two of every four neighbouring inputs stay, whatever the amount) or
            ``"4x1"`` (blocks of outputs by inputs); "" for none.
        keep: layers to leave whole, as names or patterns.
        samples: at most so many calibration samples are looked at.
        reconstruct: solve what is left anew, layer by layer, on the calibration samples
            (SparseGPT always does).
    """

    amount: float | Mapping[str, float] = 0.5
    criterion: str | Saliency = "magnitude"
    allocation: str = "layer"
    pattern: str = ""
    keep: tuple[str, ...] = ()
    samples: int = 512
    reconstruct: bool = False

    def __post_init__(self):
        by_layer = isinstance(self.amount, Mapping)
        for share in self.amount.values() if by_layer else [self.amount]:
            if not 0 <= share < 1:
                raise InputError(f"amount is a share in [0, 1), found {share}")
        if self.allocation not in ALLOCATIONS:
            raise InputError(
                f"unknown allocation '{self.allocation}': choose one of {', '.join(ALLOCATIONS)}"
            )
        if not callable(self.criterion) and self.criterion not in SALIENCIES:
            raise InputError(
                f"unknown criterion '{self.criterion}': choose one of {', '.join(SALIENCIES)}, or "
                "give a function"
            )
        try:
            pattern = Pattern.parse(self.pattern)
        except ValueError as error:
            raise InputError(str(error)) from None
        if self.allocation != "layer" and (by_layer or pattern.of):
            raise InputError("shares by layer and N:M leave nothing to allocate: leave allocation=")
        if self.criterion == "sparsegpt" and pattern.rows * pattern.columns > 1:
            raise InputError("sparsegpt chooses single weights or N:M: take wanda for blocks")
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, found {self.samples}")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: make the float model sparse first")
        if model.clustered:
            raise StepError("the model's weights share values: make it sparse before that")

    def plan(self, model: Model, data: Data | None) -> SparsityPlan:
        weights, skipped = self._weights(model.graph)
        scores = self._scores(model, weights, data)
        shares = self._shares(weights, scores)
        pattern = Pattern.parse(self.pattern)
        masks = {
            name: as_weight(
                pattern.mask(as_matrix(scores[name], row.inputs), shares[name]),
                row.values, row.inputs,
            )
            for name, row in weights.items()
        }  # fmt: skip
        module = model.module()
        if self.criterion == "sparsegpt" or self.reconstruct:
            batches = tensors(self._samples(data), BATCH)
            chooser = _chooser(weights, masks, shares, pattern, self.criterion == "sparsegpt")
            reconstruct(module, model.graph, batches, choose=chooser)
        else:
            for name, row in weights.items():
                constant(module, row.node).data.mul_(masks[name])
        constants = changed(module, model.graph)
        zeros = {n: int((constant(module, row.node) == 0).sum()) for n, row in weights.items()}
        return SparsityPlan(
            tuple(ThinnedWeight(n, row.values.numel(), zeros[n]) for n, row in weights.items()),
            constants,
            skipped,
        )

    def apply(self, model: Model, plan: SparsityPlan) -> Model:
        return written(model, plan.constants)

    def _weights(self, module: fx.GraphModule) -> tuple[dict[str, Weight], dict[str, str]]:
        """The weights that get zeros, by name, and the layers that stay whole."""
        asked = None
        if isinstance(self.amount, Mapping):
            layers = {row.layer for row in weights_of(module).values()}
            asked = {n for p in self.amount for n in matching("amount", p, layers)}
        pattern = Pattern.parse(self.pattern)
        reads = self.reconstruct or self.criterion in ("wanda", "sparsegpt")

        def reason(row: Weight) -> str | None:
            if asked is not None and row.layer not in asked:
                return "no share given"
            if reads and not row.solvable:
                return row.unsolvable
            return pattern.reason(*row.values.transpose(0, 1 - row.inputs).shape[:2])

        return chosen_weights(module, self.keep, reason, "made sparse")

    def _scores(
        self, model: Model, weights: Mapping[str, Weight], data: Data | None
    ) -> dict[str, Tensor]:
        """A score for each number of each weight.

        Raises:
            StepError: a criterion gives NaN or the wrong shape.
        """
        known = SALIENCIES.get(self.criterion) if isinstance(self.criterion, str) else None
        batches = self._samples(data).batches(BATCH) if known and known.reads else iter(())
        scores = saliencies(model.graph, weights, self.criterion, batches)
        for name, score in scores.items():
            if score.shape != weights[name].values.shape or score.isnan().any():
                raise StepError(
                    f"the criterion must give a number for each of {name}: found shape "
                    f"{tuple(score.shape)}{' with NaN' if score.isnan().any() else ''}"
                )
        return scores

    def _shares(
        self, weights: Mapping[str, Weight], scores: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """The share of each weight that goes."""
        if isinstance(self.amount, Mapping):
            return {
                name: next(
                    share for pattern, share in reversed(self.amount.items())
                    if fnmatchcase(row.layer, pattern)
                )
                for name, row in weights.items()
            }  # fmt: skip
        if self.allocation == "layer":
            return dict.fromkeys(weights, self.amount)
        if self.allocation == "erdos-renyi":
            shapes = [row.values.shape for row in weights.values()]
            return dict(zip(weights, erdos_renyi(shapes, self.amount), strict=True))
        pattern = Pattern.parse(self.pattern)
        sums = {n: pattern.sums(as_matrix(s, weights[n].inputs)) for n, s in scores.items()}
        if self.allocation == "lamp":
            sums = {name: lamp(score) for name, score in sums.items()}
        masks = shared(sums, self.amount)
        return {name: 1 - float(mask.double().mean()) for name, mask in masks.items()}

    def _samples(self, data: Data | None) -> Split:
        return calibration(data, self.samples, "judging weights")


def _chooser(
    weights: Mapping[str, Weight],
    masks: Mapping[str, Tensor],
    shares: Mapping[str, float],
    pattern: Pattern,
    sweeps: bool,
) -> Chooser:
    """Thins each layer's best weights, and solves those that are left."""
    names = {row.readers[0].name: name for name, row in weights.items()}

    def choose(node: fx.Node, best: Tensor, hessian: Tensor) -> Tensor:
        name = names.get(node.name)
        if name is None:
            return best
        mask = masks[name].reshape(best.shape)
        start = best
        if sweeps:
            # N:M is of neighbouring channels: the kernel's places come in front of them.
            shape = masks[name].shape[1:]
            order = torch.arange(best.shape[-1]).reshape(shape[0], -1).T.flatten()
            order = order.expand(best.shape[0], -1)
            start = sparsegpt(best, hessian, shares[name], pattern.keep, pattern.of, order=order)
            mask = start != 0
        return least_squares(best, hessian, start, mask)

    return choose

"""Condense: weights on grids, each at the point that is worth the bits which it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import InputError, StepError
from ..math.rate import LARGEST, code_lengths, grid_steps, rate_distortion
from ..math.sparse_solve import least_squares
from ..model import Model
from ..step import Interval, Plan, Step, searched
from .constants import changed, written
from .reconstruct import Chooser, reconstruct
from .saliency import Weight, chosen_weights, weights_of
from .scores import calibration, tensors
from .stakes import Stake, stakes

__all__ = ["Condense", "CondensePlan", "CondensedWeight"]

BATCH = 32


@dataclass(frozen=True)
class CondensedWeight:
    """One weight and what is left of it.

    Attributes:
        weight: the parameter's name.
        size: how many numbers it has.
        zeros: how many of them are zero.
        bits: of a number, by how often each integer occurs in it.
    """

    weight: str
    size: int
    zeros: int
    bits: float


@dataclass(frozen=True)
class CondensePlan(Plan):
    """Which weights are put on which points, and which stay as they are and why.

    Attributes:
        constants: the new numbers of every parameter and buffer that changes.
    """

    weights: tuple[CondensedWeight, ...]
    constants: dict[str, np.ndarray] = field(repr=False, compare=False)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line a weight, then the total."""
        wide = max(len(row.weight) for row in self.weights)
        lines = [
            f"{row.weight:<{wide}}  {row.size:>9,} weights of {row.bits:5.2f} bits, "
            f"{row.zeros / row.size:.1%} zero"
            for row in self.weights
        ]
        size = sum(row.size for row in self.weights)
        bits = sum(row.size * row.bits for row in self.weights)
        return "\n".join([*lines, f"{size:,} weights of {bits / size:.2f} bits: {bits / 8:,.0f} B"])


@dataclass(frozen=True)
class Condense(Step):
    """Quantize weights for the smallest file, not for fast kernels: by rate against distortion.

    Each weight becomes a multiple of its output channel's step. How fine the steps are follows from
    how much the model's outputs move with the layer; which multiple, from the error of what the
    layer gives on calibration samples and from the bits that an entropy coder will spend
    (`edgewise.math.rate`). Layer after layer, each makes up for those before. Zeros stay zero. The
    weights stay floats: `Quantize` to int8 finds the same integers again, and a bundle stores them
    in about as many bits as are said here.

    Attributes:
        bits: of a weight on average, once coded.
        keep: layers to leave as they are, as names or patterns.
        samples: at most so many calibration samples are looked at; no labels.
    """

    bits: float = searched(2.0, within=Interval(1.0, 5.0, 0.5))
    keep: tuple[str, ...] = ()
    samples: int = 512

    def __post_init__(self):
        if not 0 < self.bits <= 8:
            raise InputError(f"bits must be above 0 and at most 8, found {self.bits}")
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, found {self.samples}")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: condense the float model before that")
        if model.clustered:
            raise StepError("the model's weights share values: condense it instead of that")

    def plan(self, model: Model, data: Data | None) -> CondensePlan:
        batches = tensors(calibration(data, self.samples, "condensing"), BATCH)
        weights, skipped = chosen_weights(
            model.graph, self.keep, lambda row: row.unsolvable, "condensed"
        )
        trial = model.module()
        known = stakes(
            trial, {n: row for n, row in weights_of(trial).items() if n in weights}, batches
        )
        slope = _slope(weights, known, self.bits)
        module = model.module()
        integers: dict[str, Tensor] = {}
        reconstruct(module, model.graph, batches, choose=_chooser(weights, known, slope, integers))
        return CondensePlan(
            tuple(_row(name, found) for name, found in integers.items()),
            changed(module, model.graph),
            skipped,
        )

    def apply(self, model: Model, plan: CondensePlan) -> Model:
        return written(model, plan.constants)


def _row(name: str, integers: Tensor) -> CondensedWeight:
    bits = float(_entropy(integers)) / integers.numel()
    return CondensedWeight(name, integers.numel(), int((integers == 0).sum()), bits)


def _entropy(integers: Tensor) -> Tensor:
    """Bits of all of them together."""
    return code_lengths(integers)[integers.long() + LARGEST].sum()


def _steps(values: Tensor, stake: Stake, slope: float) -> Tensor:
    """The step of each row; as fine as 8 bits allow."""
    steps = grid_steps(slope, stake.weights, stake.stiffness)
    most = values.reshape(*steps.shape, -1).abs().amax(-1).double()
    return torch.maximum(steps, most / LARGEST).clamp(min=1e-30)


def _slope(weights: Mapping[str, Weight], known: Mapping[str, Stake], bits: float) -> float:
    """The distortion a bit at which the weights, rounded to nearest, take so many bits each."""
    low, high = -40.0, 10.0  # powers of two
    total = sum(row.values.numel() for row in weights.values())
    for _ in range(16):
        middle = (low + high) / 2
        spent = 0.0
        for name, row in weights.items():
            steps = _steps(row.values, known[name], 2.0**middle)
            rows = row.values.reshape(*steps.shape, -1).double()
            spent += float(_entropy((rows / steps[..., None]).round()))
        low, high = (low, middle) if spent < bits * total else (middle, high)
    return 2.0**low


def _chooser(
    weights: Mapping[str, Weight],
    known: Mapping[str, Stake],
    slope: float,
    integers: dict[str, Tensor],
) -> Chooser:
    """Puts each layer's best weights on their grid, and writes down where."""
    names = {row.readers[0].name: name for name, row in weights.items()}

    def choose(node: fx.Node, best: Tensor, hessian: Tensor) -> Tensor:
        name = names.get(node.name)
        if name is None:
            return best
        values, stake = weights[name].values, known[name]
        stays = (values != 0).reshape(best.shape)
        best = least_squares(best, hessian, best, stays)
        steps = _steps(best, stake, slope)
        found = rate_distortion(best, hessian, steps, stake.weights, slope, stays)
        integers[name] = found.reshape(values.shape)
        return found * steps[..., None]

    return choose

"""SmoothQuant and AWQ: scale the channels that linear layers read, the function unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from ..data import Data, Split
from ..errors import DataError, InputError, StepError
from ..graph.canonical import layer
from ..graph.fold import fold
from ..math.affine import fake_quantize
from ..math.smoothing import activation_aware, smoothing
from ..model import Model
from ..step import Plan, Step
from .channels import Junction, junctions, rescale, weight_of
from .weights import GROUP, LINEARS, LayerWeight, quantized_weight

__all__ = ["AWQ", "SmoothQuant", "Smoothed", "SmoothingPlan"]

BATCH = 8  # samples in memory at a time
ROWS = 1024  # vectors that are kept of what a layer reads, however many samples there are


@dataclass(frozen=True)
class Smoothed:
    """Layers that read one value, and its factors.

    Attributes:
        layers: their names.
        giver: the layer whose constants are divided.
        before, after: squared output error of rounded weights, relative to the outputs; None where
            it was not looked at.
        factors: of each channel: what is read is divided by it, the weights multiplied.
    """

    layers: tuple[str, ...]
    giver: str
    before: float | None
    after: float | None
    factors: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class SmoothingPlan(Plan):
    """What is scaled, by the name of the value that is read."""

    values: dict[str, Smoothed]
    skipped: dict[str, str] = field(default_factory=dict)


class _Scaling(Step):
    """What both steps share: where to scale, and how."""

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: scale the float model's channels")

    def apply(self, model: Model, plan: SmoothingPlan) -> Model:
        module = fold(model.module())
        for junction in junctions(module, model, {}):
            row = plan.values.get(junction.value.name)
            if row is not None:
                rescale(module, junction, torch.tensor(row.factors, dtype=torch.float64))
        return Model(module, model.signature)


@dataclass(frozen=True)
class SmoothQuant(_Scaling):
    """Move outliers from what linear layers read into their weights, before `Quantize("int8")`.

    Xiao et al. 2022, arXiv:2211.10438. Transformers have a few channels that are tens of times
    larger than the others; on one scale for all of them the others would have few levels left.

    Attributes:
        strength: how much of the difficulty goes to the weights, 0 to 1: alpha in the paper.
        samples: calibration samples to look at.
    """

    strength: float = 0.5
    samples: int = 256

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength must be 0 to 1, found {self.strength}")
        _check_samples(self.samples)

    def plan(self, model: Model, data: Data | None) -> SmoothingPlan:
        module, skipped = fold(model.module()), {}
        found = junctions(module, model, skipped)
        seen = _observe(module, found, _calibration(data), self.samples, rows=False)
        values = {}
        for junction in found:
            weights = [_rows(module, reader) for reader in junction.readers]
            largest = torch.stack([w.abs().amax(0) for w in weights]).amax(0)
            factors = smoothing(seen[junction.value].largest, largest, self.strength)
            values[junction.value.name] = _row(junction, factors)
        return SmoothingPlan(values, skipped)


@dataclass(frozen=True)
class AWQ(_Scaling):
    """Scale up the weights that matter most, before they are rounded alone.

    Lin et al. 2023, arXiv:2306.00978; for `Quantize("int4-weights")` and ``"int4-dynamic"``.

    Attributes:
        bits: of the weights, 2 to 8.
        group: inputs to a scale, as of `Quantize`; None for one an output channel.
        samples: calibration samples to look at.
    """

    bits: int = 4
    group: int | None = GROUP
    samples: int = 128

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise InputError(f"bits must be 2 to 8, found {self.bits}")
        if self.group is not None and self.group < 1:
            raise InputError(f"group must be at least 1, found {self.group}")
        _check_samples(self.samples)

    def plan(self, model: Model, data: Data | None) -> SmoothingPlan:
        module, skipped = fold(model.module()), {}
        found = junctions(module, model, skipped)
        seen = _observe(module, found, _calibration(data), self.samples, rows=True)
        values = {}
        for junction in found:
            x = torch.cat(seen[junction.value].rows)
            if self.group is not None and x.shape[1] % self.group:
                reason = f"its {x.shape[1]} inputs cannot be divided into groups of {self.group}"
                skipped.update({layer(reader): reason for reader in junction.readers})
                continue
            weights = [_rows(module, reader) for reader in junction.readers]
            factors, before, after = activation_aware(x, weights, self._rounded)
            power = sum(float(((x @ w.T).double() ** 2).sum()) for w in weights) or 1.0
            values[junction.value.name] = _row(junction, factors, before / power, after / power)
        return SmoothingPlan(values, skipped)

    def _rounded(self, weight: Tensor) -> Tensor:
        inputs = None if self.group is None else 1
        row = LayerWeight("", "", 0, self.bits, self.group, inputs)
        return fake_quantize(weight, *quantized_weight(weight, row))


@dataclass
class _Seen:
    """The largest magnitude of each channel, and some of the vectors."""

    largest: Tensor
    rows: list[Tensor]


class _Observer(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, values: set[fx.Node], rows: int):
        super().__init__(module)
        self.values = values
        self.rows = rows  # to keep of each batch
        self.seen: dict[fx.Node, _Seen] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if node in self.values:
            flat = value.reshape(-1, value.shape[-1])
            seen = self.seen.setdefault(node, _Seen(torch.zeros(flat.shape[1]), []))
            seen.largest = torch.maximum(seen.largest, flat.abs().amax(0))
            if self.rows:
                stride = max(1, len(flat) // self.rows) | 1
                seen.rows.append(flat[::stride][: self.rows].clone())
        return value


def _observe(
    module: fx.GraphModule, found: list[Junction], split: Split, most: int, rows: bool
) -> dict[fx.Node, _Seen]:
    split = split.subset(most)
    each = max(1, ROWS * BATCH // len(split)) if rows else 0
    observer = _Observer(module, {junction.value for junction in found}, each)
    with torch.no_grad():
        for inputs, _ in split.batches(BATCH):
            observer.run(*map(torch.from_numpy, inputs))
    for value, seen in observer.seen.items():
        if not torch.isfinite(seen.largest).all():
            raise DataError(
                f"'{value.name}' becomes NaN or infinite on the calibration samples: check that "
                "they are normalised as in training"
            )
    return observer.seen


def _rows(module: fx.GraphModule, reader: fx.Node) -> Tensor:
    """The weight of a linear, (outputs, inputs)."""
    weight = weight_of(module, reader)
    return weight.T if LINEARS[reader.target][2] == 0 else weight


def _row(
    junction: Junction, factors: Tensor, before: float | None = None, after: float | None = None
) -> Smoothed:
    names = tuple(map(layer, junction.readers))
    return Smoothed(names, layer(junction.giver), before, after, tuple(factors.tolist()))


def _calibration(data: Data | None) -> Split:
    if data is None:
        raise DataError("channels are scaled by what flows through them: give data=")
    return data.require("calibration")


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise InputError(f"samples must be at least 1, found {samples}")

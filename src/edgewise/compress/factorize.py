"""Factorize: a layer becomes two or three smaller ones whose product is close to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import InputError, StepError
from ..graph.canonical import bound, recorded_shapes, sweep
from ..graph.cost import macs as macs_of
from ..graph.fold import constant, set_constant
from ..graph.patches import groups_of, patches
from ..math.low_rank import rank, svd, tucker2
from ..model import Model
from ..step import Plan, Step
from .saliency import Weight, chosen_weights
from .scores import calibration, tensors

__all__ = ["FactoredLayer", "FactorizationPlan", "Factorize"]

aten = torch.ops.aten
BATCH = 32
ROUNDS = 30  # of halving the range of errors


@dataclass(frozen=True)
class FactoredLayer:
    """One layer and the smaller ones that take its place.

    Attributes:
        weight: the parameter's name.
        ranks: channels between the new layers.
        error: of what the layer gives (of its weights, without data), as a share of its norm;
            with three factors at most so much.
        macs: for one sample, before and after.
        factors: float32 weights in the order in which they run.
    """

    weight: str
    ranks: tuple[int, ...]
    error: float
    macs: tuple[int, int]
    factors: tuple[np.ndarray, ...] = field(repr=False, compare=False)


@dataclass(frozen=True)
class FactorizationPlan(Plan):
    """Which layers become several, and which stay and why.

    Attributes:
        macs: of the whole model for one sample, before and after.
    """

    layers: tuple[FactoredLayer, ...]
    macs: tuple[int, int]
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line a layer, then the totals."""
        wide = max((len(row.weight) for row in self.layers), default=0)
        lines = [
            f"{row.weight:<{wide}}  rank {' and '.join(map(str, row.ranks))}, "
            f"error {row.error:.1%}, {row.macs[0]:,} -> {row.macs[1]:,} MACs"
            for row in self.layers
        ]
        return "\n".join([*lines, f"{self.macs[0]:,} -> {self.macs[1]:,} MACs"])


@dataclass(frozen=True)
class Factorize(Step):
    """Write linears and 1x1 convolutions as products (SVD), other convolutions by Tucker-2.

    Only where that takes fewer multiply-accumulates. All layers lose the same share of what they
    give; what is left should be trained again (`Distill`). Zeros of a sparse model do not stay.

    Attributes:
        error: the share of a layer's norm that may go, in [0, 1): of its outputs on calibration
            samples where there are data, of its weights where not.
        macs: instead of that, the share of the model's multiply-accumulates that may stay.
        keep: layers to leave whole, as names or patterns.
        samples: at most so many calibration samples are looked at.
    """

    error: float = 0.1
    macs: float | None = None
    keep: tuple[str, ...] = ()
    samples: int = 256

    def __post_init__(self):
        if not 0 <= self.error < 1:
            raise InputError(f"error is a share in [0, 1), found {self.error}")
        if self.macs is not None and not 0 < self.macs < 1:
            raise InputError(f"macs is a share between 0 and 1, found {self.macs}")
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, found {self.samples}")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: factorize the float model before that")
        if model.clustered:
            raise StepError("the model's weights share values: factorize it before that")

    def plan(self, model: Model, data: Data | None) -> FactorizationPlan:
        known = recorded_shapes(model.graph, model.signature)  # at batch 3
        total = sum(macs_of(node, known.get) or 0 for node in known) // 3
        weights, skipped = chosen_weights(model.graph, self.keep, _reason, "factorized")
        moments: dict[str, Tensor] = {}
        if data is not None:
            batches = tensors(calibration(data, self.samples, "factorizing"), BATCH)
            moments = _Moments(model.graph, weights).run_all(batches)
        choices = [_Choice(n, row, moments.get(n), known) for n, row in weights.items()]

        def spent(error: float) -> int:
            return total - sum(choice.saves(choice.ranks(error)) for choice in choices)

        error = self.error
        if self.macs is not None:
            error, low = 1.0, 0.0
            if spent(error) > self.macs * total:
                raise StepError(
                    f"{spent(error) / total:.1%} of the MACs stay at least, "
                    f"{self.macs:.1%} were asked for"
                )
            for _ in range(ROUNDS):
                middle = (low + error) / 2
                enough = spent(middle) <= self.macs * total
                low, error = (low, middle) if enough else (middle, error)
        rows = []
        for choice in choices:
            row = choice.row(choice.ranks(error))
            if row.macs[1] < row.macs[0]:
                rows.append(row)
            else:
                ranks = " and ".join(map(str, row.ranks))
                skipped[choice.weight.layer] = f"rank {ranks} would take no fewer MACs"
        if not rows:
            why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise StepError(f"no layer of this model can be factorized ({why})")
        return FactorizationPlan(tuple(rows), (total, spent(error)), skipped)

    def apply(self, model: Model, plan: FactorizationPlan) -> Model:
        module = model.module()
        nodes = {node.target: node for node in module.graph.nodes if node.op == "get_attr"}
        for row in plan.layers:
            if row.weight not in nodes:
                raise StepError(f"the plan's weight '{row.weight}' is not one of this model's")
            _replace(module, nodes[row.weight], [torch.from_numpy(f) for f in row.factors])
        sweep(module)
        return Model(module, model.signature)


def _reason(row: Weight) -> str:
    """Why a layer cannot be factorized; "" where it can."""
    grouped = row.solvable and groups_of(row.readers[0]) > 1
    return "its channels are in groups" if grouped else row.unsolvable


class _Moments(fx.Interpreter):
    """Sums the products of what weights are multiplied with, between input channels."""

    def __init__(self, module: fx.GraphModule, weights: Mapping[str, Weight]):
        super().__init__(module)
        self.weights = {row.readers[0]: name for name, row in weights.items()}
        sizes = {name: row.values.shape[1] for name, row in weights.items()}
        self.sums = {name: torch.zeros(n, n, dtype=torch.float64) for name, n in sizes.items()}

    def run_all(self, batches: Iterable[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        with torch.no_grad():
            for inputs in batches:
                self.run(*inputs)
        return self.sums

    def run_node(self, node: fx.Node):
        if node in self.weights:
            x = self.env[node.args[0]]
            weight = constant(self.module, node.args[1])
            if math.prod(weight.shape[2:]) == 1:
                seen = patches(node, x, weight.shape[2:])[0]
            else:  # channels at any place stand for those at each place of the kernel
                seen = x.transpose(0, 1).flatten(1)
            seen = seen.double()
            self.sums[self.weights[node]] += seen @ seen.T
        return super().run_node(node)


class _Choice:
    """A layer's factors, of which each number can be taken."""

    def __init__(
        self, name: str, weight: Weight, moments: Tensor | None, known: Mapping[fx.Node, tuple]
    ):
        self.name, self.weight = name, weight
        (node,) = weight.readers
        shape = weight.values.shape
        self.before = macs_of(node, known.get) // 3
        self.places = self.before // math.prod(shape)  # of the output
        self.entered = math.prod(known[node.args[0]][1:]) // shape[1]  # of the input
        if math.prod(shape[2:]) == 1:
            left, sizes, right = svd(weight.values.flatten(1), moments)
            self.parts, self.sizes = (right, left), (sizes,)
        else:
            up, out_sizes, core, down, in_sizes = tucker2(weight.values, moments)
            self.parts, self.sizes = (down, core, up), (in_sizes, out_sizes)

    def ranks(self, error: float) -> tuple[int, ...]:
        """The least of which the layer loses at most this share of its norm."""
        each = error / math.sqrt(len(self.sizes))
        return tuple(rank(sizes, each) for sizes in self.sizes)

    def macs(self, ranks: tuple[int, ...]) -> int:
        outputs, inputs, *kernel = self.weight.values.shape
        first, last = ranks[0], ranks[-1]
        if len(ranks) == 1:
            return self.places * first * (inputs + outputs)
        core = first * last * math.prod(kernel)
        return self.entered * inputs * first + self.places * (core + last * outputs)

    def saves(self, ranks: tuple[int, ...]) -> int:
        return max(0, self.before - self.macs(ranks))

    def row(self, ranks: tuple[int, ...]) -> FactoredLayer:
        first, last = ranks[0], ranks[-1]
        *core, up = self.parts[1:]
        factors = (self.parts[0][:first], *(c[:last, :first] for c in core), up[:, :last])
        pairs = zip(self.sizes, ranks, strict=True)
        lost = sum(float(sizes[n:].square().sum()) for sizes, n in pairs)
        whole = float(self.sizes[0].square().sum())
        return FactoredLayer(
            self.name, ranks, math.sqrt(lost / whole) if whole else 0.0,
            (self.before, self.macs(ranks)), tuple(f.float().contiguous().numpy() for f in factors),
        )  # fmt: skip


def _replace(module: fx.GraphModule, source: fx.Node, factors: list[Tensor]) -> None:
    """Put a layer for each factor in the place of the one that reads this weight, in place.

    ``conv.weight`` becomes ``conv.first.weight``, ``conv.core.weight`` where there are three, and
    ``conv.last.weight``; the bias keeps its name and is added by the last. Stride and padding are
    those of the core, or of the first of two.
    """
    (node,) = source.users
    stem = source.target.removesuffix(".weight")
    kernel = constant(module, source).ndim - 2
    owner, _, leaf = source.target.rpartition(".")
    delattr(module.get_submodule(owner), leaf)
    names = ("first", "core", "last") if len(factors) == 3 else ("first", "last")
    shaped = 1 if len(factors) == 3 else 0  # which of them has the old one's stride
    bias = node.args[2] if len(node.args) > 2 else None
    value = node.args[0]
    with module.graph.inserting_before(node):
        for i, (name, factor) in enumerate(zip(names, factors, strict=True)):
            if factor.ndim == 2:
                factor = factor.reshape(*factor.shape[:2], *[1] * kernel)
            set_constant(module, f"{stem}.{name}.weight", factor)
            weight = module.graph.get_attr(f"{stem}.{name}.weight")
            given = bias if name == "last" else None
            rest = tuple(bound(node).values())[3:] if i == shaped else ()
            called = node.target if rest else _plain(node.target)
            value = module.graph.call_function(
                called, (value, weight, given, *rest), name=f"{node.name}_{name}"
            )
    node.replace_all_uses_with(value)
    module.graph.erase_node(node)
    module.graph.erase_node(source)


def _plain(target: object) -> object:
    """The operator without a word for its padding."""
    return aten.conv2d.default if target is aten.conv2d.padding else target

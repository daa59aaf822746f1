"""Equalize: give the channels between two layers weights of like size, the function unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import StepError
from ..graph.canonical import layer
from ..graph.fold import CONVOLUTIONS, constant, fold, set_constant
from ..graph.patches import groups_of
from ..model import Model
from ..step import Plan, Step

__all__ = ["EqualizationPlan", "Equalize", "EqualizedPair"]

aten = torch.ops.aten

# f(s x) = s f(x) for every channel and s > 0.
HOMOGENEOUS = {
    aten.relu.default, aten.leaky_relu.default, aten.max_pool1d.default, aten.max_pool2d.default,
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
}  # fmt: skip
MOST = 64.0  # of a factor, or 1 / MOST: a channel that is nearly dead would blow up its bias
ROUNDS = 20  # over all pairs; a layer belongs to two


@dataclass(frozen=True)
class EqualizedPair:
    """Two layers and the factors between them: the first's output channel c is divided by
    `factors[c]`, the second's input channel c multiplied."""

    first: str
    second: str
    factors: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class EqualizationPlan(Plan):
    """The pairs of layers to equalize, by the names of their operators."""

    pairs: dict[tuple[str, str], EqualizedPair]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Equalize(Step):
    """Cross-layer equalization, for networks whose channels differ much (depthwise ones do).

    Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
    (arXiv:1906.04721), section 4.1, equation 11. Needs no data; comes before `Quantize`.
    """

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: equalize the float model")

    def plan(self, model: Model, data: Data | None) -> EqualizationPlan:
        module = fold(model.module())
        skipped: dict[str, str] = {}
        pairs = list(_pairs(module, skipped))
        factors = {pair: torch.ones(()) for pair in pairs}
        for _ in range(ROUNDS):
            for first, second in pairs:
                out, into = _magnitudes(module, first, 0), _magnitudes(module, second, 1)
                factor = torch.sqrt(out / into)
                # A channel that is dead on either side has nothing to gain.
                factor[(out == 0) | (into == 0)] = 1.0
                whole = factors[first, second]
                factor = (whole * factor).clamp(1 / MOST, MOST) / whole
                _scale(module, first, second, factor)
                factors[first, second] = factors[first, second] * factor
        return EqualizationPlan(
            {
                (a.name, b.name): EqualizedPair(layer(a), layer(b), tuple(factors[a, b].tolist()))
                for a, b in pairs
            },
            skipped,
        )

    def apply(self, model: Model, plan: EqualizationPlan) -> Model:
        module = fold(model.module())
        nodes = {node.name: node for node in module.graph.nodes}
        for (first, second), pair in plan.pairs.items():
            factors = torch.tensor(pair.factors, dtype=torch.float64)
            _scale(module, nodes[first], nodes[second], factors)
        return Model(module, model.signature)


def _pairs(module: fx.GraphModule, skipped: dict[str, str]) -> Iterator[tuple[fx.Node, fx.Node]]:
    for node in module.graph.nodes:
        if not _equalizable(module, node):
            continue
        at = node
        while len(at.users) == 1:
            (reader,) = at.users
            if reader.target in HOMOGENEOUS:
                at = reader
                continue
            if _equalizable(module, reader) and reader.args[0] is at:
                yield node, reader
            elif reader.op == "call_function":
                skipped[layer(node)] = f"{reader.target.__name__} follows it"
            break
        else:
            skipped[layer(node)] = "several layers read it"


def _equalizable(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a layer with a weight of its own, plain or depthwise."""
    if node.target not in CONVOLUTIONS or CONVOLUTIONS[node.target] != 0:
        return False
    constants = [a for a in node.args[1:3] if a is not None]
    if any(constant(module, a) is None or len(a.users) > 1 for a in constants):
        return False
    return groups_of(node) == 1 or _depthwise(module, node)


def _depthwise(module: fx.GraphModule, node: fx.Node) -> bool:
    weight = constant(module, node.args[1])
    return weight.shape[1] == 1 and weight.shape[0] == groups_of(node)


def _channel_axis(module: fx.GraphModule, node: fx.Node, side: int) -> int:
    """Axis of the weight that numbers its output (side 0) or input (side 1) channels."""
    return 0 if side == 0 or (groups_of(node) > 1 and _depthwise(module, node)) else 1


def _magnitudes(module: fx.GraphModule, node: fx.Node, side: int) -> Tensor:
    weight = constant(module, node.args[1]).detach().double().abs()
    return weight.movedim(_channel_axis(module, node, side), 0).flatten(1).amax(1)


def _scale(module: fx.GraphModule, first: fx.Node, second: fx.Node, factors: Tensor) -> None:
    for node, side, by in ((first, 0, 1 / factors), (second, 1, factors)):
        weight = constant(module, node.args[1]).detach().double()
        shape = [1] * weight.ndim
        shape[_channel_axis(module, node, side)] = -1
        set_constant(module, node.args[1].target, (weight * by.reshape(shape)).float())
    if len(first.args) > 2 and first.args[2] is not None:
        bias = constant(module, first.args[2]).detach().double()
        set_constant(module, first.args[2].target, (bias / factors).float())

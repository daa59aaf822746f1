"""RoundWeights: round weights for the least error of what layers give, not of the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import DataError, InputError, StepError
from ..graph.fold import constant, set_constant
from ..graph.patches import drawn
from ..graph.placement import clamp_bounds, fused_clamp
from ..graph.twins import Pair, walk
from ..math.adaround import learn_rounding
from ..math.gptq import nearest, round_weights
from ..math.moments import Moments
from ..model import Model
from ..step import Plan, Step, searched
from .layers import Layer, bias_of, layer_of, set_bias
from .samples import streamed

__all__ = ["RoundWeights", "RoundedLayer", "RoundingPlan"]

METHODS: dict[str, Callable[..., Tensor]] = {
    "gptq": round_weights,
    "adaround": learn_rounding,
    "nearest": nearest,
}
COLUMNS = 20_000  # inputs of a layer that are looked at, drawn from all positions of all samples
BATCH = 8  # samples in memory at a time


@dataclass(frozen=True)
class RoundedLayer:
    """One layer's new numbers.

    Attributes:
        layer: its name.
        nearest: squared output error of rounding to nearest, relative to the output's variance.
        error: the same with these weights.
        weight: float32 on the layer's grid, shaped like its weight.
        bias: float64, one an output channel, which also takes up the mean error; None where the
            layer's bias is computed.
    """

    layer: str
    nearest: float
    error: float
    weight: np.ndarray = field(repr=False)
    bias: np.ndarray | None = field(repr=False)


@dataclass(frozen=True)
class RoundingPlan(Plan):
    """The layers that are rounded anew, by the name of their operator."""

    layers: dict[str, RoundedLayer]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundWeights(Step):
    """Choose each weight's integer so that the layer's outputs on real inputs change least.

    Layer after layer, each on the inputs that it gets from the quantized layers before it, so that
    later layers make up for earlier ones. Needs no labels.

    Attributes:
        method: ``"gptq"`` (Frantar et al. 2022, arXiv:2210.17323); ``"adaround"`` (Nagel et al.
            2020, arXiv:2004.10568), which takes minutes instead of seconds; or ``"nearest"``, which
            leaves the weights and corrects the biases (Nagel et al. 2019, arXiv:1906.04721,
            section 4.2).
        samples: calibration samples to look at.
        seed: of the positions that are drawn.
    """

    method: str = searched("gptq", "gptq", "nearest")
    samples: int = 256
    seed: int = 0

    def __post_init__(self):
        if self.method not in METHODS:
            raise InputError(f"unknown method '{self.method}': choose one of {', '.join(METHODS)}")
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, found {self.samples}")

    def requires(self, model: Model) -> None:
        if not model.quantized:
            raise StepError("there are no grids to round to: quantize the model first")

    def plan(self, model: Model, data: Data | None) -> RoundingPlan:
        if data is None:
            raise DataError("weights are rounded on real inputs: give data=")
        module = model.module()
        readers: dict[str, int] = {}
        layers: dict[fx.Node, Layer] = {}
        for node in module.graph.nodes:
            if (found := layer_of(module, node)) is not None:
                readers[found.weight.target] = readers.get(found.weight.target, 0) + 1
                layers[node] = found
        reasons = {node: _reason(module, found, readers) for node, found in layers.items()}
        skipped = {layers[node].name: reason for node, reason in reasons.items() if reason}
        rounded = {node: found for node, found in layers.items() if not reasons[node]}
        if not layers:
            raise StepError("no layer has weights on a grid: there is nothing to round")
        split = streamed(model, data.require("calibration"), self.samples)
        rows: dict[str, RoundedLayer] = {}
        evidence: dict[fx.Node, Moments] = {}
        generator = torch.Generator().manual_seed(self.seed)

        def look(pair: Pair) -> None:
            if pair.node not in evidence:
                clamp = fused_clamp(pair.node)
                limits = clamp_bounds(clamp) if clamp is not None else None
                evidence[pair.node] = Moments(limits) if limits else Moments()
            moments = evidence[pair.node]
            kernel = constant(module, rounded[pair.node].weight).shape[2:]
            share = COLUMNS / len(split)
            for x, y in drawn(pair.node, kernel, pair.rounded[0], pair.want, share, generator):
                moments.add(x, y)

        def settle(node: fx.Node) -> Callable[..., Tensor]:
            row = self._rounded(module, rounded[node], evidence.pop(node))
            rows[node.name] = row
            weight = torch.from_numpy(row.weight)
            bias = None if row.bias is None else torch.from_numpy(row.bias).float()
            return lambda x, _w, _b=None, *rest: node.target(
                x, weight, _b if bias is None else bias, *rest
            )

        inputs = (tuple(map(torch.from_numpy, x)) for x, _ in split.batches(BATCH))
        walk(module, inputs, rounded.keys(), look, settle)
        return RoundingPlan(rows, skipped)

    def apply(self, model: Model, plan: RoundingPlan) -> Model:
        module = model.module()
        for node in list(module.graph.nodes):
            row = plan.layers.get(node.name)
            if row is not None:
                found = layer_of(module, node)
                set_constant(module, found.weight.target, torch.from_numpy(row.weight))
                if row.bias is not None:
                    set_bias(module, found, torch.from_numpy(row.bias))
        return Model(module, model.signature)

    def _rounded(self, module: fx.GraphModule, found: Layer, seen: Moments) -> RoundedLayer:
        weight, node = constant(module, found.weight).detach(), found.node
        rows = weight.double().reshape(*seen.y.shape, -1)
        scale = found.scale.double().reshape(rows.shape)
        low, high = (limit.reshape(rows.shape) for limit in (found.low, found.high))
        moments = seen.inputs()  # about the means: the bias takes care of those
        offers = [
            choose(rows, moments, scale, low, high) * scale
            for choose in (nearest, METHODS[self.method])
        ]
        errors = [seen.error(offer) for offer in offers]
        chosen = offers[errors.index(min(errors))]
        bias = None
        if len(node.args) < 3 or node.args[2] is None or bias_of(module, node) is not None:
            bias = seen.bias(chosen).numpy()
        return RoundedLayer(
            found.name,
            errors[0],
            min(errors),
            chosen.reshape(weight.shape).float().numpy(),
            bias,
        )


def _reason(module: fx.GraphModule, found: Layer, readers: dict[str, int]) -> str | None:
    """Why the layer's weights stay rounded to nearest."""
    if found.transposed:
        return "transposed convolutions keep weights rounded to nearest"
    if constant(module, found.weight).ndim > 4:
        return "convolutions of three dimensions keep weights rounded to nearest"
    if readers[found.weight.target] > 1:
        return "its weight serves several layers"
    return None

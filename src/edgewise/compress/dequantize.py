"""Dequantize: a quantized Model as a float one again, to be pruned, trained or quantized anew."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..data import Data
from ..errors import StepError
from ..graph.canonical import FAKE_QUANTIZE, sweep
from ..graph.fold import constant, set_constant
from ..math.affine import fake_quantize_dynamic
from ..model import Model
from ..step import Plan, Step

__all__ = ["Dequantize", "DequantizePlan"]

DYNAMIC = fake_quantize_dynamic._opoverload


@dataclass(frozen=True)
class DequantizePlan(Plan):
    """How many values flow unrounded again, and how many weights keep the numbers of their grid."""

    values: int
    weights: int
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dequantize(Step):
    """Take the fake-quantize nodes out. Weights keep the numbers that their integers stood for.

    For a file that was quantized elsewhere: what rounding its weights lost stays lost, but what
    flows between its layers is whole again.
    """

    def requires(self, model: Model) -> None:
        if not model.quantized:
            raise StepError("the model is float already: there is nothing to take out")

    def plan(self, model: Model, data: Data | None) -> DequantizePlan:
        nodes = [n for n in model.graph.graph.nodes if n.target in (FAKE_QUANTIZE, DYNAMIC)]
        weights = sum(n.args[0].op == "get_attr" for n in nodes)
        return DequantizePlan(len(nodes) - weights, weights)

    def apply(self, model: Model, plan: DequantizePlan) -> Model:
        module = model.module()
        for node in list(module.graph.nodes):
            if node.target not in (FAKE_QUANTIZE, DYNAMIC):
                continue
            source = node.args[0]
            if source.op == "get_attr" and node.target is FAKE_QUANTIZE:
                grid = (constant(module, a) for a in node.args[1:3])
                with torch.no_grad():
                    rounded = FAKE_QUANTIZE(constant(module, source), *grid, *node.args[3:])
                set_constant(module, source.target, rounded)
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
        sweep(module)
        return Model(module, model.signature)

"""Which layers' quantization costs most, measured at the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..graph.canonical import FAKE_QUANTIZE, layer
from ..graph.fold import CONVOLUTIONS
from ..model import Model

__all__ = ["Sensitivity", "relief"]


@dataclass(frozen=True)
class Sensitivity:
    """What one layer costs.

    Attributes:
        layer: its name.
        error: of the whole quantized model: squared difference of the outputs from the float
            model's, relative to their variance.
        relieved: the same with this layer in float.
    """

    layer: str
    error: float
    relieved: float

    @property
    def gain(self) -> float:
        """The share of the error that goes away with this layer's quantization."""
        return 1 - self.relieved / self.error if self.error else 0.0


def relief(model: Model, inputs: Sequence[Tensor]) -> tuple[Sensitivity, ...]:
    """Each weighted layer of a quantized Model, the one that would be relieved most first.

    Args:
        inputs: one batch; the graph is run on it once for each layer.
    """
    module = model.graph
    want = _outputs(module, inputs, _fakes(module))
    variance = sum(float((w - w.mean()).square().sum()) for w in want) or 1.0

    def error(without: frozenset[fx.Node]) -> float:
        have = _outputs(module, inputs, without)
        return (
            sum(float((w - h).square().sum()) for w, h in zip(want, have, strict=True)) / variance
        )

    whole = error(frozenset())
    rows = [
        Sensitivity(layer(node), whole, error(around))
        for node in module.graph.nodes
        if node.target in CONVOLUTIONS and (around := _around(node))
    ]
    return tuple(sorted(rows, key=lambda row: row.relieved))


def _fakes(module: fx.GraphModule) -> frozenset[fx.Node]:
    return frozenset(n for n in module.graph.nodes if n.target is FAKE_QUANTIZE)


def _around(node: fx.Node) -> frozenset[fx.Node]:
    """The fake-quantize nodes that keeping the layer in float would take away."""
    own = [a for a in node.all_input_nodes if a.target is FAKE_QUANTIZE and len(a.users) == 1]
    return frozenset(own)


def _outputs(
    module: fx.GraphModule, inputs: Sequence[Tensor], without: frozenset[fx.Node]
) -> tuple[Tensor, ...]:
    class Partly(fx.Interpreter):
        def run_node(self, node: fx.Node):
            if node in without:
                return self.env[node.args[0]]
            return super().run_node(node)

    with torch.no_grad():
        found = Partly(module).run(*inputs)
    return tuple(f for f in found if f.is_floating_point())

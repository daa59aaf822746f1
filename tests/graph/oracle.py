"""The oracle of structured pruning: cutting channels is the same as forcing them to zero.

`forced` runs the whole graph and, wherever an operator mixes channels, sets the positions that
were cut to zero in everything that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx

from edgewise.graph.axes import Coupling, analyse
from edgewise.graph.surgery import cut
from edgewise.model import Model

__all__ = ["agrees", "coupling", "forced", "shares"]

aten = torch.ops.aten
MIXES = {
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv2d.padding,
    aten.conv1d.padding, aten.conv_transpose1d.default, aten.conv_transpose2d.input,
    aten.conv_transpose3d.input, aten.linear.default, aten.matmul.default, aten.bmm.default,
    aten.mm.default, aten.addmm.default, aten.baddbmm.default, aten.einsum.default,
    aten.scaled_dot_product_attention.default, aten.sum.dim_IntList, aten.mean.dim,
    aten.mean.default, aten.sum.default, aten.lstm.input, aten.gru.input, aten.layer_norm.default,
    aten.group_norm.default,
}  # fmt: skip


class _Forcing(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, found: Coupling, gone: np.ndarray):
        super().__init__(module)
        self.found, self.gone = found, gone

    def run_node(self, node: fx.Node):
        if node.target not in MIXES:
            return super().run_node(node)
        sources = {source: self.env[source] for source in node.all_input_nodes}
        for source, value in sources.items():
            if isinstance(value, Tensor):
                self.env[source] = self._zeroed(source, value)
        try:
            return super().run_node(node)
        finally:
            self.env.update(sources)

    def _zeroed(self, source: fx.Node, value: Tensor) -> Tensor:
        for axis, ids in enumerate(self.found.values[source]):
            if ids.size == value.shape[axis] and self.gone[ids].any():
                keep = torch.from_numpy(~self.gone[ids]).to(value.dtype)
                value = value * keep.reshape([-1 if d == axis else 1 for d in range(value.ndim)])
        return value


BATCH = 3


def coupling(model: Model) -> Coupling:
    return analyse(model.graph, model.signature)


def shares(found: Coupling, share: float, seed: int = 0) -> dict[str, np.ndarray]:
    """This share of the units of each group, drawn at random; at least one stays."""
    rng = np.random.default_rng(seed)
    return {
        g.name: np.sort(rng.permutation(g.size)[: min(round(share * g.size), g.size - 1)])
        for g in found.groups
    }


def forced(model: Model, found: Coupling, units: Mapping[str, np.ndarray], inputs):
    """Outputs of the whole graph with the channels forced to zero; `inputs` of batch `BATCH`."""
    with torch.no_grad():
        return _Forcing(model.graph, found, found.gone(units)).run(*inputs)


def agrees(model: Model, inputs: tuple[Tensor, ...], units, found: Coupling) -> float:
    """Largest difference between the two, relative to the largest output."""
    want = forced(model, found, units, inputs)
    small = Model.of(cut(model.module(), found, units), like=model)
    have = small(*inputs)
    have = have if isinstance(have, tuple) else (have,)
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))
        for a, b in zip(have, want, strict=True)
    )

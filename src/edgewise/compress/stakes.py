"""What is at stake in each layer: how far the model's outputs move with an error of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..graph.fold import constant
from ..graph.patches import outputs, patches
from .saliency import Weight

__all__ = ["Stake", "stakes"]

SAMPLES = 64  # to move one layer at a time on
NOISE = 0.5  # the grid that a layer is tried on: its step by the root mean square of the channel
LEAST = 1e-2  # of the largest, that any channel counts


@dataclass(frozen=True)
class Stake:
    """One layer's.

    Attributes:
        weights: (groups, rows), what the mean squared error of each output channel adds to the
            divergence: the mean square of what the model's outputs move by, over their variance.
        stiffness: (groups,), the geometric mean of what one column's squared error costs when the
            columns after it make up for it as well as they can.
    """

    weights: Tensor
    stiffness: Tensor


def stakes(
    module: fx.GraphModule, weights: Mapping[str, Weight], batches: Sequence[tuple[Tensor, ...]]
) -> dict[str, Stake]:
    """By weight: each layer alone is rounded coarsely, and the model's outputs are looked at.

    The weights are moved in place, and back. Between the channels of a layer, by the squared
    gradients of the outputs, in a direction drawn for each sample.
    """
    inputs = tuple(torch.cat(parts)[:SAMPLES] for parts in zip(*batches, strict=True))
    whole = _Watch(module, weights)
    slopes = whole.gradients(inputs)
    with torch.no_grad():
        base = module(*inputs)[0]
        variance = (base - base.mean(0)).square().mean().clamp(min=1e-30)
        found = {}
        for name, row in weights.items():
            node, parameter = row.readers[0], constant(module, row.node)
            x = whole.seen.pop(name)[0]
            kept = parameter.detach().clone()
            rms = kept.flatten(1).square().mean(1).sqrt().clamp(min=1e-30)
            step = NOISE * rms.view(-1, *[1] * (kept.ndim - 1))
            try:
                parameter.copy_((kept / step).round() * step)
                moved = module(*inputs)[0]
                rounded = parameter.detach().clone()
            finally:
                parameter.copy_(kept)
            columns = patches(node, x, kept.shape[2:]).double()
            change = (rounded - kept).reshape(len(columns), -1, columns.shape[1]).double()
            error = change @ columns
            error = (error - error.mean(-1, keepdim=True)).square().mean(-1)
            slope = slopes[name].view_as(error)
            slope = slope.clamp(min=LEAST * float(slope.max())).clamp(min=1e-30)
            divergence = float((moved - base).square().mean() / variance)
            found[name] = Stake(
                slope * (max(divergence, 1e-12) / float((slope * error).sum().clamp(min=1e-30))),
                _stiffness(columns),
            )
    return found


def _stiffness(columns: Tensor) -> Tensor:
    """Of (groups, columns, n) inputs."""
    columns = columns - columns.mean(-1, keepdim=True)
    moments = columns @ columns.mT / columns.shape[-1]
    mean = moments.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    eye = torch.eye(moments.shape[-1], dtype=torch.float64)
    upper = torch.linalg.cholesky(moments + 0.01 * mean[:, None, None] * eye)
    # Pivots of the Hessian and of its inverse have the same product.
    return upper.diagonal(dim1=1, dim2=2).square().log().mean(1).exp()


class _Watch(fx.Interpreter):
    """Keeps what goes into layers and comes out."""

    def __init__(self, module: fx.GraphModule, weights: Mapping[str, Weight]):
        super().__init__(module)
        self.names = {row.readers[0]: name for name, row in weights.items()}
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}

    def gradients(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """By weight, the sum over places of squared gradients for each output channel."""
        with torch.enable_grad():
            given = self.run(*(x.requires_grad_() if x.is_floating_point() else x for x in inputs))
            generator = torch.Generator().manual_seed(0)
            drawn = torch.randn(given[0].shape, generator=generator)
            ends = {name: y for name, (_, y) in self.seen.items()}
            slopes = torch.autograd.grad((given[0] * drawn).sum(), list(ends.values()))
        nodes = {name: node for node, name in self.names.items()}
        self.seen = {name: (x.detach(), y.detach()) for name, (x, y) in self.seen.items()}
        return {
            name: outputs(nodes[name], slope).double().square().sum(-1)
            for name, slope in zip(ends, slopes, strict=True)
        }

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if node in self.names:
            self.seen[self.names[node]] = (self.env[node.args[0]], value)
        return value

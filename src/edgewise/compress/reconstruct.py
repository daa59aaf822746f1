"""Reconstruction: what is left of a thinned Model's weights, solved anew without training.

Layer by layer in the order of the graph, the weights are the least-squares solution that brings
the layer's output, computed from the thinned network's own input, closest to the whole network's
(He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", arXiv:1707.06168,
section 3.1); steps that want weights of a certain form choose the closest of that form. Where a
residual sum follows, the layer also makes up for the error of the other branch. The mean that is
left of the error goes into the bias, or the batch norm's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, fx

from ..graph.fold import batch_norm_affine, constant
from ..graph.patches import outputs, patches
from ..graph.surgery import Sizes
from ..math.least_squares import Normal
from .shelf import Shelf

__all__ = ["SOLVED", "Chooser", "Kept", "reconstruct"]

aten = torch.ops.aten
SOLVED = {aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.linear.default}
ROWS = 40  # at least so many rows are looked at for each input of a layer
LEAST_ROWS = 20_000
RIDGE = 1e-3
IN_MEMORY = 1 << 30  # bytes of values

Chunks = list[Tensor]
# Of a layer's operator, the best weights (groups, rows, columns) and their Hessian (groups,
# columns, columns): the weights of the wanted form that come closest; None leaves the layer as
# it is.
Chooser = Callable[[fx.Node, Tensor, Tensor], Tensor | None]


def reconstruct(
    small: fx.GraphModule,
    whole: fx.GraphModule,
    batches: Sequence[tuple[Tensor, ...]],
    kept: Callable[[fx.Node, Tensor], Tensor] = lambda node, value: value,
    choose: Chooser = lambda node, weight, hessian: weight,
    *,
    shrink: bool = False,
) -> None:
    """Solve the weights of `small` anew, in place.

    The values that later layers still read are held for all samples: up to a gigabyte in memory,
    what is more in files that are gone afterwards.

    Args:
        small: made of `whole`, with the same names of nodes.
        batches: inputs.
        kept: what `small` still has of a value of `whole`.
        choose: settles each layer's weights.
        shrink: trust samples the less the fewer they are for a layer's inputs
            (`Normal.shrinkage`), also in the Hessian that `choose` is given.
    """
    with torch.no_grad(), Shelf(IN_MEMORY) as shelf:
        _Pair(small, whole, batches, kept, choose, shelf, shrink).run()


class Kept:
    """A value without the channels that were cut."""

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.traced = {node.name: node for node in sizes.coupling.values}

    def __call__(self, node: fx.Node, value: Tensor) -> Tensor:
        for axis, ids in enumerate(self.sizes.coupling.values[self.traced[node.name]]):
            if len(ids) == value.shape[axis]:
                keep = self.sizes.kept(ids)
                if not keep.all():
                    value = value[(slice(None),) * axis + (torch.from_numpy(keep),)]
        return value


class _Values:
    """The values of a graph over all batches, computed when they are asked for."""

    def __init__(self, module: fx.GraphModule, batches: Sequence[tuple[Tensor, ...]], shelf: Shelf):
        self.module, self.shelf = module, shelf
        inputs = [n for n in module.graph.nodes if n.op == "placeholder"]
        self.values = {n: [batch[i] for batch in batches] for i, n in enumerate(inputs)}
        self.batches = len(batches)

    def __call__(self, node: fx.Node) -> Chunks:
        if node.op == "get_attr":
            return [constant(self.module, node)] * self.batches
        if node not in self.values:
            for source in node.all_input_nodes:
                self(source)
            self.values[node] = [self._compute(node, i) for i in range(self.batches)]
        return self.values[node]

    def _compute(self, node: fx.Node, i: int) -> object:
        def chunk(source: fx.Node) -> object:
            return self(source)[i]

        args = fx.map_arg(node.args, chunk)
        return self.shelf.put(node.target(*args, **fx.map_arg(node.kwargs, chunk)))

    def forget(self, done: set[fx.Node]) -> None:
        """Drop what only nodes that are done read."""
        for node in [n for n in self.values if all(user in done for user in n.users)]:
            for value in self.values.pop(node):
                self.shelf.drop(value)


class _Pair:
    def __init__(
        self,
        small: fx.GraphModule,
        whole: fx.GraphModule,
        batches: Sequence[tuple[Tensor, ...]],
        kept: Callable[[fx.Node, Tensor], Tensor],
        choose: Chooser,
        shelf: Shelf,
        shrink: bool,
    ):
        self.small, self.whole = _Values(small, batches, shelf), _Values(whole, batches, shelf)
        self.named = {node.name: node for node in whole.graph.nodes}
        self.module, self.kept, self.choose, self.shrink = small, kept, choose, shrink

    def run(self) -> None:
        done: set[fx.Node] = set()
        counted = {n for n in self.module.graph.nodes if n.op == "get_attr" and len(n.users) == 1}
        for node in self.module.graph.nodes:
            if node.target in SOLVED and node.args[1] in counted:
                self._solve(node)
            twin = self.named.get(node.name)
            if node.op == "call_function":
                self.small(node)
                if twin is not None:
                    self.whole(twin)
            done |= {node, twin}
            self.small.forget(done)
            self.whole.forget(done)

    def _solve(self, node: fx.Node) -> None:
        weight = constant(self.module, node.args[1])
        bias_node = node.args[2] if len(node.args) > 2 else None
        bias = constant(self.module, bias_node)
        norm = _only_user(node, aten.batch_norm.default)
        groups = node.args[6] if len(node.args) > 6 else 1
        each = weight.flatten(1).reshape(groups, -1, weight[0].numel())
        normal = Normal(groups, each.shape[2], each.shape[1])
        generator = torch.Generator().manual_seed(0)
        xs, targets = self.small(node.args[0]), self._targets(node, norm)
        original = self.named[node.name]
        channels = len(constant(self.whole.module, original.args[1]))
        rows = sum(t.numel() for t in self.whole(original)) // channels
        share = min(1.0, max(LEAST_ROWS, ROWS * each.shape[2]) / max(rows, 1))
        for x, target in zip(xs, targets, strict=True):
            normal.add(*_rows(node, weight.shape[2:], x, target, share, generator))
        intercept = bias is not None or norm is not None
        ridge = max(RIDGE, normal.shrinkage(intercept)) if self.shrink else RIDGE
        solved = normal.solve(each, ridge, intercept, lambda w, h: self.choose(node, w, h))
        if solved is None:
            return
        solved, shift = solved
        weight.copy_(solved.reshape(weight.shape))
        if bias is not None:
            bias.copy_(shift.flatten())
        elif norm is not None:
            constant(self.module, norm.args[3]).sub_(shift.flatten().float())

    def _targets(self, node: fx.Node, norm: fx.Node | None) -> Iterator[Tensor]:
        """What the layer should give: the whole network's output, less what a sum adds wrongly."""
        original = self.named[node.name]
        wanted = (self.kept(original, v) for v in self.whole(original))
        last = norm or node
        total = _only_user(last, aten.add.Tensor)
        if total is not None and all(isinstance(a, fx.Node) for a in total.args[:2]):
            other = total.args[0] if total.args[1] is last else total.args[1]
            twin = self.named.get(other.name)
            if twin is not None and other is not last and not _reads(other, node):
                gain = torch.ones(()) if norm is None else _gain(self.module, norm)
                safe = gain.abs() > 1e-2 * gain.abs().max()
                factor = torch.where(safe, 1 / gain, 0.0)
                if norm is not None:
                    factor = factor.reshape(-1, *[1] * (self.whole(original)[0].ndim - 2))
                return (
                    want + factor * (self.kept(twin, a) - b)
                    for want, a, b in zip(wanted, self.whole(twin), self.small(other), strict=True)
                )
        return wanted


def _reads(node: fx.Node, source: fx.Node) -> bool:
    """Whether a value depends on another."""
    seen, stack = set(), [node]
    while stack:
        at = stack.pop()
        if at is source:
            return True
        if at not in seen:
            seen.add(at)
            stack += at.all_input_nodes
    return False


def _gain(module: fx.GraphModule, norm: fx.Node) -> Tensor:
    return batch_norm_affine(module, norm)[0].float()


def _only_user(node: fx.Node, target: object) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _rows(
    node: fx.Node,
    kernel: torch.Size,
    x: Tensor,
    y: Tensor,
    share: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Inputs (rows, groups, n) and outputs (rows, groups, m) of a layer, a share of all rows."""
    columns, given = patches(node, x, kernel), outputs(node, y)
    keep = torch.rand(given.shape[2], generator=generator) < share
    keep[torch.randint(len(keep), (1,), generator=generator)] = True
    return columns[..., keep].permute(2, 0, 1), given[..., keep].permute(2, 0, 1)

"""Where the channels that linear layers read can be scaled for nothing.

What gives them (a norm's gain, a constant factor, another layer's weights) is divided by the
factors, the weights that read them are multiplied: the function stays the same.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..graph.canonical import layer, shapes
from ..graph.fold import CONVOLUTIONS, constant, set_constant
from ..model import Model
from .weights import LINEARS

__all__ = ["Junction", "junctions", "rescale", "weight_of"]

aten = torch.ops.aten

# Operator -> place of its gain, and of its shift.
NORMS = {aten.layer_norm.default: (2, 3), aten.rms_norm.default: (2, None)}
KEEPS = {
    aten.view.default, aten.reshape.default, aten.transpose.int, aten.permute.default,
    aten.unsqueeze.default, aten.squeeze.dim, aten.clone.default, aten.contiguous.default,
}  # fmt: skip


@dataclass(frozen=True)
class Junction:
    """Linear layers that read one value, and what gives it.

    Attributes:
        value: the node that they read.
        readers: their nodes.
        giver: the operator whose constants are divided.
        constants: names of these constants (gain, shift; a layer's weight and bias).
    """

    value: fx.Node
    readers: tuple[fx.Node, ...]
    giver: fx.Node
    constants: tuple[str, ...]


def junctions(module: fx.GraphModule, model: Model, skipped: dict[str, str]) -> list[Junction]:
    """Every junction of a folded graph; why there is none at the other linears into `skipped`."""
    known = shapes(module, model.signature, 2)
    by_value: dict[fx.Node, list[fx.Node]] = {}
    for node in module.graph.nodes:
        weight = weight_of(module, node) if node.target in LINEARS else None
        if weight is not None and weight.ndim == 2:
            by_value.setdefault(_input(node), []).append(node)
    found = []
    for value, readers in by_value.items():
        giver = _giver(module, value, known)
        if isinstance(giver, str):
            skipped.update({layer(reader): giver for reader in readers})
        elif not set(value.users) <= set(readers):
            skipped.update({layer(r): "others read what it reads, too" for r in readers})
        elif any(len(_weight_node(r).users) > 1 for r in readers):
            skipped.update({layer(r): "its weight serves several layers" for r in readers})
        else:
            found.append(Junction(value, tuple(readers), *giver))
    return found


def rescale(module: fx.GraphModule, junction: Junction, factors: Tensor) -> None:
    """Divide what a junction's layers read by the factors, and multiply their weights.

    Args:
        factors: float64 (channels,), > 0.
    """
    is_layer = junction.giver.target in LINEARS
    for name in junction.constants:
        value = operator.attrgetter(name)(module).detach().double()
        at = LINEARS[junction.giver.target][1] if is_layer and value.ndim == 2 else -1
        shape = [1] * value.ndim
        shape[at] = -1
        set_constant(module, name, (value / factors.reshape(shape)).float())
    for reader in junction.readers:
        weight = weight_of(module, reader).double()
        shape = [-1, 1] if LINEARS[reader.target][2] == 0 else [1, -1]
        set_constant(module, _weight_node(reader).target, (weight * factors.reshape(shape)).float())


def weight_of(module: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """The constant weight of a linear as it is stored; None when it is computed."""
    weight = constant(module, _weight_node(node))
    return None if weight is None else weight.detach()


def _weight_node(node: fx.Node) -> fx.Node:
    return node.args[LINEARS[node.target][0]]


def _input(node: fx.Node) -> fx.Node:
    return node.args[1 if node.target is aten.addmm.default else 0]


def _giver(
    module: fx.GraphModule, value: fx.Node, known: dict[fx.Node, object]
) -> tuple[fx.Node, tuple[str, ...]] | str:
    """What gives the channels along the last axis of a value and its constants, or why not."""
    channels = known[value].shape[-1]
    node = value
    while True:
        if node.target in NORMS:
            return _of_norm(module, node, channels)
        if node.target is aten.mul.Tensor:
            return next(_of_product(module, node, channels, known), "no constants scale it")
        if node.target in LINEARS:
            return _of_layer(module, node)
        if node.target not in KEEPS and node.target is not aten.relu.default:
            name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
            return f"{name} gives what it reads"
        before = node.args[0]
        if len(before.users) > 1:
            return "others read what it reads, too"
        if known[before].shape[-1] != channels or not _keeps_last(node, known):
            return "its channels are taken apart before it"
        node = before


def _keeps_last(node: fx.Node, known: dict[fx.Node, object]) -> bool:
    """Whether the last axis stays the last."""
    rank = known[node.args[0]].ndim
    if node.target is aten.transpose.int:
        return rank - 1 not in {axis % rank for axis in node.args[1:]}
    if node.target is aten.permute.default:
        return node.args[1][-1] % rank == rank - 1
    if node.target in (aten.unsqueeze.default, aten.squeeze.dim):
        return node.args[1] % known[node].ndim != known[node].ndim - 1
    return True


def _of_norm(
    module: fx.GraphModule, node: fx.Node, channels: int
) -> tuple[fx.Node, tuple[str, ...]] | str:
    places = [p for p in NORMS[node.target] if p is not None and len(node.args) > p]
    given = [node.args[p] for p in places if node.args[p] is not None]
    if not given or constant(module, node.args[NORMS[node.target][0]]) is None:
        return "the norm before it has no gain"
    return _own(module, node, given, (channels,))


def _of_product(
    module: fx.GraphModule, node: fx.Node, channels: int, known: dict[fx.Node, object]
) -> Iterator[tuple[fx.Node, tuple[str, ...]]]:
    """A product's channels are scaled through either factor."""
    for factor in node.args[:2]:
        if not isinstance(factor, fx.Node):
            continue
        if constant(module, factor) is not None:
            found = _own(module, node, [factor], (channels,))
        elif len(factor.users) > 1 or known[factor].shape != known[node].shape:
            continue
        else:
            found = _giver(module, factor, known)
        if not isinstance(found, str):
            yield found


def _of_layer(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, tuple[str, ...]] | str:
    given = [_weight_node(node)]
    bias = node.args[0] if node.target is aten.addmm.default else None
    if node.target in CONVOLUTIONS and len(node.args) > 2:
        bias = node.args[2]
    return _own(module, node, [a for a in (*given, bias) if a is not None])


def _own(
    module: fx.GraphModule,
    node: fx.Node,
    given: list[fx.Node],
    shape: tuple[int, ...] | None = None,
) -> tuple[fx.Node, tuple[str, ...]] | str:
    """The node with the names of its constants, where they are its alone."""
    for source in given:
        value = constant(module, source)
        if value is None:
            return "what gives its input has computed weights"
        if len(source.users) > 1:
            return "what gives its input shares its weights"
        if shape is not None and tuple(value.shape) != shape:
            return "what gives its input has no constant for each channel"
    return node, tuple(source.target for source in given)

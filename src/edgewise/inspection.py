"""What a Model is made of: layers, parameters, multiply-accumulates, precision; who can run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from .edge.runners import RUNTIMES
from .graph.axes import analyse
from .graph.canonical import FAKE_QUANTIZE, layer, shapes
from .graph.cost import macs
from .lowering.refusals import Refusals, refusals
from .model import Model
from .record import Signature

__all__ = ["GroupSize", "Inspection", "LayerCost", "inspect"]

# What stands between a layer and the weight that it holds in fewer bits.
WRAPS = {FAKE_QUANTIZE, torch.ops.aten._to_copy.default}


@dataclass(frozen=True)
class LayerCost:
    """One operator that holds weights or multiplies.

    Attributes:
        layer: the user's name for it.
        operator: aten's name.
        output: shape for one sample, without the batch axis.
        parameters: numbers in its weight and bias.
        macs: multiply-accumulates for one sample.
        bytes: that weight and bias take at their precision.
        precision: of its weight: ``"float32"`` or ``"int8"``.
    """

    layer: str
    operator: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    bytes: int
    precision: str


@dataclass(frozen=True)
class GroupSize:
    """Channels, heads or neurons that `Prune` can cut.

    Attributes:
        group: the layer that makes them.
        units: how many there are.
        axes: the axes of weights that are cut with them, as ``name[axis]``.
    """

    group: str
    units: int
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """A Model's layers and totals; `bytes` counts weights at their precision, without headers.

    `runtimes` says for each runtime which layers it cannot take; `groups` what moves together,
    and `uncut` which layers keep their width, with the reason; both are empty when quantized.
    """

    signature: Signature
    layers: tuple[LayerCost, ...]
    parameters: int
    macs: int
    bytes: int
    runtimes: tuple[Refusals, ...]
    groups: tuple[GroupSize, ...]
    uncut: dict[str, str]


def inspect(model: Model, runtimes: Iterable[str] = tuple(RUNTIMES)) -> Inspection:
    """Count what a Model holds and does for one sample, and ask the runtimes what they refuse.

    Raises:
        InputError: an unknown runtime.
    """
    module = model.graph
    known = shapes(module, model.signature, 1)
    rows = tuple(row for node in module.graph.nodes if (row := _layer(node, known)) is not None)
    groups, uncut = ((), {}) if model.quantized else _groups(model)
    return Inspection(
        model.signature,
        rows,
        sum(p.numel() for p in module.parameters()),
        sum(r.macs for r in rows),
        sum(r.bytes for r in rows),
        refusals(model, runtimes),
        groups,
        uncut,
    )


def _groups(model: Model) -> tuple[tuple[GroupSize, ...], dict[str, str]]:
    coupling = analyse(model.graph, model.signature)
    rows = tuple(
        GroupSize(g.name, g.size, tuple(f"{m.parameter}[{m.axis}]" for m in g.members))
        for g in coupling.groups
    )
    return rows, coupling.frozen


def _layer(node: fx.Node, known: dict[fx.Node, object]) -> LayerCost | None:
    if node.op != "call_function" or not isinstance(known[node], Tensor):
        return None
    # (constant, its bits where it is quantized)
    read = [(_unwrapped(a), _bits(a)) for a in node.all_input_nodes]
    weights = [(known[s], bits) for s, bits in read if s.op == "get_attr"]
    narrow = min((bits for _, bits in weights if bits), default=None)
    output = known[node]
    products = macs(node, lambda value: tuple(known[value].shape))
    if products is None and (node.target in WRAPS or not weights):
        return None
    return LayerCost(
        layer(node),
        getattr(node.target, "__name__", str(node.target)).split(".")[0],
        tuple(output.shape[1:]),
        sum(w.numel() for w, _ in weights),
        products or 0,
        sum(w.numel() * bits // 8 if bits else w.nbytes for w, bits in weights),
        f"int{narrow}" if narrow else str(weights[0][0].dtype if weights else output.dtype)[6:],
    )


def _bits(node: fx.Node) -> int | None:
    if node.target is not FAKE_QUANTIZE:
        return None
    return 4 if node.args[4] <= 7 else 8


def _unwrapped(node: fx.Node) -> fx.Node:
    """The value before a fake-quantize, or before a cast from float16."""
    return node.args[0] if node.target in WRAPS else node

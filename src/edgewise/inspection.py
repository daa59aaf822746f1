"""What a Model is made of: layers, parameters, multiply-accumulates, precision; who can run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, fx

from .edge.runners import RUNTIMES
from .graph.axes import analyse
from .graph.canonical import FAKE_QUANTIZE, layer, shapes
from .graph.cost import macs
from .lowering.refusals import Refusals, refusals
from .model import Model
from .record import Signature

__all__ = ["GroupSize", "Inspection", "LayerCost", "inspect"]


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
    # (constant, whether it is quantized)
    read = [(_unwrapped(a), a.target is FAKE_QUANTIZE) for a in node.all_input_nodes]
    weights = [(known[s], narrow) for s, narrow in read if s.op == "get_attr"]
    quantized = any(narrow for _, narrow in weights)
    output = known[node]
    products = macs(node, lambda value: tuple(known[value].shape))
    if products is None and (node.target is FAKE_QUANTIZE or not weights):
        return None
    return LayerCost(
        layer(node),
        getattr(node.target, "__name__", str(node.target)).split(".")[0],
        tuple(output.shape[1:]),
        sum(w.numel() for w, _ in weights),
        products or 0,
        sum(w.numel() * (1 if narrow else w.element_size()) for w, narrow in weights),
        "int8" if quantized else str(output.dtype).removeprefix("torch."),
    )


def _unwrapped(node: fx.Node) -> fx.Node:
    """The value before a fake-quantize."""
    return node.args[0] if node.target is FAKE_QUANTIZE else node

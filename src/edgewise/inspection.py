"""What a Model is made of: layers, parameters, multiply-accumulates, precision; who can run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from .compress.coded_size import coded_size
from .edge.runners import RUNTIMES
from .graph.axes import analyse
from .graph.canonical import FAKE_QUANTIZE, LOOKUP, layer, shapes
from .graph.cost import macs
from .graph.fold import constant
from .lowering.refusals import Refusals, refusals
from .model import Model
from .record import Signature

__all__ = ["GroupSize", "Inspection", "LayerCost", "inspect"]

# What stands between a layer and the weight that it holds in fewer bits.
WRAPS = {FAKE_QUANTIZE, torch.ops.aten._to_copy.default}
MOST_VALUES = 256  # beyond, nobody shares values


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
        zeros: numbers of its weight that are zero.
        values: how many different numbers its weight has, up to 256; None where there are more.
    """

    layer: str
    operator: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    bytes: int
    precision: str
    zeros: int = 0
    values: int | None = None


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

    `coded` counts them once they are entropy-coded (`edgewise.compress.coded_size`); it is None for
    a float model whose weights have neither zeros nor shared values.

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
    coded: int | None = None


def inspect(model: Model, runtimes: Iterable[str] = tuple(RUNTIMES)) -> Inspection:
    """Count what a Model holds and does for one sample, and ask the runtimes what they refuse.

    Raises:
        InputError: an unknown runtime.
    """
    module = model.graph
    known = shapes(module, model.signature, 1)
    rows = tuple(
        row for node in module.graph.nodes if (row := _layer(module, node, known)) is not None
    )
    groups, uncut = ((), {}) if model.quantized or model.clustered else _groups(model)
    few = any(r.values is not None and r.parameters > 4 * r.values for r in rows)
    many = sum(r.zeros for r in rows) * 10 > sum(r.parameters for r in rows)
    return Inspection(
        model.signature,
        rows,
        sum(p.numel() for p in module.parameters()),
        sum(r.macs for r in rows),
        sum(r.bytes for r in rows),
        refusals(model, runtimes),
        groups,
        uncut,
        coded_size(model) if few or many or model.quantized else None,
    )


def _groups(model: Model) -> tuple[tuple[GroupSize, ...], dict[str, str]]:
    coupling = analyse(model.graph, model.signature)
    rows = tuple(
        GroupSize(g.name, g.size, tuple(f"{m.parameter}[{m.axis}]" for m in g.members))
        for g in coupling.groups
    )
    return rows, coupling.frozen


def _layer(module: fx.GraphModule, node: fx.Node, known: dict[fx.Node, object]) -> LayerCost | None:
    if node.op != "call_function" or not isinstance(known[node], Tensor):
        return None
    # (constant, its bits where it is quantized)
    read = [(_unwrapped(a), _bits(a)) for a in node.all_input_nodes]
    read = [(s, bits) for s, bits in read if s.op == "get_attr" or s.target is LOOKUP]
    weights = [(known[s], bits) for s, bits in read]
    narrow = min((bits for _, bits in weights if bits), default=None)
    output = known[node]
    products = macs(node, lambda value: tuple(known[value].shape))
    if products is None and (node.target in (*WRAPS, LOOKUP) or not weights):
        return None
    return LayerCost(
        layer(node),
        getattr(node.target, "__name__", str(node.target)).split(".")[0],
        tuple(output.shape[1:]),
        sum(w.numel() for w, _ in weights),
        products or 0,
        sum(w.numel() * bits // 8 if bits else w.nbytes for w, bits in weights),
        "codebook" if any(s.target is LOOKUP for s, _ in read)
        else f"int{narrow}" if narrow
        else str(weights[0][0].dtype if weights else output.dtype)[6:],
        *_values(module, next((s for s, _ in read if known[s].ndim > 1), None)),
    )  # fmt: skip


def _values(module: fx.GraphModule, node: fx.Node | None) -> tuple[int, int | None]:
    """How many numbers of a weight are zero, and how many different ones there are."""
    if node is None:
        return 0, None
    if node.target is LOOKUP:
        weight = LOOKUP(*(constant(module, part).detach() for part in node.args))
    else:
        weight = constant(module, node).detach()
    different = len(weight.unique())
    return int((weight == 0).sum()), different if different <= MOST_VALUES else None


def _bits(node: fx.Node) -> int | None:
    if node.target is LOOKUP:
        return 8  # an index
    if node.target is not FAKE_QUANTIZE:
        return None
    return 4 if node.args[4] <= 7 else 8


def _unwrapped(node: fx.Node) -> fx.Node:
    """The value before a fake-quantize, or before a cast from float16."""
    return node.args[0] if node.target in WRAPS else node

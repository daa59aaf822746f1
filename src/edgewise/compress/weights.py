"""Weights in few bits without calibration: alone, or with inputs quantized at run time.

* ``int8-weights``, ``int4-weights``, ``int4-affine`` (with zero points) and the floats of 16 and 8
  bits round weights; all arithmetic stays float. A float of 8 bits has a scale for each output
  channel, a power of two, so that bfloat16 holds the product exactly (`edgewise.math.narrow`).
* ``int8-dynamic`` and ``int4-dynamic`` also round the inputs of linears to int8, to a range that
  each token (or sample, or group) spans itself.

Integers of 8 bits have one scale an output channel. Those of 4 bits have one for every few
inputs (Frantar et al. 2022, arXiv:2210.17323, section 4, "grouping"): one a channel costs several
times the error. Convolutions keep 8 bits where linears get 4, and are never quantized at run time:
no runtime has kernels for that which are faster than float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from ..graph.canonical import FAKE_QUANTIZE, layer, shapes
from ..graph.fold import CONVOLUTIONS, constant, set_constant
from ..math.affine import fake_quantize_dynamic, min_max_parameters, symmetric_parameters
from ..math.narrow import narrow
from ..record import Signature
from ..step import Plan
from ..support import Support
from .schemes import Scheme

__all__ = [
    "GROUP",
    "LayerWeight",
    "WeightPlan",
    "apply_weights",
    "plan_weights",
    "quantized_weight",
]

aten = torch.ops.aten
GROUP = 32  # inputs to a scale of 4-bit weights, where the runtime does not say

# Operator -> (place of the weight, axis of its outputs, axis of its inputs); x is at place 0, or
# at 1 in addmm. GPT-2 keeps its weights (in, out).
LINEARS = {
    aten.linear.default: (1, 0, 1),
    aten.addmm.default: (2, 1, 0),
    aten.mm.default: (1, 1, 0),
    aten.matmul.default: (1, 1, 0),
}


@dataclass(frozen=True)
class LayerWeight:
    """One weight and how it is to be stored.

    Attributes:
        weight, reader: nodes.
        axis: of its output channels.
        bits: 2 to 16; of a float, 16 or 8.
        number: the dtype of a weight that stays a float.
        affine: whether the grid has a zero point; else it is symmetric.
        group: inputs to a scale; None for one scale an output channel.
        inputs: of its axis (only with `group`).
        dynamic: for a quantized input: quant_min, quant_max, axis and group of
            `fake_quantize_dynamic`.
    """

    weight: str
    reader: str
    axis: int
    bits: int
    group: int | None = None
    inputs: int | None = None
    dynamic: tuple[int, int, int, int | None] | None = None
    number: torch.dtype | None = None
    affine: bool = False


@dataclass(frozen=True)
class WeightPlan(Plan):
    """Which weights become what, and which layers stay as they are and why."""

    scheme: str
    weights: tuple[LayerWeight, ...]
    skipped: dict[str, str] = field(default_factory=dict)


def plan_weights(
    module: fx.GraphModule,
    signature: Signature,
    scheme: Scheme,
    keeps_float: frozenset[str],
    group: int | None = None,
    support: Support | None = None,
    bits_of: Mapping[str, int] | None = None,
) -> WeightPlan:
    """Decide for every layer with a weight.

    Args:
        module: folded (`edgewise.graph.fold`).
        keeps_float: nodes that stay as they are.
        group: inputs to a scale; None for the runtime's favourite.
        support: what the runtime makes of the scheme, where one is given.
        bits_of: nodes that get other bits than the scheme's.
    """
    bits_of = bits_of or {}
    group = group or (support.groups[0] if support and support.groups else GROUP)
    shared = support.dynamic if support else "token"
    two, three = (shapes(module, signature, batch) for batch in (2, 3))
    rows, skipped = [], {}
    for node in module.graph.nodes:
        kind = _kind(node)
        if kind is None:
            continue
        grouped = scheme.grouped and kind == "linear"
        if support is not None and support.groups == () and scheme.grouped:
            grouped = False  # this runtime takes one scale a channel
        shares = grouped or (scheme.activations == "dynamic" and shared == "group")
        reason = _reason(module, node, kind, scheme, keeps_float, support, group if shares else 1)
        dynamic = None
        if scheme.activations == "dynamic" and not reason:
            x = node.args[1 if node.target is aten.addmm.default else 0]
            dynamic = _rounding(shared, group, _batch_axis(two[x].shape, three[x].shape))
            if dynamic is None:
                reason = "its input has samples and tokens on one axis, and a range for each sample"
        if reason:
            skipped[layer(node)] = reason
            continue
        place, axis, inputs = LINEARS.get(node.target, (1, CONVOLUTIONS.get(node.target), None))
        bits = 8 if kind == "conv" and scheme.weights == 4 else scheme.weights
        rows.append(
            LayerWeight(
                node.args[place].name, node.name, axis, bits_of.get(node.name, bits),
                group if grouped else None, inputs if grouped else None, dynamic, scheme.number,
                scheme.affine and kind == "linear",
            )
        )  # fmt: skip
    return WeightPlan(scheme.name, tuple(rows), skipped)


def _rounding(
    shared: str, group: int, batch_axis: int | None
) -> tuple[int, int, int, int | None] | None:
    """How an input is rounded at run time; None where no axis tells the samples."""
    if shared == "group":
        return (-127, 127, -1, group)
    axis = -1 if shared == "token" else batch_axis
    return None if axis is None else (-128, 127, axis, None)


def _batch_axis(two: torch.Size, three: torch.Size) -> int | None:
    """The axis of the batch, from the shapes at batch 2 and 3."""
    moved = [i for i, pair in enumerate(zip(two, three, strict=True)) if pair[0] != pair[1]]
    return moved[0] if len(moved) == 1 and two[moved[0]] == 2 else None


def _kind(node: fx.Node) -> str | None:
    """``"linear"`` or ``"conv"`` of an operator with a weight; None of any other."""
    if node.target in LINEARS:
        weight = node.args[LINEARS[node.target][0]]
        constant_weight = weight.op == "get_attr"
        return "linear" if constant_weight or node.target is aten.linear.default else None
    return "conv" if node.target in CONVOLUTIONS else None


def _reason(
    module: fx.GraphModule,
    node: fx.Node,
    kind: str,
    scheme: Scheme,
    keeps_float: frozenset[str],
    support: Support | None,
    group: int,
) -> str | None:
    """Why a layer stays as it is; None when it does not."""
    if node.name in keeps_float:
        return "kept float as asked"
    place, _, inputs = LINEARS.get(node.target, (1, None, 1))
    weight = constant(module, node.args[place])
    if weight is None:
        return "its weight is computed, not constant"
    if weight.dtype != torch.float32:
        return f"its weight is {str(weight.dtype).removeprefix('torch.')}"
    if kind == "linear" and weight.ndim != 2:
        return "its weight is no matrix"
    if kind == "conv" and scheme.activations == "dynamic":
        return "convolutions quantized at run time are slower than float on every runtime"
    if support is not None and kind not in support.layers:
        return f"the runtime has no gain for {kind} layers: {support.reason}"
    if weight.shape[inputs] % group:
        return f"its {weight.shape[inputs]} inputs cannot be divided into groups of {group}"
    return None


def quantized_weight(
    weight: Tensor, row: LayerWeight
) -> tuple[Tensor, Tensor, int, int, int | None]:
    """What `fake_quantize` takes besides the weight, from the least and largest of a scale."""
    if row.group is None:
        shared, axis = [i for i in range(weight.ndim) if i != row.axis], row.axis
    else:
        weight = weight.unflatten(row.inputs, (-1, row.group))
        shared, axis = [row.inputs + 1], None
    most = 2 ** (row.bits - 1) - 1
    if row.affine:
        ends = weight.amin(shared), weight.amax(shared)
        return *min_max_parameters(*ends, -most - 1, most), -most - 1, most, axis
    return *symmetric_parameters(weight.abs().amax(shared), most), -most, most, axis


def apply_weights(module: fx.GraphModule, plan: WeightPlan) -> fx.GraphModule:
    """Put a plan into the folded graph that it was made for."""
    nodes = {node.name: node for node in module.graph.nodes}
    fakes: dict[tuple, fx.Node] = {}  # what several layers read is quantized once
    for row in plan.weights:
        weight, reader = nodes[row.weight], nodes[row.reader]
        key = (row.weight, row.axis, row.bits, row.group)
        if key not in fakes:
            write = _narrowed if row.number is None else _cast
            fakes[key] = write(module, weight, row)
        reader.replace_input_with(weight, fakes[key])
        if row.dynamic is None:
            continue
        x = reader.args[1 if reader.target is aten.addmm.default else 0]
        key = (x.name, row.dynamic)
        if key not in fakes:
            with module.graph.inserting_after(x):
                arguments = (x, *(a for a in row.dynamic if a is not None))
                target = fake_quantize_dynamic._opoverload
                name = f"{x.name}_fake_quantize_dynamic"
                fakes[key] = module.graph.call_function(target, arguments, name=name)
        reader.replace_input_with(x, fakes[key])
    return module


def _narrowed(module: fx.GraphModule, node: fx.Node, row: LayerWeight) -> fx.Node:
    scale, zero_point, *rest = quantized_weight(constant(module, node).detach(), row)
    names = list(_free_names(module, node.name))
    module.register_buffer(names[0], scale)
    module.register_buffer(names[1], zero_point)
    with module.graph.inserting_after(node):
        fake = module.graph.call_function(FAKE_QUANTIZE, name=f"{node.name}_fake_quantize")
    with module.graph.inserting_before(fake):
        grid = [module.graph.get_attr(name) for name in names]
    fake.args = (node, *grid, *rest)
    return fake


def _cast(module: fx.GraphModule, node: fx.Node, row: LayerWeight) -> fx.Node:
    """The weight held in 16 bits and cast back."""
    set_constant(module, node.target, narrow(constant(module, node).detach(), row.number, row.axis))
    with module.graph.inserting_after(node):
        cast = module.graph.call_function(
            aten._to_copy.default, (node,), {"dtype": torch.float32}, name=f"{node.name}_float"
        )
    for user in [u for u in node.users if u is not cast]:
        user.replace_input_with(node, cast)
    return cast


def _free_names(module: fx.GraphModule, stem: str) -> Iterator[str]:
    while hasattr(module, f"{stem}_scale"):
        stem += "_"
    yield f"{stem}_scale"
    yield f"{stem}_zero_point"

"""Folding: what training needed and inference does not is computed into the weights."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from .canonical import sweep
from .codebooks import expand

__all__ = ["average_whole", "constant", "fold", "set_constant"]

aten = torch.ops.aten

# Operator -> axis of its weight that numbers the output channels.
CONVOLUTIONS = {
    aten.conv1d.default: 0,
    aten.conv2d.default: 0,
    aten.conv3d.default: 0,
    aten.conv1d.padding: 0,
    aten.conv2d.padding: 0,
    aten.conv_transpose1d.default: 1,
    aten.conv_transpose2d.input: 1,
    aten.linear.default: 0,
}
AVERAGE_POOLS = {aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default}
IDENTITIES = {
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.alpha_dropout.default,
    aten.detach.default,
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.lift_fresh_copy.default,
}


def fold(module: fx.GraphModule) -> fx.GraphModule:
    """Fold batch-norm into the convolution or linear before it; drop dropout and identities.

    Clustered weights become parameters again. Changes `module` in place and returns it. With ``y =
    (w x + b - mean) * g + beta`` and ``g = gamma / sqrt(var + eps)``, the folded weight is ``w g``
    and the bias ``(b - mean) g + beta`` (Jacob et al. 2018, arXiv:1712.05877, equation 14).
    """
    expand(module)
    for node in list(module.graph.nodes):
        if node.target in IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif node.target is aten.view.default:
            node.target = aten.reshape.default  # a view may have relied on a copy dropped here
    for node in list(module.graph.nodes):
        if node.target is aten.batch_norm.default:
            _fold_batch_norm(module, node)
    sweep(module)
    return module


def average_whole(module: fx.GraphModule, known: Mapping[fx.Node, tuple[int, ...]]) -> None:
    """Write an average pool whose window is the whole image as a mean, in place.

    Runtimes pool integers on one grid, where every second sum of an even window is a tie that each
    rounds in its own way; a mean has a grid of its own, and a finer one.

    Args:
        known: shapes (`edgewise.graph.canonical.recorded_shapes`).
    """
    for node in module.graph.nodes:
        if node.target not in AVERAGE_POOLS:
            continue
        axes = list(range(2, len(known[node])))
        size = list(known[node.args[0]][2:])
        padding = node.args[3] if len(node.args) > 3 else 0
        divisor = node.args[6] if len(node.args) > 6 else None
        if _each(node.args[1], axes) == size and not any(_each(padding, axes)) and not divisor:
            node.target, node.args = aten.mean.dim, (node.args[0], axes, True)


def _each(value: int | Sequence[int], axes: Sequence[int]) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * len(axes) if len(values) == 1 else values


def constant(module: fx.GraphModule, node: object) -> Tensor | None:
    """The parameter or buffer that a ``get_attr`` node reads, None for anything else."""
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return operator.attrgetter(node.target)(module)
    return None


def set_constant(module: fx.GraphModule, name: str, value: Tensor) -> None:
    """Set or add the parameter or buffer of that dotted name (a parameter when it floats)."""
    owner_name, _, leaf = name.rpartition(".")
    owner: nn.Module = module
    for part in filter(None, owner_name.split(".")):
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    setattr(owner, leaf, nn.Parameter(value.detach().clone()))


def _fold_batch_norm(module: fx.GraphModule, norm: fx.Node) -> None:
    before = norm.args[0]
    if before.target not in CONVOLUTIONS or len(before.users) > 1:
        return
    weight_node = before.args[1]
    bias_node = before.args[2] if len(before.args) > 2 else None
    weight = constant(module, weight_node)
    bias = constant(module, bias_node)
    shared = any(n is not None and len(n.users) > 1 for n in (weight_node, bias_node))
    if weight is None or (bias is None and bias_node is not None) or shared:
        return
    axis = CONVOLUTIONS[before.target]
    groups = before.args[6] if len(before.args) > 6 else 1
    if axis == 1 and groups != 1:
        return  # a grouped transposed weight has its output channels on two axes

    gain, shift = batch_norm_affine(module, norm)
    shape = [1] * weight.ndim
    shape[axis] = -1
    folded = weight.double() * gain.reshape(shape)
    offset = (0.0 if bias is None else bias.double()) * gain + shift

    set_constant(module, weight_node.target, folded.float())
    bias_name = bias_node.target if bias_node else f"{weight_node.target.rpartition('.')[0]}.bias"
    bias_name = bias_name.lstrip(".") if bias_node else _free_name(module, bias_name.lstrip("."))
    set_constant(module, bias_name, offset.float())
    if bias_node is None:
        with module.graph.inserting_before(before):
            bias_node = module.graph.get_attr(bias_name)
        before.args = (*before.args[:2], bias_node, *before.args[3:])
    norm.replace_all_uses_with(before)
    module.graph.erase_node(norm)


def batch_norm_affine(module: fx.GraphModule, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """The gain and shift (float64, one a channel) that a batch-norm applies at inference."""
    gamma, beta, mean, var = (constant(module, a) for a in norm.args[1:5])
    gain = (1.0 if gamma is None else gamma.double()) / torch.sqrt(var.double() + norm.args[7])
    return gain, (0.0 if beta is None else beta.double()) - mean.double() * gain


def _free_name(module: fx.GraphModule, name: str) -> str:
    taken = {n for n, _ in [*module.named_parameters(), *module.named_buffers()]}
    while name in taken:
        name += "_folded"
    return name

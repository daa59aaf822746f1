"""Surgery: the graph without some of its channels, its weights and its size constants rewritten."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from .axes import Coupling
from .canonical import bound

__all__ = ["Sizes", "cut"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Sizes:
    """What is left of each axis when some units are cut.

    Attributes:
        coupling: of the whole graph.
        gone: which numbers go (`Coupling.gone`).
    """

    coupling: Coupling
    gone: np.ndarray

    def kept(self, ids: np.ndarray) -> np.ndarray:
        """Whether each position of an axis stays, bool."""
        return ~self.gone[ids]

    def count(self, ids: np.ndarray) -> int:
        """How many positions of an axis stay."""
        return int(np.count_nonzero(self.kept(ids)))

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of a value that is one tensor."""
        if node not in self.coupling.values:
            return self.coupling.shapes[node]
        return tuple(self.count(ids) for ids in self.coupling.values[node])

    def before(self, node: fx.Node) -> tuple[int, ...]:
        """Its shape with nothing cut."""
        return self.coupling.shapes[node]


def cut(
    module: fx.GraphModule, coupling: Coupling, units: Mapping[str, np.ndarray]
) -> fx.GraphModule:
    """Take units out of a graph; changes `module` and returns it.

    Args:
        module: a copy of the graph that `coupling` was found in.
        units: for each group the units to be cut.
    """
    sizes = Sizes(coupling, coupling.gone(units))
    originals = list(coupling.shapes)
    copies = list(module.graph.nodes)
    original = dict(zip(copies, originals, strict=True))
    for node in copies:
        if node.target in CONSTANTS and _touched(sizes, original[node]):
            CONSTANTS[node.target](module.graph, node, original[node], sizes)
    for name, axes in coupling.parameters.items():
        keep = [sizes.kept(ids) for ids in axes]
        if not all(k.all() for k in keep):
            _shrink(module, name, keep)
    module.recompile()
    return module


def _touched(sizes: Sizes, node: fx.Node) -> bool:
    """Whether any shape that the node reads or gives changes."""
    values = [node, *node.all_input_nodes]
    return any(
        _changed(sizes, sizes.coupling.values[v]) for v in values if v in sizes.coupling.values
    )


def _changed(sizes: Sizes, value: object) -> bool:
    if isinstance(value, tuple):
        return any(_changed(sizes, part) for part in value)
    return bool(sizes.gone[value].any())


def _shrink(module: fx.GraphModule, name: str, keep: list[np.ndarray]) -> None:
    owner, _, leaf = name.rpartition(".")
    holder = module.get_submodule(owner)
    old = getattr(holder, leaf)
    new = old.detach()
    for axis, mask in enumerate(keep):
        if not mask.all():
            new = new.index_select(axis, torch.from_numpy(np.flatnonzero(mask)))
    if isinstance(old, torch.nn.Parameter):
        holder.register_parameter(leaf, torch.nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        holder.register_buffer(leaf, new)


# --- size constants --------------------------------------------------------------------------


def _put(node: fx.Node, name: str, value: object) -> None:
    """Set an argument by its name in the schema."""
    rows = [row.name for row in node.target._schema.arguments]
    at = rows.index(name)
    if at < len(node.args):
        node.args = (*node.args[:at], value, *node.args[at + 1 :])
    else:
        node.kwargs = {**node.kwargs, name: value}


def _groups(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    """Input channels there are / input channels that each output channel reads."""
    if bound(node)["groups"] == 1:
        return
    weight = sizes.shape(was.args[1])
    channels = sizes.shape(was.args[0])[-len(weight) + 1]
    _put(node, "groups", channels // weight[1])


def _transposed_groups(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    weight = sizes.shape(was.args[1])
    _put(node, "groups", sizes.shape(was)[-len(weight) + 1] // weight[1])


def _norm_groups(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    each = sizes.before(was)[1] // node.args[1]
    _put(node, "num_groups", sizes.shape(was)[1] // each)


def _resized(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    """The argument that lists sizes: every fixed size anew."""
    at = next(i for i, a in enumerate(node.args) if isinstance(a, list | tuple))
    given, new, old = node.args[at], sizes.shape(was), sizes.before(was)
    if node.target is aten.unflatten.int:
        first = node.args[1] % len(sizes.before(was.args[0]))
        new, old = new[first : first + len(given)], old[first : first + len(given)]
    rewritten = list(given)
    for i, (entry, n, o) in enumerate(zip(given, new, old, strict=True)):
        if n != o and isinstance(entry, fx.Node):
            rewritten[i] = _times(graph, node, entry, n, o)
        elif n != o and entry != -1:
            rewritten[i] = n
    node.args = (*node.args[:at], rewritten, *node.args[at + 1 :])


def _times(graph: fx.Graph, node: fx.Node, entry: fx.Node, new: int, old: int) -> fx.Node:
    """A size that is the batch times a number, of which `new` of `old` are left."""
    with graph.inserting_before(node):
        product = graph.call_function(operator.mul, (entry, new))
        return graph.call_function(operator.floordiv, (product, old))


def _pieces(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    """Any split becomes one with the sizes given."""
    dim = bound(was)["dim"] % len(sizes.before(was.args[0]))
    given = [sizes.count(piece[dim]) for piece in sizes.coupling.values[was]]
    if given != [shape[dim] for shape in sizes.before(was)]:
        node.target = aten.split_with_sizes.default
        node.args, node.kwargs = (node.args[0], given, dim), {}


def _ends(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    a = bound(was)
    whole = sizes.coupling.values[was.args[0]]
    dim = a["dim"] % len(whole)
    size = len(whole[dim])
    if not sizes.gone[whole[dim]].any() or sizes.before(was)[dim] == size:
        return
    start = a["start"] or 0
    start = max(0, start + size) if start < 0 else start
    end = start + sizes.before(was)[dim]
    kept = sizes.kept(whole[dim])
    _put(node, "start", int(kept[:start].sum()))
    _put(node, "end", int(kept[:end].sum()))


def _narrowed(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    x, dim, start, length = was.args
    kept = sizes.kept(sizes.coupling.values[x][dim])
    node.args = (
        node.args[0], dim, int(kept[:start].sum()), int(kept[start:][:length].sum()),
    )  # fmt: skip


def _squeezed(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    """What has one position left must not be squeezed with what always had one."""
    shape = sizes.before(was.args[0])
    dims = was.args[1] if len(was.args) > 1 else range(len(shape))
    dims = {d % len(shape) for d in ([dims] if isinstance(dims, int) else dims)}
    node.target = aten.squeeze.dims
    node.args = (node.args[0], sorted(d for d in dims if shape[d] == 1))


def _margins(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    out, pad = sizes.coupling.values[was], list(node.args[1])
    for i in range(len(pad) // 2):
        before, after = pad[2 * i : 2 * i + 2]
        if (before, after) != (0, 0) and sizes.gone[out[-1 - i]].any():
            ids = out[-1 - i]
            pad[2 * i : 2 * i + 2] = [
                sizes.count(ids[:before]),
                sizes.count(ids[len(ids) - after :]),
            ]
    _put(node, "pad", pad)


def _mean(graph: fx.Graph, node: fx.Node, was: fx.Node, sizes: Sizes) -> None:
    """A mean over channels that are partly gone still divides by all that there were."""
    x = was.args[0]
    dims = bound(was).get("dim")
    dims = range(len(sizes.before(x))) if not dims else [dims] if isinstance(dims, int) else dims
    factor = 1.0
    for d in dims:
        factor *= sizes.shape(x)[d] / sizes.before(x)[d]
    if factor != 1.0:
        with graph.inserting_after(node):
            scaled = graph.call_function(aten.mul.Tensor, (node, factor), name=f"{node.name}_kept")
        node.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)


Rewrite = Callable[[fx.Graph, fx.Node, fx.Node, Sizes], None]

# Operator -> what rewrites its constants: (graph, its copy, itself, sizes).
CONSTANTS: dict[object, Rewrite] = {
    **dict.fromkeys(
        [aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.conv1d.padding,
         aten.conv2d.padding, aten.conv3d.padding],
        _groups,
    ),
    **dict.fromkeys(
        [aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input],
        _transposed_groups,
    ),
    **dict.fromkeys(
        [aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.unflatten.int,
         aten.expand.default, aten.broadcast_to.default, aten.zeros.default, aten.ones.default,
         aten.full.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default],
        _resized,
    ),
    **dict.fromkeys([aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default],
                    _pieces),
    **dict.fromkeys([aten.pad.default, aten.constant_pad_nd.default], _margins),
    **dict.fromkeys([aten.mean.dim, aten.mean.default], _mean),
    **dict.fromkeys([aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims], _squeezed),
    aten.group_norm.default: _norm_groups,
    aten.slice.Tensor: _ends,
    aten.narrow.default: _narrowed,
}  # fmt: skip

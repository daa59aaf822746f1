"""Axes that move together: which axes of which tensors are one and the same set of channels.

    found = analyse(model.graph, model.signature)
    for group in found.groups: print(group.name, group.size)

`trace` holds what is known, one file a family of operators the rules, `products` decides what
splitting and merging axes leaves open. What no rule can follow is fixed and listed with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import fx

from ...record import Signature
from ..canonical import layer, recorded_shapes
from ..fold import constant
from . import elementwise, layers, moves
from .groups import Group, Member, grouped
from .products import Channels, settle
from .trace import Axes, Trace, is_frozen

__all__ = ["Coupling", "Group", "Member", "analyse"]

# aten operator -> its rule; an operator whose rule gives None is not followed.
RULES: dict[Callable, Callable[[Trace, fx.Node], object]] = {
    **elementwise.RULES,
    **layers.RULES,
    **moves.RULES,
}


@dataclass(frozen=True, eq=False)
class Coupling:
    """What `analyse` finds.

    Attributes:
        groups: in the order of the graph.
        frozen: layers whose outputs cannot be cut, each with the reason.
        values: the axes of every tensor in the graph, as arrays of numbers; `gone` reads them.
        shapes: the shape of every tensor in the graph.
        parameters: likewise of every parameter and buffer, by name.
    """

    groups: tuple[Group, ...]
    frozen: dict[str, str]
    values: dict[fx.Node, object]
    shapes: dict[fx.Node, tuple]
    parameters: dict[str, Axes]
    channels: Channels
    padding: int

    def owners(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each position of an axis the index of its group, -1 for none, and of its unit."""
        if is_frozen(ids):
            return np.full(len(ids), -1), np.full(len(ids), -1)
        channel = self.channels(ids)
        groups, units = self._owners
        return np.where(channel < 0, -1, groups[channel]), np.where(channel < 0, -1, units[channel])

    @cached_property
    def _owners(self) -> tuple[np.ndarray, np.ndarray]:
        owners = np.full((2, len(self.channels.reason)), -1)
        for i, group in enumerate(self.groups):
            first = group.members[0]
            ids = self.parameters[first.parameter][first.axis][first.positions[:, 0]]
            owners[0, self.channels.of[ids]] = i
            owners[1, self.channels.of[ids]] = np.arange(group.size)
        return owners[0], owners[1]

    def gone(self, cut: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which numbers go when these units of these groups are cut.

        Returns:
            bool; to be read with an axis's numbers, the negative ones among them.
        """
        dead = np.zeros(len(self.channels.reason) + 1, bool)
        for group in self.groups:
            if group.name in cut:
                first = group.members[0]
                ids = self.parameters[first.parameter][first.axis][first.positions[cut[group.name]]]
                dead[self.channels.of[ids]] = True
        return np.concatenate([dead[self.channels.of], np.zeros(self.padding, bool)])


def analyse(module: fx.GraphModule, signature: Signature) -> Coupling:
    """Find the axes that move together in the graph of a Model."""
    trace = Trace(recorded_shapes(module, signature))
    for node in module.graph.nodes:
        if node.op == "output":
            for value in node.args[0]:
                for ids in trace.axes(value):
                    trace.freeze(ids, "it is an output of the model")
        else:
            trace.values[node] = _axes(trace, node, module)
    channels = settle(trace)
    return Coupling(
        grouped(trace, channels),
        _frozen(trace, channels, module),
        trace.values,
        trace.shapes,
        trace.parameters,
        channels,
        len(trace.reasons),
    )


def _axes(trace: Trace, node: fx.Node, module: fx.GraphModule) -> object:
    if node.op == "placeholder":
        return tuple(trace.frozen(n, "it is an input of the model") for n in trace.shapes[node])
    if node.op == "get_attr":
        if node.target not in trace.parameters:
            value = constant(module, node)
            trace.parameters[node.target] = tuple(
                trace.fresh(n) if value.is_floating_point() else trace.frozen(n, "it is no weight")
                for n in value.shape
            )
            if isinstance(value, torch.nn.Parameter) and value.ndim > 1:
                trace.weights.add(node.target)
        return trace.parameters[node.target]
    rule = RULES.get(node.target)
    if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        rule = elementwise.pointwise
    found = None if rule is None else rule(trace, node)
    if found is None:
        why = f"{node.target} at '{node.name}' is not followed"
        for argument in node.all_input_nodes:
            for ids in _flat(trace.values.get(argument, ())):
                if not is_frozen(ids):
                    trace.unfollowed[layer(node)] = why
                    trace.freeze(ids, why)
        found = _fixed(trace, trace.shapes[node], why)
    return found


def _fixed(trace: Trace, shape: tuple, why: str) -> object:
    if any(isinstance(s, tuple) for s in shape):
        return tuple(_fixed(trace, s, why) for s in shape)
    return tuple(trace.frozen(n, why) for n in shape)


def _flat(value: object) -> Iterator[np.ndarray]:
    if isinstance(value, tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _frozen(trace: Trace, channels: Channels, module: fx.GraphModule) -> dict[str, str]:
    found = dict(trace.unfollowed)
    for name, axis in trace.inputs:
        others = [a for a in range(2) if a != axis]
        for ids in (trace.parameters[name][a] for a in others if a < len(trace.parameters[name])):
            if len(ids) > 1 and (channels(ids) < 0).all():
                why = channels.reason[channels.of[ids[0]]]
                found.setdefault(name.rpartition(".")[0] or name, trace.reasons[why])
    return found

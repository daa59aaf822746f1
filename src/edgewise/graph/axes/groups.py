"""Groups: channels that touch the same axes are units of one group."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .products import Channels
from .trace import Trace

__all__ = ["Group", "Member", "grouped"]


@dataclass(frozen=True, eq=False)
class Member:
    """An axis of a parameter or buffer that a group cuts.

    Attributes:
        parameter: its name in the graph.
        axis: which of its axes.
        summed: whether its operator sums over this axis (the group's channels come in here).
        positions: int (units, k): the positions that go with each unit.
    """

    parameter: str
    axis: int
    summed: bool
    positions: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Units (channels, heads, neurons) that can each be cut, with all they are tied to.

    Attributes:
        name: the layer that makes them, the first of several.
        members: every axis that is cut with them.
    """

    name: str
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.members[0].positions)


def grouped(trace: Trace, channels: Channels) -> tuple[Group, ...]:
    """Channels that touch the same axes of the same parameters, equally often, make one group."""
    axes = [(name, axis) for name, ids in trace.parameters.items() for axis in range(len(ids))]
    rows = [ids for parameter in trace.parameters.values() for ids in parameter]
    of = channels(np.concatenate([np.empty(0, int), *rows]))
    which = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    position = np.concatenate([np.empty(0, int), *(np.arange(len(row)) for row in rows)])
    free = of >= 0
    of, which, position = of[free], which[free], position[free]
    # The sum of a random number for each axis tells sets of axes apart.
    random = np.random.default_rng(0).integers(1, 2**62, len(axes), dtype=np.uint64)
    signature = np.zeros(len(channels.reason), np.uint64)
    np.add.at(signature, of, random[which])
    _, first, kind = np.unique(signature[of], return_index=True, return_inverse=True)
    units = np.bincount(kind[np.unique(of, return_index=True)[1]])
    # By group in the order of the graph, then by axis, then by channel.
    order = np.lexsort((position, of, which, first[kind]))
    ends = np.flatnonzero(np.diff(which[order]) | np.diff(kind[order])) + 1
    found: dict[int, list[Member]] = {}
    for at in np.split(order, ends) if len(order) else ():
        name, axis = axes[which[at[0]]]
        positions = position[at].reshape(units[kind[at[0]]], -1)
        member = Member(name, axis, (name, axis) in trace.inputs, positions)
        found.setdefault(kind[at[0]], []).append(member)
    weights = trace.weights
    groups = [_ordered(m) for m in found.values() if any(row.parameter in weights for row in m)]
    return tuple(_named(groups))


def _ordered(members: list[Member]) -> Group:
    """The first axis that makes the units goes first and gives their order."""
    maker = next((m for m in members if not m.summed), members[0])
    first = maker.positions[:, 0]
    if (first[1:] < first[:-1]).any():
        order = np.argsort(first, kind="stable")
        members = [replace(m, positions=m.positions[order]) for m in members]
        maker = next(m for m in members if (m.parameter, m.axis) == (maker.parameter, maker.axis))
    rest = [m for m in members if m is not maker]
    return Group(maker.parameter.rpartition(".")[0] or maker.parameter, (maker, *rest))


def _named(groups: list[Group]) -> list[Group]:
    """A second group of one layer is called ``layer#2``."""
    seen: dict[str, int] = {}
    result = []
    for found in groups:
        n = seen[found.name] = seen.get(found.name, 0) + 1
        result.append(found if n == 1 else replace(found, name=f"{found.name}#{n}"))
    return result

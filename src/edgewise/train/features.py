"""Pairs of values, one of the student and one of the teacher, that are to be alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, fx, nn

from ..errors import InputError
from ..graph.canonical import recorded_shapes
from ..math import distillation
from ..model import Model

__all__ = ["DISTANCES", "Hint", "Pair", "pairs_of"]

AUTOMATIC = 4  # pairs that are found by themselves, at most


@dataclass(frozen=True)
class Kind:
    """One way to compare features.

    Attributes:
        distance: (student's, teacher's) -> scalar.
        projects: the student's are first brought to the teacher's channels by learned weights.
        places: the axes after the channels must have equal sizes.
    """

    distance: Callable[[Tensor, Tensor], Tensor]
    projects: bool = False
    places: bool = True


DISTANCES = {
    "fitnets": Kind(distillation.hint, projects=True),
    "attention": Kind(distillation.attention_transfer),
    "relational": Kind(distillation.relational, places=False),
}


@dataclass(frozen=True)
class Hint:
    """Features that the student is to share with its teacher.

    Attributes:
        kind: ``"fitnets"``, ``"attention"`` or ``"relational"``.
        weight: beside the loss of the outputs.
        student, teacher: names of values in the graphs; None to pair by name what both have: the
            last value of each resolution. For a teacher of another family, name both.
    """

    kind: str = "fitnets"
    weight: float = 1.0
    student: str | None = None
    teacher: str | None = None

    def __post_init__(self):
        if self.kind not in DISTANCES:
            raise InputError(f"unknown hint '{self.kind}': choose one of {', '.join(DISTANCES)}")
        if not self.weight > 0:
            raise InputError(f"the weight of a hint must be above 0, found {self.weight}")
        if (self.student is None) != (self.teacher is None):
            raise InputError("a hint names both values, of the student and of the teacher, or none")


@dataclass(frozen=True)
class Pair:
    """Two values and how they are compared.

    Attributes:
        student, teacher: node names.
        channels: (the student's, the teacher's).
        axes: of both, the batch included.
    """

    student: str
    teacher: str
    channels: tuple[int, int]
    axes: int
    kind: str
    weight: float

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """How far apart they are, the student's being projected already."""
        return DISTANCES[self.kind].distance(student, teacher)

    def projection(self) -> nn.Module:
        """From the student's channels to the teacher's: learned, where they differ."""
        if not DISTANCES[self.kind].projects or self.channels[0] == self.channels[1]:
            return nn.Identity()
        if self.axes > 3:
            return nn.Conv2d(*self.channels, 1, bias=False)
        return nn.Linear(*self.channels, bias=False)


def pairs_of(hints: tuple[Hint, ...], student: Model, teacher: Model) -> tuple[Pair, ...]:
    """The pairs that the hints mean.

    Raises:
        InputError: a name is no value of its graph, the shapes do not fit the kind, or nothing
            pairs by name.
    """
    ours, theirs = (
        {node.name: shape for node, shape in recorded_shapes(m.graph, m.signature).items()}
        for m in (student, teacher)
    )
    pairs: list[Pair] = []
    for hint in hints:
        names = [(hint.student, hint.teacher)] if hint.student else _shared(student, ours, theirs)
        if not names:
            raise InputError(
                "no value of the student pairs with one of the teacher by name: name both in Hint"
            )
        for name, other in names:
            for given, known, whose in ((name, ours, "student"), (other, theirs, "teacher")):
                if not known.get(given):
                    raise InputError(f"the {whose} has no value '{given}' to give a hint of")
            pairs.append(_pair(hint, name, other, ours[name], theirs[other]))
    return tuple(pairs)


def _pair(hint: Hint, name: str, other: str, ours: tuple, theirs: tuple) -> Pair:
    kind = DISTANCES[hint.kind]
    # Channels are axis 1 of images, the last axis of anything else.
    at = 1 if len(ours) > 3 else -1
    places = [tuple(n for i, n in enumerate(s) if i != at % len(s)) for s in (ours, theirs)]
    if kind.places and (len(ours) != len(theirs) or places[0] != places[1]):
        raise InputError(
            f"'{name}' {list(ours[1:])} and '{other}' {list(theirs[1:])} do not lie on the same "
            f"places, as a hint of kind '{hint.kind}' needs: pair values of one resolution"
        )
    return Pair(name, other, (ours[at], theirs[at]), len(ours), hint.kind, hint.weight)


def _shared(student: Model, ours: dict[str, tuple], theirs: dict[str, tuple]) -> list:
    """The last value of each resolution that both have under one name, at most four."""
    last: dict[tuple, str] = {}
    for node in student.graph.graph.nodes:
        name = node.name
        mine, other = ours.get(name, ()), theirs.get(name, ())
        if not _computed(node) or len(mine) < 3 or len(mine) != len(other):
            continue
        if mine[2:] == other[2:]:
            last[mine[2:]] = name
    return [(name, name) for name in list(last.values())[-AUTOMATIC:]]


def _computed(node: fx.Node) -> bool:
    return node.op == "call_function" and any(n.op == "call_function" for n in node.users)

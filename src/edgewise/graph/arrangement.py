"""How the axes of a value lie in the tensor that holds it: permutes and reshapes as bookkeeping.

Every axis is a product of atoms, in row-major order. A tensor of shape (n, c, h, w) that stands
for the flattened channels-last value (n, h*w*c) is ``stored`` as ``((n,), (c,), (h,), (w,))`` and
has the ``axes`` ``((n,), (h, w, c))``; an axis of size 1 has no atoms. So a permute only reorders
`axes`, a reshape only regroups them, and memory is touched where an operator asks for it
(`steps`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain, count

__all__ = [
    "Arrangement",
    "Atom",
    "Axes",
    "Size",
    "joined",
    "product",
    "size_of",
    "steps",
    "unified",
]

# A size at batch 2 and at batch 3: equal numbers are fixed, (2 k, 3 k) follows the batch.
Size = tuple[int, int]
ONE: Size = (1, 1)

_numbers = count()


@dataclass(frozen=True)
class Atom:
    """A factor of an axis; equal to itself only, whatever its size."""

    size: Size = field(compare=False)
    number: int = field(default_factory=lambda: next(_numbers))


Axes = tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True)
class Arrangement:
    """The axes of a tensor, and those of the value that it holds, made of the same atoms."""

    stored: Axes
    axes: Axes

    @classmethod
    def plain(cls, sizes: Iterable[Size]) -> Arrangement:
        """Held as it is."""
        axes = tuple(() if size == ONE else (Atom(size),) for size in sizes)
        return cls(axes, axes)

    @property
    def is_plain(self) -> bool:
        return self.stored == self.axes

    def permuted(self, order: Sequence[int]) -> Arrangement:
        return replace(self, axes=tuple(self.axes[i] for i in order))

    def reshaped(self, sizes: Sequence[Size]) -> Arrangement | None:
        """The value in another shape; None where its axes and the new ones do not factor."""
        atoms = [*chain.from_iterable(self.axes)]
        factors = _refined([a.size for a in atoms], [s for s in sizes if s != ONE])
        if factors is None:
            return None
        new = self._split(atoms, factors)
        pieces = iter([*chain.from_iterable(new.axes)])
        axes = []
        for size in sizes:
            axis: tuple[Atom, ...] = ()
            while size_of(axis) != size:
                axis = (*axis, next(pieces))
            axes.append(axis)
        return replace(new, axes=tuple(axes))

    def along(self, axis: int) -> int | None:
        """The stored axis that is this axis of the value; None where it lies otherwise."""
        axis %= len(self.axes)
        if self.axes[axis]:
            return self.stored.index(self.axes[axis]) if self.axes[axis] in self.stored else None
        ones = [k for k, stored in enumerate(self.stored) if not stored]
        turn = self.axes[:axis].count(())
        return ones[turn] if turn < len(ones) else None

    def with_axis(self, axis: int, stored: int, size: Size) -> Arrangement:
        """The same with one axis (lying at `stored`) of another size."""
        new = () if size == ONE else (Atom(size),)
        axis %= len(self.axes)
        return Arrangement(
            (*self.stored[:stored], new, *self.stored[stored + 1 :]),
            (*self.axes[:axis], new, *self.axes[axis + 1 :]),
        )

    def without(self, axes: Iterable[int], stored: Iterable[int]) -> Arrangement:
        """The same less these axes (lying at `stored`)."""
        gone, gone_stored = {axis % len(self.axes) for axis in axes}, set(stored)
        return Arrangement(
            tuple(a for k, a in enumerate(self.stored) if k not in gone_stored),
            tuple(a for k, a in enumerate(self.axes) if k not in gone),
        )

    def _split(self, atoms: Sequence[Atom], factors: Sequence[Size]) -> Arrangement:
        """The same with these atoms split into the factors, in order."""
        rest = iter(factors)
        parts: dict[Atom, tuple[Atom, ...]] = {}
        for atom in atoms:
            found: tuple[Atom, ...] = ()
            while size_of(found) != atom.size:
                found = (*found, Atom(next(rest)))
            parts[atom] = found if len(found) > 1 else (atom,)
        return self.renamed(parts)

    def renamed(self, parts: dict[Atom, tuple[Atom, ...]]) -> Arrangement:
        """The same with other atoms in the place of these."""

        def change(axes: Axes) -> Axes:
            return tuple(
                tuple(chain.from_iterable(parts.get(atom, (atom,)) for atom in axis))
                for axis in axes
            )

        return Arrangement(change(self.stored), change(self.axes))


def unified(values: Sequence[Arrangement]) -> list[Arrangement] | None:
    """Values that broadcast against each other, written with the same atoms.

    Shorter ones get axes of size 1 in front. None where their axes do not factor alike.
    """
    rank = max(len(value.axes) for value in values)
    values = [replace(v, axes=((),) * (rank - len(v.axes)) + v.axes) for v in values]
    for axis in range(rank):
        wide = [v for v in values if v.axes[axis]]
        factors = reduce(
            lambda have, v: have and _refined(have, [a.size for a in v.axes[axis]]),
            wide[1:],
            [a.size for a in wide[0].axes[axis]] if wide else [],
        )
        if factors is None:
            return None
        shared = [Atom(size) for size in factors]
        values = [_with_atoms(v, axis, shared) if v.axes[axis] else v for v in values]
    return values


def joined(values: Sequence[Arrangement], axis: int) -> list[Arrangement] | None:
    """Values to be concatenated, written with the same atoms, `axis` as one atom in each.

    None where an operand does not hold that axis by itself, or the others do not factor alike.
    """
    axis %= len(values[0].axes)
    at = [value.along(axis) for value in values]
    if None in at:
        return None
    sizes = [size_of(value.axes[axis]) for value in values]
    # One size for all, so that they can be unified; then each its own again.
    alike = [v.with_axis(axis, k, (0, 0)) for v, k in zip(values, at, strict=True)]
    found = unified(alike)
    if found is None:
        return None
    (shared,) = found[0].axes[axis]
    return [
        value.renamed({shared: (replace(shared, size=size),)})
        for value, size in zip(found, sizes, strict=True)
    ]


def _with_atoms(value: Arrangement, axis: int, shared: list[Atom]) -> Arrangement:
    rest = iter(shared)
    parts = {}
    for atom in value.axes[axis]:
        found: tuple[Atom, ...] = (next(rest),)
        while size_of(found) != atom.size:
            found = (*found, next(rest))
        parts[atom] = found
    return value.renamed(parts)


def steps(stored: Axes, target: Axes) -> list[tuple[str, Axes | tuple[int, ...]]]:
    """The fewest reshapes (to axes) and permutes (an order) from one way of storing to another."""
    flat, wanted = [*chain.from_iterable(stored)], [*chain.from_iterable(target)]
    if flat == wanted:
        return [] if stored == target else [("reshape", target)]
    if Counter(stored) == Counter(target):
        left = list(enumerate(stored))
        order = []
        for axis in target:
            k = next(i for i, (_, have) in enumerate(left) if have == axis)
            order.append(left.pop(k)[0])
        return [("permute", tuple(order))]
    place = {atom: i for i, atom in enumerate(wanted)}
    runs: list[tuple[Atom, ...]] = []
    for atom in flat:
        if runs and place[atom] == place[runs[-1][-1]] + 1:
            runs[-1] = (*runs[-1], atom)
        else:
            runs.append((atom,))
    order = tuple(sorted(range(len(runs)), key=lambda i: place[runs[i][0]]))
    turned = tuple(runs[i] for i in order)
    found: list[tuple[str, Axes | tuple[int, ...]]] = [("permute", order)]
    if tuple(runs) != stored:
        found.insert(0, ("reshape", tuple(runs)))
    if turned != target:
        found.append(("reshape", target))
    return found


def product(sizes: Iterable[Size]) -> Size:
    return reduce(lambda a, b: (a[0] * b[0], a[1] * b[1]), sizes, ONE)


def size_of(axis: Iterable[Atom]) -> Size:
    return product(atom.size for atom in axis)


def _refined(a: Sequence[Size], b: Sequence[Size]) -> list[Size] | None:
    """The coarsest factors of which both are products, in order; None where there are none."""
    left, right = list(a)[::-1], list(b)[::-1]
    found = []
    while left and right:
        one, other = left.pop(), right.pop()
        if one == other:
            found.append(one)
        elif rest := _quotient(one, other):
            found.append(other)
            left.append(rest)
        elif rest := _quotient(other, one):
            found.append(one)
            right.append(rest)
        else:
            return None
    return None if left or right else found


def _quotient(a: Size, b: Size) -> Size | None:
    """a / b where that is a size."""
    if 0 in b or a[0] % b[0] or a[1] % b[1]:
        return None
    found = (a[0] // b[0], a[1] // b[1])
    return found if found[0] == found[1] or 3 * found[0] == 2 * found[1] else None

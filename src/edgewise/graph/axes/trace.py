"""What the rules write down: which positions of which axes are one channel, and which are fixed.

Every axis of every tensor is an array of integers, one a position. Positions with the same number
belong to the same channel; a negative number says that the position cannot be cut, and why. A rule
gives the arrays of its results, mostly those of its inputs moved about, and notes what must be
equal (`Trace.same`), what is fixed (`Trace.freeze`), and what is split or merged
(`Trace.product`). Nothing is decided here: `products.settle` does that for the whole graph at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import fx

__all__ = ["Axes", "Product", "Trace"]

# One array of numbers an axis.
Axes = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Product:
    """An axis seen as several: position (i, j, ...) of `whole` has position i, j, ... of each.

    One of the factors can be cut, the others then are fixed.

    Attributes:
        whole: int64, one axis a factor.
        factors: the numbers of each factor, outermost first.
        where: the node that makes it.
        largest: whether the longest factor is preferred, rather than the outermost.
    """

    whole: np.ndarray
    factors: tuple[np.ndarray, ...]
    where: str
    largest: bool = False


@dataclass(eq=False)
class Trace:
    """The numbers of all values of a graph, and what is known about them.

    Attributes:
        shapes: the shape of every tensor in the graph (a tuple of shapes for several results).
        values: the axes of every tensor, filled by the rules.
        parameters: the axes of every parameter and buffer, by name.
        weights: the parameters of two or more axes; a group touches one at least.
        inputs: axes of parameters along which their operator sums: (name, axis).
        count: how many numbers were given out.
        reasons: why positions are fixed; the number ``-1 - i`` stands for the i-th.
        unfollowed: layers with an operator that has no rule, each with the reason.
    """

    shapes: dict[fx.Node, tuple]
    values: dict[fx.Node, Axes | tuple[Axes, ...]] = field(default_factory=dict)
    parameters: dict[str, Axes] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    inputs: dict[tuple[str, int], None] = field(default_factory=dict)
    count: int = 0
    reasons: list[str] = field(default_factory=list)
    equal: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    fixed: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    unfollowed: dict[str, str] = field(default_factory=dict)
    _reason_numbers: dict[str, int] = field(default_factory=dict)
    _frozen: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def axes(self, node: fx.Node) -> Axes:
        """The axes of a value that is one tensor."""
        return self.values[node]

    def fresh(self, size: int) -> np.ndarray:
        """`size` new numbers."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def frozen(self, size: int, why: str) -> np.ndarray:
        """An axis that cannot be cut (no memory is taken for it)."""
        if why not in self._reason_numbers:
            self.reasons.append(why)
            self._reason_numbers[why] = -len(self.reasons)
        key = self._reason_numbers[why], size
        if key not in self._frozen:
            self._frozen[key] = np.broadcast_to(np.int64(key[0]), (size,))
        return self._frozen[key]

    def freeze(self, ids: np.ndarray, why: str) -> None:
        """Fix what is not fixed yet."""
        if not is_frozen(ids):
            self._fix(ids, self.frozen(ids.size, why))

    def same(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Make two arrays one, position by position (they may broadcast); gives the result."""
        if a is b:
            return a
        if a.shape != b.shape:
            a, b = np.broadcast_arrays(a, b)
        if is_frozen(a):
            if not is_frozen(b):
                self._fix(b, a)
            return a
        if is_frozen(b):
            self._fix(a, b)
            return b
        if a.min() >= 0 and b.min() >= 0:
            self.equal.append((a.ravel(), b.ravel()))
            return a
        both = (a >= 0) & (b >= 0)
        self.equal.append((a[both], b[both]))
        self._fix(a, b)
        self._fix(b, a)
        return np.where(a >= 0, a, b)

    def product(
        self, whole: np.ndarray, factors: Sequence[np.ndarray], where: str, largest: bool = False
    ) -> None:
        """Note that the axis `whole` is split into, or merged from, `factors`."""
        shape = tuple(len(f) for f in factors)
        self.products.append(Product(whole.reshape(shape), tuple(factors), where, largest))

    def consume(self, node: object, axis: int) -> None:
        """Note that an operator sums over this axis of a parameter."""
        if isinstance(node, fx.Node) and node.op == "get_attr":
            self.inputs[node.target, axis] = None

    def _fix(self, ids: np.ndarray, reasons: np.ndarray) -> None:
        at = (ids >= 0) & (reasons < 0)
        if at.any():
            self.fixed.append((ids[at], reasons[at]))


def is_frozen(ids: np.ndarray) -> bool:
    """Whether no position can be cut."""
    if ids.size == 0:
        return True
    return bool(ids[0] < 0) if ids.ndim == 1 and ids.strides[0] == 0 else bool((ids < 0).all())

"""Where the axes of a value lie in the memory of the tensor that holds it.

A Program counts axes as PyTorch does (images are N, C, H, W); a file may hold the same numbers in
another order (N, H, W, C), with axes merged, split or of size one left out. Each axis is described
as strides are: a tuple of atoms ``(size, stride)``, major first, `stride` counted in elements of
the densely packed tensor; an axis of size 1 has no atom. ``permute`` and most ``reshape`` are then
arithmetic on these tuples and move nothing; memory is reordered only where an operator needs it.

A `Frame` names, for each dimension of the held tensor, the axis that lies there; ``None`` stands
for a dimension of size 1 that belongs to no axis. An image held channels-last has the frame
``(0, 2, 3, 1)``; a signal (N, C, W) held as an image of height one has ``(0, None, 2, 1)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "Axes",
    "Frame",
    "axes_of",
    "channels_last",
    "complete",
    "frame_of",
    "held_shape",
    "minor",
    "natural",
    "reorder",
    "reshape",
]

Axis = tuple[tuple[int, int], ...]
Axes = tuple[Axis, ...]
Frame = tuple[int | None, ...]


def channels_last(rank: int) -> Frame:
    """The order of axes N, spatial..., C for a value with axes N, C, spatial..."""
    return (0, *range(2, rank), 1)


def held_shape(shape: Sequence[int], frame: Frame) -> tuple[int, ...]:
    """The shape of the tensor that holds a value of this shape in this frame."""
    return tuple(1 if axis is None else shape[axis] for axis in frame)


def axes_of(shape: Sequence[int], frame: Frame) -> Axes:
    """Where the axes lie in a tensor that holds them in this frame."""
    axes: list[Axis] = [()] * len(shape)
    strides = _row_major(held_shape(shape, frame))
    for axis, stride in zip(frame, strides, strict=True):
        if axis is not None and shape[axis] != 1:
            axes[axis] = ((shape[axis], stride),)
    return tuple(axes)


def reshape(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Where the axes of the reshaped value lie, or None when no strides describe that."""
    atoms = list(_merged([atom for axis in axes for atom in axis]))
    result = []
    for size in shape:
        axis: list[tuple[int, int]] = []
        while size > 1:
            have, stride = atoms.pop(0)
            if size % have == 0:
                axis.append((have, stride))
                size //= have
            elif have % size == 0:
                axis.append((size, stride * (have // size)))
                atoms.insert(0, (have // size, stride))
                size = 1
            else:
                return None
        result.append(_merged(axis))
    return tuple(result)


def frame_of(axes: Axes, held: Sequence[int]) -> Frame | None:
    """The frame of a held tensor; None when an axis is not one whole dimension of it."""
    where = {
        (size, stride): dimension
        for dimension, (size, stride) in enumerate(zip(held, _row_major(held), strict=True))
        if size != 1
    }
    frame: list[int | None] = [None] * len(held)
    for k, axis in enumerate(axes):
        if axis:
            if len(axis) > 1 or axis[0] not in where:
                return None
            frame[where[axis[0]]] = k
    ones = (k for k, axis in enumerate(axes) if not axis)
    return tuple(next(ones, None) if n == 1 else k for n, k in zip(held, frame, strict=True))


def natural(axes: Axes) -> Frame:
    """A frame with every axis, in the order in which the axes' major parts lie in memory."""
    moving = sorted((k for k, axis in enumerate(axes) if axis), key=lambda k: -axes[k][0][1])
    return complete(tuple(moving), len(axes))


def complete(frame: Frame, rank: int) -> Frame:
    """The frame with every axis below `rank`: a missing one stands before the next higher one."""
    order = [axis for axis in frame if axis is not None]
    for axis in range(rank):
        if axis not in order:
            higher = min((k for k in order if k > axis), default=None)
            at = len(order) if higher is None else order.index(higher)
            order.insert(at if axis else 0, axis)
    return tuple(order)


def minor(axes: Axes, k: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """How axis `k` fills the innermost memory, when it does so all by itself.

    Returns:
        The sizes of its atoms, major first, and the order in which memory has them; None when
        other axes lie between or below them.
    """
    order = tuple(sorted(range(len(axes[k])), key=lambda i: -axes[k][i][1]))
    stride = 1
    for i in reversed(order):
        if axes[k][i][1] != stride:
            return None
        stride *= axes[k][i][0]
    return tuple(size for size, _ in axes[k]), order


def reorder(axes: Axes, frame: Frame) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The fewest dimensions whose transposition brings the axes into the order of `frame`.

    Returns:
        The shape to read memory as, and the permutation; (0, 1, ...) when nothing moves.
    """
    wanted = list(_merged([atom for k in frame if k is not None for atom in axes[k]]))
    present = sorted(wanted, key=lambda atom: -atom[1])
    return tuple(size for size, _ in present), tuple(present.index(atom) for atom in wanted)


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def _merged(atoms: Sequence[tuple[int, int]]) -> Axis:
    """Neighbours that lie next to each other in memory become one."""
    merged: list[tuple[int, int]] = []
    for size, stride in atoms:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return tuple(merged)

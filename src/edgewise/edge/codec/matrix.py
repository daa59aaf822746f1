"""Contexts: how large each weight is expected to be, from those of its tensor that are known.

A tensor is coded as a matrix in planes: plane t holds the columns t, t + period, ...; for a
convolution these are the weights at one place of every kernel. A plane's magnitudes are foretold
from the planes before it, by what belongs to the same kernel, drawn towards what its row (an
output channel) and its column (an input channel) have on average, as if both were independent:

    expected = (ALPHA * row * column / mean + sum) / (ALPHA + t)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .tables import SCALE, Tables, class_of

__all__ = ["code_matrix"]

ALPHA = 6  # how many weights of the kernel the row and the column stand for
BETA = 4  # how many weights the tensor's mean stands for in theirs
FLOOR = 1 / 64  # the least mean
SIZES = np.abs(np.arange(256) - 128).astype(np.uint8)  # magnitude of each symbol


def code_matrix(
    step: Callable[[np.ndarray, Tables, int, int, int], np.ndarray],
    tables: Tables,
    rows: int,
    columns: int,
    period: int,
    mean: float,
) -> None:
    """Go through the planes of a matrix, asking `step` to code one or several.

    Args:
        step: takes the classes of the planes' symbols (flat: plane by plane, row by row), the
            tables, the first plane's number, how many planes and how many columns each has; gives
            their symbols, uint8, 128 for zero.
        mean: of the magnitudes.
    """
    width = -(-columns // period)
    total = np.zeros((rows, width), np.float32)
    by_row, by_column = np.zeros(rows), np.zeros(width)
    seen_row, seen_column = 0, np.zeros(width)
    mean = max(mean, FLOOR)
    for t, count, wide in _steps(period, columns):
        row = (BETA * mean + by_row) / (BETA + seen_row)
        column = (BETA * mean + by_column[:wide]) / (BETA + seen_column[:wide])
        factor = SCALE / (ALPHA + t)
        row = (row * (ALPHA * factor / mean)).astype(np.float32)
        expected = total[:, :wide] * np.float32(factor)
        expected += row[:, None] * column.astype(np.float32)
        base = class_of(expected.astype(np.int32).reshape(-1))
        if count > 1:
            base = np.tile(base, count)
        symbols = step(base, tables, t, count, wide)
        tables.update(base, symbols)
        if t + count == min(period, columns):
            return
        size = SIZES.take(symbols).reshape(count, rows, wide)
        size = size[0] if count == 1 else size.sum(0, dtype=np.uint16)
        total[:, :wide] += size
        by_row += size.sum(1, dtype=np.int32)
        by_column[:wide] += size.sum(0, dtype=np.int32)
        seen_row += wide * count
        seen_column[:wide] += rows * count


def _steps(period: int, columns: int) -> Iterator[tuple[int, int, int]]:
    """The first plane, how many and their columns: as many at once as were coded before.

    So a plane knows at least half of what it could, and small tensors take few steps.
    """
    t, end = 0, min(period, columns)
    while t < end:
        wide = -(-(columns - t) // period)
        as_wide = end if columns % period == 0 or t >= columns % period else columns % period
        count = min(max(1, t), as_wide - t)
        yield t, count, wide
        t += count

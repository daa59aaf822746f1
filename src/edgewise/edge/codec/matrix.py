"""Contexts: how large each weight is expected to be, from those of its tensor that are known.

A tensor is coded as a matrix in planes: plane t holds the columns t, t + period, ...; for a
convolution these are the weights at one place of every kernel. A plane's magnitudes are foretold
from the planes before it, by what belongs to the same kernel, drawn towards what its row (an
output channel) and its column (an input channel) have on average, as if both were independent:

    expected = (ALPHA * row * column / mean + sum) / (ALPHA + t)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .tables import SCALE, Tables, class_of

__all__ = ["code_matrix"]

ALPHA = 6  # how many weights of the kernel the row and the column stand for
BETA = 4  # how many weights the tensor's mean stands for in theirs
FLOOR = 1 / 64  # the least mean
SIZES = np.abs(np.arange(256) - 128).astype(np.uint8)  # magnitude of each symbol


def code_matrix(
    step: Callable[[np.ndarray, Tables, int, int], np.ndarray],
    tables: Tables,
    rows: int,
    columns: int,
    period: int,
    mean: float,
) -> None:
    """Go through the planes of a matrix, asking `step` to code each.

    Args:
        step: takes the classes of a plane's symbols (flat, row by row), the tables, the plane's
            number and how many columns it has; gives its symbols, uint8, 128 for zero.
        mean: of the magnitudes.
    """
    width = -(-columns // period)
    total = np.zeros((rows, width), np.float32)
    by_row, by_column = np.zeros(rows), np.zeros(width)
    seen_row, seen_column = 0, np.zeros(width)
    mean = max(mean, FLOOR)
    for t in range(min(period, columns)):
        wide = -(-(columns - t) // period)
        row = (BETA * mean + by_row) / (BETA + seen_row)
        column = (BETA * mean + by_column[:wide]) / (BETA + seen_column[:wide])
        factor = SCALE / (ALPHA + t)
        row = (row * (ALPHA * factor / mean)).astype(np.float32)
        expected = total[:, :wide] * np.float32(factor)
        expected += row[:, None] * column.astype(np.float32)
        base = class_of(expected.astype(np.int32).reshape(-1))
        symbols = step(base, tables, t, wide)
        tables.update(base, symbols)
        if t + 1 == min(period, columns):
            return
        size = SIZES.take(symbols).reshape(rows, wide)
        total[:, :wide] += size
        by_row += size.sum(1, dtype=np.int32)
        by_column[:wide] += size.sum(0, dtype=np.int32)
        seen_row += wide
        seen_column[:wide] += rows

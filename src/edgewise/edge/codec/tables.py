"""Frequencies of small integers, learned from what was coded before, for classes of magnitude.

The class of a symbol is how large it is expected to be, three classes for each doubling. Every
class begins with the two-sided geometric distribution of its mean magnitude, so that a small
tensor pays for no table, and then counts. All of it is integers, or floating-point operations that
IEEE 754 rounds alike everywhere: encoder and decoder must come to the same tables.
"""

from __future__ import annotations

import numpy as np

from .rans import BITS

__all__ = ["CLASSES", "SCALE", "Tables", "class_of"]

CLASSES = 24
SCALE = 16  # of an expected magnitude as it is looked up
SEEN = 16  # what one symbol counts
PRIOR = 64 * SEEN  # what the distribution that a class begins with counts
FADE = 3  # at each new tensor a count loses one part of 2 to this power
FIRST = 2048  # symbols until the tables are made anew, then when they are GROWTH times as many
GROWTH = 4
UNCOUNTED = 1 << 16  # symbols that may wait to be counted
OFFSET = 128  # symbol of zero


def _bounds() -> np.ndarray:
    """Least expected magnitude of each class, times SCALE: 2^(k/3) - 1, to a thousandth."""
    cube = (1000, 1260, 1587)  # thousandths of 2^(0/3), 2^(1/3), 2^(2/3)
    return np.array([(cube[k % 3] << (k // 3)) - 1000 for k in range(CLASSES)]) / 1000


_BOUNDS = _bounds()
_LARGEST = int(_BOUNDS[-1]) + 1
_CLASS_OF = (np.searchsorted(_BOUNDS, np.arange(_LARGEST + 1), side="right") - 1).astype(np.int32)
_BASE_OF = _CLASS_OF << BITS


def class_of(expected: np.ndarray) -> np.ndarray:
    """Where the class begins in `Tables.symbols`, of expected magnitudes times `SCALE`; int32."""
    return _BASE_OF.take(expected, mode="clip")


def _priors() -> np.ndarray:
    """Counts that the classes begin with, shape (CLASSES, 256)."""
    edges = np.append(_BOUNDS, 2 * _BOUNDS[-1])
    mean = ((edges[:-1] + edges[1:]) / 2 / SCALE)[:, None]
    ratio = (np.sqrt(1 + mean * mean) - 1) / mean  # E|v| = 2 r / (1 - r^2)
    powers = np.cumprod(np.concatenate([np.ones_like(mean), np.repeat(ratio, 128, 1)], 1), axis=1)
    weights = powers[:, np.abs(np.arange(256) - OFFSET)]
    total = np.cumsum(weights, 1)[:, -1:]
    return np.floor(weights / total * PRIOR).astype(np.int64)


class Tables:
    """One table a class, over the symbols that the tensor at hand has.

    Attributes:
        symbols: uint8, of each slot of each class, flat.
        freq: uint32, of each symbol of each class, flat; 0 for those that do not occur.
        start: uint32, likewise, its first slot.
    """

    def __init__(self) -> None:
        self._counts = _priors()
        self._priors = self._counts.copy()
        self._low = self._high = -1
        self._waiting: list[np.ndarray] = []
        self._uncounted = 0

    def begin(self, low: int, high: int) -> None:
        """Turn to a new tensor with symbols in [low, high]."""
        self._count()
        faded = self._counts - self._priors
        self._counts = self._priors + faded - (faded >> FADE)
        same = (low, high) == (self._low, self._high)
        self._low, self._high = low, high
        self._seen, self._due = 0, FIRST
        if not same:  # else the last tables do until there are new counts
            self._make()

    def update(self, base: np.ndarray, symbols: np.ndarray) -> None:
        """Take note of symbols that were coded."""
        self._waiting.append((base >> (BITS - 8)) + symbols)
        self._uncounted += len(symbols)
        self._seen += len(symbols)
        if self._seen >= self._due:
            self._due = GROWTH * self._seen
            self._count()
            self._make()
        elif self._uncounted >= UNCOUNTED:
            self._count()

    def _count(self) -> None:
        """Count the symbols that wait: many at once cost little more than few."""
        if self._waiting:
            counted = np.bincount(np.concatenate(self._waiting), minlength=CLASSES * 256)
            self._counts += SEEN * counted.reshape(CLASSES, 256)
            self._waiting.clear()
            self._uncounted = 0

    def _make(self) -> None:
        """Frequencies of at least 1 that add up to 2^BITS."""
        within = slice(self._low, self._high + 1)
        counts = self._counts[:, within]
        width = counts.shape[1]
        total = counts.sum(1, keepdims=True)
        # Divided as doubles, which is several times faster and, below 2^53, as exact.
        share = counts * ((1 << BITS) - width) / np.maximum(total, 1)
        freq = 1 + share.astype(np.int64)
        freq[np.arange(CLASSES), counts.argmax(1)] += (1 << BITS) - freq.sum(1)
        self.freq, self.start = (np.zeros((CLASSES, 256), np.uint32) for _ in range(2))
        self.freq[:, within] = freq
        self.start[:, within] = np.cumsum(freq, 1) - freq
        self.freq, self.start = self.freq.ravel(), self.start.ravel()
        values = np.arange(self._low, self._high + 1).astype(np.uint8)
        self.symbols = np.repeat(np.tile(values, CLASSES), freq.ravel())

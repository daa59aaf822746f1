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
FIRST = 512  # symbols until the tables are made anew, then when they grew by a half
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

    def begin(self, low: int, high: int) -> None:
        """Turn to a new tensor with symbols in [low, high]."""
        faded = self._counts - self._priors
        self._counts = self._priors + faded - (faded >> FADE)
        self._low, self._high = low, high
        self._since, self._seen = 0, FIRST
        self._make()

    def update(self, base: np.ndarray, symbols: np.ndarray) -> None:
        """Count symbols that were coded."""
        keys = (base >> (BITS - 8)) + symbols
        self._counts += SEEN * np.bincount(keys, minlength=CLASSES * 256).reshape(CLASSES, 256)
        self._since += len(symbols)
        self._seen += len(symbols)
        if self._since >= max(FIRST, self._seen >> 1):
            self._since = 0
            self._make()

    def _make(self) -> None:
        """Frequencies of at least 1 that add up to 2^BITS."""
        counts = self._counts[:, self._low : self._high + 1]
        width = counts.shape[1]
        total = counts.sum(1, keepdims=True)
        freq = 1 + counts * ((1 << BITS) - width) // np.maximum(total, 1)
        freq[np.arange(CLASSES), counts.argmax(1)] += (1 << BITS) - freq.sum(1)
        whole = np.zeros((CLASSES, 256), np.int64)
        whole[:, self._low : self._high + 1] = freq
        start = np.cumsum(whole, 1) - whole
        self.freq, self.start = whole.ravel().astype(np.uint32), start.ravel().astype(np.uint32)
        self.symbols = np.repeat(np.tile(np.arange(256, dtype=np.uint8), CLASSES), whole.ravel())

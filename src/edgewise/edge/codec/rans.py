"""Interleaved range asymmetric numeral systems: many lanes, one numpy operation for all of them.

Each lane has a state x in [2^16, 2^32). To decode, its low bits choose a symbol, and it takes up a
word of 16 bits when it falls below 2^16; all lanes share one stream of words. To encode is the
same backwards, so the encoder first collects what there is to code.

Duda, "Asymmetric numeral systems" (arXiv 1311.2540), section 3.3; interleaving after Giesen,
"Interleaved entropy coders" (arXiv 1402.3392).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import ModelError

__all__ = ["BITS", "Decoder", "Encoder", "lanes_for"]

BITS = 14  # of a probability
LOW = 1 << 16
MOST_LANES = 1 << 13
DEAREST = 100  # lanes cost at most one part of so many
REFILL = 1 << 17  # bytes


def lanes_for(symbols: int, size: float) -> int:
    """How many lanes: each costs 2 bytes, few are slow.

    Args:
        symbols: that are coded.
        size: bytes that they take; the lanes may cost a hundredth of that.
    """
    lanes = 16
    while lanes < MOST_LANES and lanes * 512 < symbols and lanes * 2 * 2 <= size / DEAREST:
        lanes *= 2
    return lanes


class Encoder:
    """Collects frequencies and starts of symbols, in order, and codes them at the end."""

    def __init__(self) -> None:
        self._put: list[tuple[np.ndarray, np.ndarray]] = []

    def put(self, freq: np.ndarray, start: np.ndarray) -> None:
        """Add symbols, in order; uint16, the frequencies of each class adding up to 2^`BITS`."""
        self._put.append((freq, start))

    def finish(self) -> tuple[int, bytes]:
        """The lanes; their states, 4 bytes each, and the words, little-endian."""
        symbols = sum(len(freq) for freq, _ in self._put)
        bits = sum(BITS * len(freq) - float(np.log2(freq).sum()) for freq, _ in self._put)
        lanes = lanes_for(symbols, bits / 8)
        x = np.full(lanes, LOW, np.uint64)
        words = []
        for all_freq, all_start in reversed(self._put):
            for at in reversed(range(0, len(all_freq), lanes)):
                f = all_freq[at : at + lanes].astype(np.uint64)
                state = x[: len(f)]
                over = state >= f << np.uint64(32 - BITS)
                words.append((state[over] & np.uint64(LOW - 1)).astype("<u2"))
                state = np.where(over, state >> np.uint64(16), state)
                start = all_start[at : at + lanes]
                x[: len(f)] = ((state // f) << np.uint64(BITS)) + state % f + start
        return lanes, x.astype("<u4").tobytes() + b"".join(w.tobytes() for w in reversed(words))


class Decoder:
    """Takes symbols out of what `Encoder` made.

    Args:
        read: gives so many bytes from an offset on.
        at: where the coded bytes begin,
        end: and end.
    """

    def __init__(self, read: Callable[[int, int], bytes], at: int, end: int, lanes: int):
        self._read, self._at, self._end, self._lanes = read, at, end, lanes
        states = self._bytes(4 * lanes)
        if len(states) < 4 * lanes:
            raise ModelError("its coded data end too early: it was changed")
        self._x = np.frombuffer(states, "<u4").astype(np.uint32)
        self._words = np.empty(0, np.uint32)
        self._next = 0

    def take(
        self, base: np.ndarray, symbols: np.ndarray, freq: np.ndarray, start: np.ndarray
    ) -> np.ndarray:
        """The next `len(base)` symbols.

        Args:
            base: int32, where each symbol's class begins in `symbols`, a multiple of 2^`BITS`.
            symbols: uint8, the symbol of each slot of each class.
            freq: uint32, 256 for each class.
            start: uint32, likewise, the first slot of each symbol.
        """
        out = np.empty(len(base), np.uint8)
        mask, low = np.uint32((1 << BITS) - 1), np.uint32(LOW)
        bits, sixteen = np.uint32(BITS), np.uint32(16)
        keys = base >> (BITS - 8)
        for at in range(0, len(base), self._lanes):
            rows = base[at : at + self._lanes]
            x = self._x[: len(rows)]
            slot = x & mask
            symbol = out[at : at + len(rows)]
            symbols.take(rows + slot.view(np.int32), out=symbol, mode="clip")
            key = keys[at : at + len(rows)] + symbol
            x >>= bits
            x *= freq.take(key)
            x += slot
            x -= start.take(key)
            (empty,) = (x < low).nonzero()
            if empty.size:
                x[empty] = (x[empty] << sixteen) | self._more(empty.size)
        return out

    def finish(self) -> None:
        """Check that everything was taken.

        Raises:
            ModelError: it was not, or the states are not what the encoder began with.
        """
        left = self._next < len(self._words) or self._at < self._end
        if left or (self._x != LOW).any():
            raise ModelError("its coded data do not end as they should: it was changed")

    def _more(self, count: int) -> np.ndarray:
        if self._next + count > len(self._words):
            fresh = np.frombuffer(self._bytes(REFILL), "<u2").astype(np.uint32)
            self._words = np.concatenate([self._words[self._next :], fresh])
            self._next = 0
            if count > len(self._words):
                raise ModelError("its coded data end too early: it was changed")
        words = self._words[self._next : self._next + count]
        self._next += count
        return words

    def _bytes(self, most: int) -> bytes:
        data = self._read(self._at, min(most, self._end - self._at))
        self._at += len(data)
        return data[: len(data) // 2 * 2]

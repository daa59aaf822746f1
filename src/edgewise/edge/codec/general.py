"""The general coder, for all that is no tensor: LZMA2 without the wrapping that xz puts around."""

from __future__ import annotations

import lzma
from collections.abc import Callable

from ...errors import ModelError

__all__ = ["Unpacker", "pack", "unpack"]

# The decoder takes as much memory as this dictionary, whatever the input says.
FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20},)
CHUNK = 1 << 16


def pack(data: bytes) -> bytes:
    """Compress; nothing stays nothing."""
    return lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS) if data else b""


def unpack(data: bytes, size: int) -> bytes:
    """The `size` bytes that were packed.

    Raises:
        ModelError: there are fewer, or the data is damaged.
    """
    return Unpacker(lambda at, n: data[at : at + n], 0, len(data)).take(size)


class Unpacker:
    """Packed bytes, unpacked as they are asked for.

    Args:
        read: gives so many bytes from an offset on.
        at: where the packed bytes begin,
        size: and how many there are.
    """

    def __init__(self, read: Callable[[int, int], bytes], at: int, size: int):
        self._read, self._at, self._end = read, at, at + size
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)

    def take(self, size: int) -> bytes:
        """The next `size` bytes.

        Raises:
            ModelError: there are fewer, or the data is damaged.
        """
        parts, left = [], size
        while left:
            part = self._more(left)
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _more(self, most: int) -> bytes:
        """At least one byte, at most so many."""
        while True:
            fresh = b""
            if self._decoder.eof or (self._decoder.needs_input and self._at >= self._end):
                raise ModelError("its coded data end too early: it was changed")
            if self._decoder.needs_input:
                fresh = self._read(self._at, min(CHUNK, self._end - self._at))
                self._at += len(fresh)
                if not fresh:
                    raise ModelError("its coded data end too early: it was changed")
            try:
                part = self._decoder.decompress(fresh, most)
            except lzma.LZMAError:
                raise ModelError("its coded data are damaged: it was changed") from None
            if part:
                return part

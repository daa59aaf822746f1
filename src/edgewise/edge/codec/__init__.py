"""A lossless codec for the files of models: each tensor by what it holds, the rest by LZMA.

The host says where the tensors are; the device needs no parser, only numpy. Format of a coded
file, little-endian::

    u8 format, u32 bytes of the table, u32 bytes of the packed table, u32 bytes of the packed rest
    the table, packed: the pieces in their order
    the rest, packed: the bytes of all pieces that are no tensor, one after the other

Memory is bounded by the largest piece, and a piece is not longer than `LARGEST_PIECE`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ...errors import ModelError
from .general import Unpacker, pack, unpack

__all__ = ["Segment", "decode", "encode"]

FORMAT = 1
HEAD = struct.Struct("<B3I")
LARGEST_PIECE = 1 << 22  # bytes
LARGEST_TABLE = 1 << 22
REST = 0


@dataclass(frozen=True)
class Segment:
    """A tensor in a file.

    Attributes:
        offset: of its first byte.
        dtype: a numpy dtype name, or ``"int4"`` for two in a byte, the first in the low half.
        shape: C order.
        axis: the axis of the channels.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]
    axis: int = 0


class Piece(msgspec.Struct, array_like=True):
    """A stretch of the decoded file: how many bytes, and the kind of its coding."""

    size: int
    kind: int


def encode(data: bytes, segments: Sequence[Segment] = ()) -> bytes:
    """Code a file, the same bytes for the same input."""
    sizes = [min(LARGEST_PIECE, len(data) - at) for at in range(0, len(data), LARGEST_PIECE)]
    table = msgspec.msgpack.encode([Piece(size, REST) for size in sizes])
    packed, rest = pack(table), pack(data)
    return HEAD.pack(FORMAT, len(table), len(packed), len(rest)) + packed + rest


def decode(
    read: Callable[[int, int], bytes],
    size: int,
    decoded: int,
    write: Callable[[bytes], object],
    old: bytes | None = None,
) -> None:
    """Decode a file in pieces.

    Args:
        read: gives so many bytes of the coded file from an offset on.
        size: bytes of the coded file.
        decoded: bytes that it must decode to.
        write: takes them, piece by piece.
        old: the file that this one is the difference to.

    Raises:
        ModelError: the coded file is damaged, or decodes to more or fewer bytes.
    """
    if size < HEAD.size:
        raise ModelError("its coded data are cut off")
    form, table, packed, rest = HEAD.unpack(read(0, HEAD.size))
    if form != FORMAT or table > LARGEST_TABLE or HEAD.size + packed + rest > size:
        raise ModelError("its coded data do not begin as edgewise writes them")
    pieces = _table(unpack(read(HEAD.size, packed), table))
    if sum(piece.size for piece in pieces) != decoded:
        raise ModelError(f"its coded data are not of {decoded} bytes as its manifest says")
    plain = Unpacker(read, HEAD.size + packed, rest)
    for piece in pieces:
        write(plain.take(piece.size))


def _table(data: bytes) -> list[Piece]:
    try:
        pieces = msgspec.msgpack.decode(data, type=list[Piece])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ModelError(f"the table of its coded data is damaged: {error}") from None
    if any(not 0 < p.size <= LARGEST_PIECE or p.kind != REST for p in pieces):
        raise ModelError("the table of its coded data has an impossible piece")
    return pieces

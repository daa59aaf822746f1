"""The device's side of the codec: a file decoded in pieces, by numpy, in bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec
import numpy as np

from ...errors import ModelError
from .general import Unpacker, unpack
from .matrix import code_matrix
from .pieces import MIDDLE, PALETTE, RAW, REST, Part, Piece, check_piece, join, rearrange
from .rans import MOST_LANES, Decoder
from .tables import Tables

__all__ = ["FORMAT", "HEAD", "decode"]

FORMAT = 2
HEAD = struct.Struct("<BH3I")
LARGEST_TABLE = 1 << 22


def decode(
    read: Callable[[int, int], bytes],
    size: int,
    decoded: int,
    write: Callable[[bytes | np.ndarray], object],
    old: np.ndarray | None = None,
) -> None:
    """Decode a file in pieces.

    Args:
        read: gives so many bytes of the coded file from an offset on.
        size: bytes of the coded file.
        decoded: bytes that it must decode to.
        write: takes them, piece by piece.
        old: the bytes of the file that this one is the difference to.

    Raises:
        ModelError: the coded file is damaged, or decodes to more or fewer bytes.
    """
    if size < HEAD.size:
        raise ModelError("its coded data are cut off")
    form, lanes, table, packed, rest = HEAD.unpack(read(0, HEAD.size))
    begin = HEAD.size + packed + rest
    if form != FORMAT or table > LARGEST_TABLE or begin > size or lanes > MOST_LANES:
        raise ModelError("its coded data do not begin as edgewise writes them")
    pieces = _table(unpack(read(HEAD.size, packed), table))
    for piece in pieces:
        check_piece(piece, 0 if old is None else len(old))
    if not lanes and any(part.period != RAW for piece in pieces for part in piece.parts):
        raise ModelError("its coded data have no lanes to decode a tensor from: it was changed")
    if sum(piece.size for piece in pieces) != decoded:
        raise ModelError(f"its coded data are not of {decoded} bytes as its manifest says")
    plain = Unpacker(read, HEAD.size + packed, rest)
    decoder = Decoder(read, begin, size, lanes)
    tables = Tables()
    for piece in pieces:
        before = None
        if piece.base is not None:
            before = old[piece.base : piece.base + piece.size]
        write(_piece(piece, plain, decoder, tables, before))
    decoder.finish()


def _table(data: bytes) -> list[Piece]:
    try:
        return msgspec.msgpack.decode(data, type=list[Piece])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"the table of its coded data is damaged: {error}") from None


def _piece(
    piece: Piece, plain: Unpacker, decoder: Decoder, tables: Tables, old: np.ndarray | None
) -> bytes | np.ndarray:
    if piece.kind == REST:
        data = plain.take(piece.size)
        return data if old is None else np.frombuffer(data, np.uint8) + old
    values = None
    if piece.kind == PALETTE:
        count = int.from_bytes(plain.take(2), "little")
        values = np.frombuffer(plain.take(count * piece.width), f"<u{piece.width}")
    parts: list[np.ndarray] = []
    wanted = None
    for i, part in enumerate(piece.parts):
        if i == 0 and part.period != RAW:
            flat = rearrange(piece, _matrix(part, *piece.matrix, decoder, tables))
            wanted = np.flatnonzero(flat) if piece.sparse else None
        else:
            count = piece.count if wanted is None else len(wanted)
            flat = _flat(part, count, plain, decoder, tables)
            if wanted is not None:
                whole = np.zeros(piece.count, np.uint8)
                whole[wanted] = flat
                flat = whole
        parts.append(flat)
    if values is None:
        return join(piece, parts, old)
    if parts[0].max(initial=0) >= len(values):
        raise ModelError("its coded data name a value that is not in their list: it was changed")
    return values[parts[0]].view(np.uint8)


def _flat(part: Part, count: int, plain: Unpacker, decoder: Decoder, tables: Tables) -> np.ndarray:
    if part.period == RAW:
        return np.frombuffer(plain.take(count), np.uint8)
    return _matrix(part, 1, count, decoder, tables).reshape(-1) if count else np.empty(0, np.uint8)


def _matrix(part: Part, rows: int, columns: int, decoder: Decoder, tables: Tables) -> np.ndarray:
    """The numbers of one part, uint8 (rows, columns)."""
    out = np.empty((rows, columns), np.uint8)

    def step(base: np.ndarray, tables: Tables, t: int, count: int, wide: int) -> np.ndarray:
        symbols = decoder.take(base, tables.symbols, tables.freq, tables.start)
        for i, plane in enumerate(symbols.reshape(count, rows, wide)):
            out[:, t + i :: part.period] = plane
        return symbols

    tables.begin(part.low, part.high)
    code_matrix(step, tables, rows, columns, part.period, part.mean / 64)
    out += np.uint8((part.center - MIDDLE) % 256)
    return out

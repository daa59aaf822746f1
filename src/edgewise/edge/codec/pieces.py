"""Pieces: how each stretch of a file is coded, and the two ways between its bytes and symbols.

A tensor becomes parts, each a matrix of symbols of 8 bits around 128:

- of 8 bits: the numbers themselves;
- of 4 bits, two in a byte: likewise, one part;
- wider ones: the bytes of each number from the highest on. Floats are turned so that the first
  is the exponent, integers so that small ones have small bytes (-1, 1, -2 ... become 1, 2, 3 ...);
- those with at most 256 different values, such as clustered weights: the place of each in the
  sorted list of them, which goes to the rest.

A tensor of an update is coded as its difference, as integers, to the old one.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from ...errors import ModelError

__all__ = [
    "LARGEST_PIECE", "PALETTE", "REST", "Part", "Piece", "arrange", "check_piece", "join",
    "rearrange", "split",
]  # fmt: skip

LARGEST_PIECE = 1 << 19  # bytes; to decode takes four times as much
LONGEST_AXIS = LARGEST_PIECE * 2
REST, NARROW, NIBBLES, WIDE, FLOAT, PALETTE = range(6)
RAW = 0  # period of a part that went to the rest
MIDDLE = 128


class Part(msgspec.Struct, array_like=True):
    """A matrix of symbols.

    Attributes:
        period: of its planes; `RAW` when its bytes went to the rest.
        center: the number that symbol 128 stands for, modulo 256.
        low: the least symbol,
        high: and the largest.
        mean: of the distances from 128, in units of 1/64.
    """

    period: int = RAW
    center: int = 0
    low: int = 0
    high: int = 255
    mean: int = 0


class Piece(msgspec.Struct, array_like=True):
    """A stretch of the decoded file.

    Attributes:
        size: in bytes.
        kind: of its coding.
        width: bytes of a number.
        shape: of the numbers,
        order: of the axes as rows and columns are made of them,
        rows: how many of the axes, put so, are rows.
        parts: as they are coded.
        sparse: numbers of a float whose exponent is 0 are 0, and have no other parts.
        base: where in the old file the old numbers begin; None for a piece of its own.
    """

    size: int
    kind: int = REST
    width: int = 1
    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    rows: int = 0
    parts: tuple[Part, ...] = ()
    sparse: bool = False
    base: int | None = None

    @property
    def count(self) -> int:
        """Numbers in it; two for each byte of 4-bit numbers, the last perhaps for nothing."""
        return 2 * self.size if self.kind == NIBBLES else self.size // self.width

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns."""
        rows = math.prod(self.shape[axis] for axis in self.order[: self.rows])
        return rows, self.count // max(rows, 1)


def check_piece(piece: Piece, old_size: int) -> None:
    """Hold a piece from a table against bounds.

    Raises:
        ModelError: it is impossible.
    """
    possible = 0 < piece.size <= LARGEST_PIECE and REST <= piece.kind <= PALETTE
    if possible and piece.kind != REST:
        wide = piece.kind in (WIDE, FLOAT, PALETTE)
        possible = (
            piece.width in ((1, 2, 4, 8) if wide else (1,))
            and piece.size % piece.width == 0
            and 1 <= len(piece.shape) <= 8
            and all(0 < n <= LONGEST_AXIS for n in piece.shape)
            and math.prod(piece.shape) == piece.count
            and sorted(piece.order) == list(range(len(piece.shape)))
            and 0 <= piece.rows <= len(piece.shape)
            and len(piece.parts) == (piece.width if piece.kind in (WIDE, FLOAT) else 1)
            and all(_possible(part) for part in piece.parts)
            and (piece.kind != PALETTE or piece.base is None)
        )
    if piece.base is not None:
        possible = possible and 0 <= piece.base <= old_size - piece.size
    if not possible:
        raise ModelError("the table of its coded data has an impossible piece: it was changed")


def _possible(part: Part) -> bool:
    numbers = (part.center, part.low, part.high)
    return (
        0 <= part.period <= LARGEST_PIECE
        and all(0 <= n <= 255 for n in numbers)
        and part.low <= part.high
        and 0 <= part.mean <= 128 * 64
    )


def split(piece: Piece, data: np.ndarray, old: np.ndarray | None) -> list[np.ndarray]:
    """The parts of a piece's bytes: uint8, flat, in the file's order of numbers."""
    if piece.kind == NARROW:
        return [data if old is None else data - old]
    if piece.kind == NIBBLES:
        new = _unpack(data)
        return [new if old is None else (new - _unpack(old)) & 15]
    words = data.view(f"<u{piece.width}")
    if old is not None:
        words = words - old.view(words.dtype)
    bits = words.dtype.type(8 * piece.width - 1)
    if piece.kind == FLOAT and old is None:
        words = (words << words.dtype.type(1)) | (words >> bits)
    else:
        signed = words.view(f"<i{piece.width}")
        words = ((signed << 1) ^ (signed >> int(bits))).view(words.dtype)
    return list(words.view(np.uint8).reshape(-1, piece.width).T[::-1])


def join(piece: Piece, parts: list[np.ndarray], old: np.ndarray | None) -> np.ndarray:
    """The bytes of a piece from its parts: `split` backwards."""
    if piece.kind == NARROW:
        return parts[0] if old is None else parts[0] + old
    if piece.kind == NIBBLES:
        new = (parts[0] if old is None else parts[0] + _unpack(old)) & 15
        return new[::2] | (new[1::2] << 4)
    data = np.empty((piece.count, piece.width), np.uint8)
    for i, part in enumerate(parts):
        data[:, piece.width - 1 - i] = part
    words = data.reshape(-1).view(f"<u{piece.width}")
    one, bits = words.dtype.type(1), words.dtype.type(8 * piece.width - 1)
    if piece.kind == FLOAT and old is None:
        words = (words >> one) | (words << bits)
    else:
        words = (words >> one) ^ (-(words & one).view(f"<i{piece.width}")).view(words.dtype)
    if old is not None:
        words = words + old.view(words.dtype)
    return words.view(np.uint8)


def arrange(piece: Piece, part: np.ndarray) -> np.ndarray:
    """A part as a matrix."""
    shape = tuple(piece.shape)
    return np.ascontiguousarray(part.reshape(shape).transpose(piece.order)).reshape(piece.matrix)


def rearrange(piece: Piece, matrix: np.ndarray) -> np.ndarray:
    """A part in the order of the file: `arrange` backwards."""
    shape = [piece.shape[axis] for axis in piece.order]
    back = np.argsort(piece.order)
    return np.ascontiguousarray(matrix.reshape(shape).transpose(back)).reshape(-1)


def _unpack(data: np.ndarray) -> np.ndarray:
    """Two numbers of 4 bits for each byte, the low half first."""
    return np.stack([data & 15, data >> 4], 1).reshape(-1)

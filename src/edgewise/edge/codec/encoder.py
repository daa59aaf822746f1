"""The host's side of the codec: finds for each tensor the coding that makes it smallest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ...errors import InputError
from .general import pack
from .matrix import code_matrix
from .pieces import (
    FLOAT,
    LARGEST_PIECE,
    MIDDLE,
    NARROW,
    NIBBLES,
    PALETTE,
    RAW,
    REST,
    WIDE,
    Part,
    Piece,
    arrange,
    split,
)  # fmt: skip
from .rans import BITS, Encoder
from .stream import FORMAT, HEAD
from .tables import Tables

__all__ = ["Segment", "encode", "size_of"]

PERIODS = (8, 16)  # for what has no kernels
SMALLEST = 512  # numbers; below, a tensor is rest: each costs the decoder some time
MOST_VALUES = 256
LARGEST_KERNEL = 64  # numbers; each is a plane, and many small planes are slow to decode


@dataclass(frozen=True)
class Segment:
    """A tensor in a file.

    Attributes:
        offset: of its first byte.
        dtype: a numpy dtype name, or ``"int4"`` for two in a byte, the first in the low half.
        shape: C order.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        count = math.prod(self.shape)
        return (count + 1) // 2 if self.dtype == "int4" else count * np.dtype(self.dtype).itemsize


def encode(
    data: bytes,
    segments: Sequence[Segment] = (),
    old: tuple[bytes, Sequence[Segment]] | None = None,
) -> bytes:
    """Code a file, the same bytes for the same input.

    Args:
        segments: where its tensors are; what they do not cover is coded as bytes.
        old: the file that this one is to be the difference to, and its segments.

    Raises:
        InputError: segments overlap or lie outside of the file.
    """
    pieces, rest = [], []
    coded: list[tuple[Piece, list[np.ndarray]]] = []
    bytes_of = np.frombuffer(data, np.uint8)
    for span in _spans(segments, old and old[1], len(data), old and len(old[0])):
        for piece, at in _cut(span):
            new = bytes_of[at : at + piece.size]
            before = None
            if piece.base is not None:
                before = np.frombuffer(old[0], np.uint8)[piece.base : piece.base + piece.size]
            piece, parts, plain = _choose(piece, new, before)
            pieces.append(piece)
            rest.append(plain)
            coded.append((piece, parts))
    symbols = sum(p.size for piece, parts in coded for p in parts)
    lanes, stream = _code(coded) if symbols else (0, b"")
    table = msgspec.msgpack.encode(pieces)
    packed, plain = pack(table), pack(b"".join(rest))
    head = HEAD.pack(FORMAT, lanes, len(table), len(packed), len(plain))
    return head + packed + plain + stream


def size_of(arrays: Sequence[np.ndarray]) -> int:
    """Bytes that these arrays take when they are coded together, each with its shape.

    Args:
        arrays: weights as they lie in a file, mostly int8 of shape (out, in, *kernel).
    """
    segments, at = [], 0
    for array in arrays:
        segments.append(Segment(at, str(array.dtype), array.shape))
        at += array.nbytes
    return len(encode(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays), segments))


@dataclass(frozen=True)
class _Span:
    """A stretch of the file: a tensor where there is a segment; with its place in the old file."""

    at: int
    size: int
    segment: Segment | None = None
    base: int | None = None


def _spans(
    segments: Sequence[Segment],
    old: Sequence[Segment] | None,
    size: int,
    old_size: int | None,
) -> Iterator[_Span]:
    """The whole file in order, tensors and what is between them."""
    segments = sorted(segments, key=lambda s: s.offset)
    old = sorted(old, key=lambda s: s.offset) if old is not None else None
    like = old is not None and [(s.dtype, s.shape) for s in old] == [
        (s.dtype, s.shape) for s in segments
    ]
    at = old_at = 0
    for i, segment in enumerate(segments):
        if segment.offset < at or segment.offset + segment.size > size:
            raise InputError(f"the tensor at byte {segment.offset} overlaps another or the end")
        if segment.size == 0:
            continue
        gap, before = segment.offset - at, old[i].offset - old_at if like else None
        yield from _gap(at, gap, old_at if gap == before else None)
        yield _Span(segment.offset, segment.size, segment, old[i].offset if like else None)
        at = segment.offset + segment.size
        old_at = old[i].offset + segment.size if like else 0
    same = old_size is not None and (like or not segments) and old_size - old_at == size - at
    yield from _gap(at, size - at, old_at if same else None)


def _gap(at: int, size: int, base: int | None) -> Iterator[_Span]:
    if size:
        yield _Span(at, size, None, base)


def _cut(span: _Span) -> Iterator[tuple[Piece, int]]:
    """A span as pieces that are not too large, cut along the tensor's first axis, and where."""
    segment = span.segment
    if segment is None or math.prod(segment.shape) < SMALLEST:
        step, kind, width, shape = LARGEST_PIECE, REST, 1, ()
    else:
        kind, width = _kind(segment)
        shape = (2 * span.size,) if kind == NIBBLES else segment.shape
        if kind == NIBBLES and math.prod(segment.shape) == 2 * span.size:
            shape = segment.shape
        step = span.size // shape[0] if shape and kind != NIBBLES else 1
        if step > LARGEST_PIECE or (kind == NIBBLES and span.size > LARGEST_PIECE):
            shape, step = (span.size // width * (2 if kind == NIBBLES else 1),), width
        step *= max(1, LARGEST_PIECE // step)
    for at in range(0, span.size, step):
        size = min(step, span.size - at)
        part = shape
        if kind != REST and size < span.size:
            part = (shape[0] * size // span.size, *shape[1:])
        base = None if span.base is None else span.base + at
        yield Piece(size, kind, width, part, base=base), span.at + at


def _kind(segment: Segment) -> tuple[int, int]:
    if segment.dtype == "int4":
        return NIBBLES, 1
    width = np.dtype(segment.dtype).itemsize
    if width == 1:
        return NARROW, 1
    return (FLOAT if segment.dtype.startswith("float") else WIDE), width


def _choose(
    piece: Piece, new: np.ndarray, old: np.ndarray | None
) -> tuple[Piece, list[np.ndarray], bytes]:
    """The best coding: the piece, the matrices of its parts that are coded, and what is rest."""
    if piece.kind == REST:
        return piece, [], (new if old is None else new - old).tobytes()
    options = [_numbers(piece, new, old)]
    if old is not None:
        options.append(_numbers(msgspec.structs.replace(piece, base=None), new, None))
    if piece.width > 1 and old is None:
        options += _palette(piece, new)
    packed = len(pack(new.tobytes())) * 8
    cost, *best = min(options, key=lambda option: option[0])
    if packed <= cost:
        return Piece(piece.size), [], new.tobytes()
    return tuple(best)


def _numbers(piece: Piece, new: np.ndarray, old: np.ndarray | None) -> tuple:
    """Cost in bits, piece, matrices and rest of a tensor as numbers."""
    parts = split(piece, new, old)
    first = parts[0]
    sparse = False
    if piece.kind == FLOAT and old is None and first.any() and not first.all():
        sparse = not np.any([part[first == 0] for part in parts[1:]])
        if sparse:
            parts = [first, *(part[first != 0] for part in parts[1:])]
    cost, order, rows, part, matrix = _best_arrangement(piece, first)
    piece = msgspec.structs.replace(piece, order=order, rows=rows, sparse=sparse)
    described, matrices, rest = [part], [matrix], b""
    for values in parts[1:]:
        values = np.ascontiguousarray(values)
        bits, part, matrix = _best_part(values.reshape(1, -1), PERIODS[-1:])
        raw = 8 * len(values)
        if bits < 0.99 * raw:
            cost, described, matrices = cost + bits, [*described, part], [*matrices, matrix]
        else:
            cost, described, rest = cost + raw, [*described, Part()], rest + values.tobytes()
    return cost, msgspec.structs.replace(piece, parts=tuple(described)), matrices, rest


def _palette(piece: Piece, new: np.ndarray) -> list[tuple]:
    """As `_numbers`, of a tensor with few different values."""
    dtype = f"<f{piece.width}" if piece.kind == FLOAT else f"<i{piece.width}"
    words = new.view(f"<u{piece.width}")
    values = np.unique(words[: 4 * MOST_VALUES])
    if len(values) <= MOST_VALUES:
        values = np.unique(words)
    if len(values) > MOST_VALUES:
        return []
    values = values[np.argsort(values.view(dtype), kind="stable")]
    ranks = {value: i for i, value in enumerate(values.tolist())}
    keys, inverse = np.unique(words, return_inverse=True)
    places = np.array([ranks[k] for k in keys.tolist()], np.uint8)[inverse]
    piece = msgspec.structs.replace(piece, kind=PALETTE)
    cost, order, rows, part, matrix = _best_arrangement(piece, places)
    piece = msgspec.structs.replace(piece, order=order, rows=rows, parts=(part,))
    rest = len(values).to_bytes(2, "little") + values.tobytes()
    return [(cost + 8 * len(rest), piece, [matrix], rest)]


def _best_arrangement(piece: Piece, values: np.ndarray) -> tuple:
    """Cost, order, rows, part and matrix of the arrangement that costs least."""
    found = []
    for order, rows, periods in _arrangements(piece.shape):
        laid = msgspec.structs.replace(piece, order=order, rows=rows)
        cost, part, matrix = _best_part(arrange(laid, values), periods)
        found.append((cost, order, rows, part, matrix))
    return min(found, key=lambda f: f[0])


def _arrangements(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, tuple[int, ...]]]:
    """Orders of the axes, how many of them are rows, and periods to try.

    Kernels are the last axes (out, in, *kernel) or those in the middle (out, *kernel, in), and
    the period is their size.
    """
    rank = len(shape)
    natural = tuple(range(rank))
    if rank >= 3:
        for order in (natural, (0, rank - 1, *range(1, rank - 1)), (rank - 1, *range(rank - 1))):
            kernel = math.prod(shape[axis] for axis in order[2:])
            if 3 < kernel <= LARGEST_KERNEL:
                yield order, 1, (kernel,)
    yield natural, min(1, rank - 1), PERIODS
    if rank >= 2:
        yield (rank - 1, *range(rank - 1)), 1, PERIODS


def _best_part(matrix: np.ndarray, periods: Sequence[int]) -> tuple[float, Part, np.ndarray]:
    """Cost in bits, description and symbols of a matrix of bytes."""
    centers = {int(np.median(matrix)), int(np.median(matrix.view(np.int8))) % 256}
    symbols = {c: matrix - np.uint8(c) + np.uint8(MIDDLE) for c in sorted(centers)}
    distance = {c: _distances(s).mean() for c, s in symbols.items()}
    center = min(distance, key=distance.get)
    chosen = symbols[center]
    parts = [
        Part(p, center, int(chosen.min()), int(chosen.max()), round(64 * float(distance[center])))
        for p in sorted({min(period, matrix.shape[1]) for period in periods})
    ]
    costs = [_cost(part, chosen) for part in parts]
    best = int(np.argmin(costs))
    return costs[best], parts[best], chosen


def _distances(symbols: np.ndarray) -> np.ndarray:
    return np.abs(symbols.astype(np.int16) - MIDDLE)


def _cost(part: Part, symbols: np.ndarray) -> float:
    """Bits, when no other tensor was coded before."""
    tables, bits = Tables(), 0.0

    def step(base: np.ndarray, tables: Tables, t: int, count: int, wide: int) -> np.ndarray:
        nonlocal bits
        planes = _planes(symbols, part.period, t, count)
        freq = tables.freq.take((base >> (BITS - 8)) + planes)
        bits += BITS * len(planes) - float(np.log2(freq).sum())
        return planes

    tables.begin(part.low, part.high)
    code_matrix(step, tables, *symbols.shape, part.period, part.mean / 64)
    return bits


def _planes(symbols: np.ndarray, period: int, t: int, count: int) -> np.ndarray:
    return np.concatenate([symbols[:, t + i :: period].reshape(-1) for i in range(count)])


def _code(pieces: list[tuple[Piece, list[np.ndarray]]]) -> tuple[int, bytes]:
    """All matrices, one after the other, through one coder; its lanes, and what it wrote."""
    encoder, tables = Encoder(), Tables()
    for piece, matrices in pieces:
        parts = [part for part in piece.parts if part.period != RAW]
        for part, symbols in zip(parts, matrices, strict=True):

            def step(base, tables, t, count, wide, symbols=symbols, period=part.period):
                planes = _planes(symbols, period, t, count)
                key = (base >> (BITS - 8)) + planes
                encoder.put(
                    tables.freq.take(key).astype(np.uint16),
                    tables.start.take(key).astype(np.uint16),
                )
                return planes

            tables.begin(part.low, part.high)
            code_matrix(step, tables, *symbols.shape, part.period, part.mean / 64)
    return encoder.finish()

"""Where the tensors lie in each runtime's file, read off its format without the runtime.

The files are artifacts of ours; what is not understood is left to the general coder, and the
bundle is larger, never wrong.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..edge.artifact import Artifact
from ..edge.codec import Segment

__all__ = ["segments_of"]

LEAST = 16  # bytes that are worth a segment

# TensorProto.DataType of onnx.proto, and TensorType of LiteRT's schema.fbs.
ONNX_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 21: "int4", 22: "int4",
}  # fmt: skip
TFLITE_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16",
    9: "int8", 17: "int4",
}  # fmt: skip
OPENVINO_TYPES = {
    "f32": "float32", "f16": "float16", "i64": "int64", "i32": "int32", "i16": "int16",
    "i8": "int8", "u8": "uint8", "i4": "int4", "u4": "int4", "boolean": "bool",
}  # fmt: skip


def segments_of(artifact: Artifact) -> dict[str, list[Segment]]:
    """For each file of an artifact, by name, where its tensors are."""
    find = FINDERS.get(artifact.runtime)
    if find is None:
        return {}
    try:
        name, found = find(artifact.path)
    except (struct.error, IndexError, KeyError, ValueError, ElementTree.ParseError):
        return {}
    size = (artifact.path.parent / name).stat().st_size
    kept, end = [], 0
    for segment in sorted(set(found), key=lambda s: (s.offset, -s.size)):
        if segment.offset >= end and LEAST <= segment.size <= size - segment.offset:
            kept.append(segment)
            end = segment.offset + segment.size
    return {name: kept}


def _onnx(path: Path) -> tuple[str, list[Segment]]:
    """ModelProto.graph (7) .initializer (5): dims (1), data_type (2), raw_data (9)."""
    data, found = path.read_bytes(), []
    for _, graph, graph_end in _fields(data, 0, len(data), {7}):
        for _, at, end in _fields(data, graph, graph_end, {5}):
            dims, kind, raw = [], 0, None
            for number, begin, value in _fields(data, at, end, {1, 2, 9}):
                if number == 1 and begin is None:
                    dims.append(value)
                elif number == 1:
                    dims += _varints(data, begin, value)
                elif number == 2:
                    kind = value
                else:
                    raw = begin, value
            if raw is not None and kind in ONNX_TYPES:
                found += _segment(raw[0], raw[1] - raw[0], ONNX_TYPES[kind], dims)
    return path.name, found


def _fields(
    data: bytes, at: int, end: int, wanted: set[int]
) -> Iterator[tuple[int, int | None, int]]:
    """Fields of a protobuf message: number, begin and end; or number, None and the value.

    https://protobuf.dev/programming-guides/encoding/
    """
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        begin, value = None, 0
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, begin = _varint(data, at)
            value = at = begin + size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > end:
            raise ValueError("a field that ends after its message")
        if number in wanted:
            yield number, begin, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varints(data: bytes, at: int, end: int) -> list[int]:
    values = []
    while at < end:
        value, at = _varint(data, at)
        values.append(value)
    return values


def _tflite(path: Path) -> tuple[str, list[Segment]]:
    """Model.subgraphs (2) .tensors (0): shape (0), type (1), buffer (2); Model.buffers (4)."""
    data, found = path.read_bytes(), []
    (root,) = struct.unpack_from("<I", data, 0)
    buffers = _vector(data, root, 4)
    for subgraph in _vector(data, root, 2):
        for tensor in _vector(data, subgraph, 0):
            kind, buffer = _scalar(data, tensor, 1, "<b"), _scalar(data, tensor, 2, "<I")
            at, count = _array(data, buffers[buffer], 0)
            if not count:  # or after the flatbuffer: offset (1) and size (2)
                at = _scalar(data, buffers[buffer], 1, "<Q")
                count = _scalar(data, buffers[buffer], 2, "<Q")
            shape_at, rank = _array(data, tensor, 0)
            shape = struct.unpack_from(f"<{rank}i", data, shape_at)
            if count and kind in TFLITE_TYPES:
                found += _segment(at, count, TFLITE_TYPES[kind], shape)
    return path.name, found


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table is, 0 when it is not there."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    if 4 + 2 * number + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + 4 + 2 * number)
    return table + offset if offset else 0


def _scalar(data: bytes, table: int, number: int, form: str) -> int:
    at = _field(data, table, number)
    return struct.unpack_from(form, data, at)[0] if at else 0


def _array(data: bytes, table: int, number: int) -> tuple[int, int]:
    """Where a vector's elements begin, and how many there are."""
    at = _field(data, table, number)
    if not at:
        return 0, 0
    at += struct.unpack_from("<I", data, at)[0]
    return at + 4, struct.unpack_from("<I", data, at)[0]


def _vector(data: bytes, table: int, number: int) -> list[int]:
    """Where the tables of a vector are."""
    at, count = _array(data, table, number)
    if count > len(data):
        raise ValueError("a vector longer than its file")
    places = range(at, at + 4 * count, 4)
    return [place + struct.unpack_from("<I", data, place)[0] for place in places]


def _openvino(path: Path) -> tuple[str, list[Segment]]:
    """The constants that the .xml describes and the .bin holds."""
    found = []
    for layer in ElementTree.parse(path).getroot().iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            kind = OPENVINO_TYPES.get(data.get("element_type", ""))
            shape = [int(size) for size in data.get("shape", "").split(",") if size.strip()]
            if kind is not None:
                found += _segment(int(data.get("offset")), int(data.get("size")), kind, shape)
    return path.with_suffix(".bin").name, found


def _segment(at: int, size: int, dtype: str, shape) -> list[Segment]:
    """The tensor, if its shape accounts for its bytes."""
    shape = tuple(n for n in shape if n != 1) or (1,)
    count = math.prod(shape)
    needed = (count + 1) // 2 if dtype == "int4" else count * np.dtype(dtype).itemsize
    return [Segment(at, dtype, shape)] if needed == size and count > 0 else []


FINDERS: dict[str, Callable[[Path], tuple[str, list[Segment]]]] = {
    "onnxruntime": _onnx,
    "litert": _tflite,
    "openvino": _openvino,
}

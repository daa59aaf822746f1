"""A TFLite file read with care: whatever the bytes say, reading is bounded by the file's size.

The flatbuffer is read by the schema that the LiteRT package ships, pure Python without the
runtime. Its accessors never read outside of the bytes (they raise instead), so what is left to do
here is to bound every count before it is believed, to look only at what the chosen signature
needs, and to turn every failure into one sentence.

Format: https://github.com/google-ai-edge/LiteRT (tflite/converter/schema/schema.fbs).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import InputError, MissingExtra, ModelError

__all__ = ["Entry", "Grid", "Operator", "Options", "TfliteReader"]

IDENTIFIER_AT, IDENTIFIER = slice(4, 8), b"TFL3"
LARGEST_FILE = 2**31 - 1  # bytes; a flatbuffer's offsets are 32 bit
LARGEST_RANK = 8
LONGEST_NAME = 4096
LARGEST_CONSTANTS = 8  # bytes of numbers for each byte of the file: packed int4 as float32

# Tensor types with numbers in them, and what they are stored as; two int4 share a byte.
STORED = {
    "FLOAT32": np.dtype("<f4"), "FLOAT16": np.dtype("<f2"), "FLOAT64": np.dtype("<f8"),
    "INT4": np.dtype("u1"), "INT8": np.dtype("i1"), "UINT8": np.dtype("u1"),
    "INT16": np.dtype("<i2"), "UINT16": np.dtype("<u2"), "INT32": np.dtype("<i4"),
    "UINT32": np.dtype("<u4"), "INT64": np.dtype("<i8"), "BOOL": np.dtype("?"),
}  # fmt: skip

# Least and largest integer of the types whose numbers lie on a grid. uint8 is moved by 128, so
# that every 8-bit grid is int8's; the real numbers stay what they are.
LIMITS = {"INT4": (-8, 7), "INT8": (-128, 127), "UINT8": (-128, 127), "INT16": (-32768, 32767)}
MOVED = {"UINT8": 128}

# Fields of options whose values are names of these enumerations of the schema.
ENUMERATIONS = {
    "Padding": "Padding",
    "FusedActivationFunction": "ActivationFunctionType",
    "Mode": "MirrorPadMode",
    "InDataType": "TensorType",
    "OutDataType": "TensorType",
}

BROKEN = (
    struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, KeyError,
    MemoryError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Grid:
    """``real = scale * (integer - zero_point)``, integers in [low, high].

    Attributes:
        scale: float32, shape () per tensor or (channels,) along `axis`.
        zero_point: int32, the same shape.
        axis: None per tensor.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    low: int
    high: int
    axis: int | None = None

    def same(self, other: Grid | None) -> bool:
        return (
            other is not None
            and (self.low, self.high, self.axis) == (other.low, other.high, other.axis)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor as the file describes it.

    Attributes:
        shape: sizes; empty for a scalar, and for one whose shape is known only when it runs.
        type: of the schema's `TensorType`.
        grid: where its numbers lie; an int32 bias has one too.
        buffer: index of the buffer with a constant's numbers.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    grid: Grid | None
    buffer: int


class Options(dict):
    """The options of an operator by the schema's names; enumerations by the names of values."""

    def __missing__(self, name: str) -> Any:
        raise ModelError(f"an operator lacks its option '{name}': the file is damaged")


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: tensors by their numbers, None for one that is left out."""

    name: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    options: Options


class TfliteReader:
    """One subgraph of a file, the one that a signature names.

    Args:
        signature: the key of the signature; None where the file has one at most.

    Attributes:
        path: of the file.
        inputs, outputs: (name, number of the tensor).

    Raises:
        MissingExtra: the LiteRT package, whose schema this uses, is not installed.
        InputError: the signature does not exist, or several do and none was chosen.
        ModelError: the file is no TFLite file, damaged or hostile.
    """

    def __init__(self, path: Path, signature: str | None) -> None:
        self._schema = _schema()
        try:
            size = path.stat().st_size
            if size > LARGEST_FILE:
                raise ModelError(f"{path} has {size} bytes: a TFLite file has at most 2 GB")
            self._bytes = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from None
        self.path = path
        if self._bytes[IDENTIFIER_AT] != IDENTIFIER:
            raise ModelError(f"{path} is not a TFLite file: it does not begin as one does")
        with self._checked():
            self._model = self._schema.Model.GetRootAs(self._bytes, 0)
            chosen = self._signature(signature)
            at = 0 if chosen is None else chosen.SubgraphIndex()
            self._graph = self._item(self._model.Subgraphs, self._model.SubgraphsLength(), at)
            self.inputs, self.outputs = self._ends(chosen)
        self._entries: dict[int, Entry] = {}
        self._left = LARGEST_CONSTANTS * len(self._bytes)

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            raise ModelError(
                f"{self.path} is damaged: its tables point outside of the file or hold what the "
                f"format does not allow ({type(error).__name__}); fetch the file again"
            ) from None

    def _fail(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is damaged: {what}")

    # --- counts and numbers -----------------------------------------------------------------

    def _count(self, length: int, width: int = 4) -> int:
        if length * width > len(self._bytes):
            raise self._fail(f"it claims {length} entries in {len(self._bytes)} bytes")
        return length

    def _item(self, items: Any, length: int, at: int) -> Any:
        if not 0 <= at < self._count(length):
            raise self._fail(f"entry {at} of a list of {length} is asked for")
        return items(at)

    def _numbers(self, table: Any, field: str, most: int) -> list:
        """A vector of numbers, of at most so many."""
        length = getattr(table, f"{field}Length")()
        if length > most:
            raise self._fail(f"a list '{field}' has {length} entries, at most {most} fit")
        return np.asarray(getattr(table, f"{field}AsNumpy")()).tolist() if length else []

    def _text(self, raw: bytes | None) -> str:
        return (raw or b"")[:LONGEST_NAME].decode("utf-8", "replace")

    # --- the subgraph -----------------------------------------------------------------------

    def _signature(self, key: str | None) -> Any:
        count = self._count(self._model.SignatureDefsLength())
        found = {}
        for i in range(count):
            entry = self._model.SignatureDefs(i)
            found.setdefault(self._text(entry.SignatureKey()), entry)
            if len(found) < i + 1:
                raise self._fail("two of its signatures have one name")
        if key is None and len(found) > 1:
            names = ", ".join(map(repr, list(found)[:20]))
            raise InputError(f"{self.path} has the signatures {names}: choose one with signature=")
        if key is not None and key not in found:
            names = ", ".join(map(repr, list(found)[:20])) or "none"
            raise InputError(f"{self.path} has no signature '{key}': it has {names}")
        return next(iter(found.values()), None) if key is None else found[key]

    def _ends(self, chosen: Any) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Inputs and outputs in the subgraph's order, named as the signature names them."""
        names: dict[int, str] = {}
        if chosen is not None:
            for side in ("Inputs", "Outputs"):
                for i in range(self._count(getattr(chosen, f"{side}Length")())):
                    entry = getattr(chosen, side)(i)
                    names[entry.TensorIndex()] = self._text(entry.Name())
        most = len(self._bytes) // 4
        ends = []
        for side in ("Inputs", "Outputs"):
            numbers = self._numbers(self._graph, side, most)
            ends.append([(names.get(n) or self._named(n), n) for n in numbers])
        if not ends[0] or not ends[1]:
            raise self._fail("its graph has no input or no output")
        return ends[0], ends[1]

    def _named(self, number: int) -> str:
        table = self._item(self._graph.Tensors, self._graph.TensorsLength(), number)
        return self._text(table.Name()) or f"tensor{number}"

    def operators(self) -> Iterator[Operator]:
        """The operators in the order in which they run."""
        with self._checked():
            count = self._count(self._graph.OperatorsLength())
        for i in range(count):
            with self._checked():
                operator = self._operator(self._graph.Operators(i))
            yield operator

    def _operator(self, table: Any) -> Operator:
        codes = self._model.OperatorCodes, self._model.OperatorCodesLength()
        code = self._item(*codes, table.OpcodeIndex())
        # Files from before 2020 have only the first field, a byte.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names("BuiltinOperator").get(number)
        if name == "CUSTOM":
            custom = self._text(code.CustomCode())
            raise ModelError(
                f"{self.path} has the custom operator '{custom:.200}', whose meaning only the "
                "program that wrote it knows: export the model without it"
            )
        if name is None:
            raise self._fail(f"it has operator number {number}, which the schema does not know")
        most = self._graph.TensorsLength()
        inputs = [None if n == -1 else n for n in self._numbers(table, "Inputs", most + 64)]
        outputs = self._numbers(table, "Outputs", most)
        return Operator(name, tuple(inputs), tuple(outputs), self._options(table))

    def _options(self, table: Any) -> Options:
        kind = _names("BuiltinOptions").get(table.BuiltinOptionsType())
        source = table.BuiltinOptions()
        if kind is None or kind == "NONE" or source is None:
            return Options()
        options = getattr(self._schema, kind)()
        options.Init(source.Bytes, source.Pos)
        result = Options()
        for field in _fields(kind):
            if hasattr(options, f"{field}AsNumpy"):
                result[field] = self._numbers(options, field, 64)
                continue
            value = getattr(options, field)()
            if field in ENUMERATIONS:
                value = _names(ENUMERATIONS[field]).get(value, f"number {value}")
            result[field] = value
        return result

    # --- tensors ----------------------------------------------------------------------------

    def entry(self, number: int) -> Entry:
        """The tensor of this number."""
        if number not in self._entries:
            with self._checked():
                table = self._item(self._graph.Tensors, self._graph.TensorsLength(), number)
                self._entries[number] = self._entry(table, self._named(number))
        return self._entries[number]

    def _entry(self, table: Any, name: str) -> Entry:
        shape = tuple(self._numbers(table, "Shape", LARGEST_RANK))
        kind = _names("TensorType").get(table.Type(), str(table.Type()))
        if any(size < 0 for size in shape):
            raise self._fail(f"tensor '{name:.200}' has the shape {list(shape)}")
        if kind not in STORED:
            raise ModelError(
                f"{self.path}: tensor '{name:.200}' holds {kind}, which no Model can hold"
            )
        if table.Sparsity() is not None:
            raise ModelError(
                f"{self.path}: tensor '{name:.200}' is stored sparse: export the model densely"
            )
        return Entry(name, shape, kind, self._grid(table, name, shape, kind), table.Buffer())

    def _grid(self, table: Any, name: str, shape: tuple[int, ...], kind: str) -> Grid | None:
        quantization = table.Quantization()
        if quantization is None or kind.startswith("FLOAT"):
            return None
        if quantization.DetailsType():
            raise ModelError(f"{self.path}: tensor '{name:.200}' is quantized by custom rules")
        most = max(1, *shape) if shape else 1
        scale = np.asarray(self._numbers(quantization, "Scale", most), np.float32)
        if not scale.size:
            return None
        zero_point = np.asarray(self._numbers(quantization, "ZeroPoint", most) or [0], np.int64)
        low, high = LIMITS.get(kind, (-(2**31), 2**31 - 1))
        zero_point = np.broadcast_to(zero_point - MOVED.get(kind, 0), scale.shape)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise self._fail(f"tensor '{name:.200}' has a scale that is not above 0")
        if (zero_point < low).any() or (zero_point > high).any():
            raise self._fail(f"tensor '{name:.200}' has a zero point outside of its integers")
        zero_point = zero_point.astype(np.int32)
        if scale.size == 1:
            return Grid(np.array(scale[0]), np.array(zero_point[0]), low, high)
        axis = quantization.QuantizedDimension()
        if not 0 <= axis < len(shape) or shape[axis] != scale.size:
            raise self._fail(
                f"tensor '{name:.200}' of shape {list(shape)} has {scale.size} scales along "
                f"axis {axis}"
            )
        return Grid(scale, zero_point, low, high, axis)

    def constant(self, number: int) -> np.ndarray | None:
        """The numbers of a constant as they are stored (uint8 on a grid moved to int8's), or None.

        Raises:
            ModelError: they are more or fewer than the shape says, or all constants together
                claim more than the file can hold.
        """
        entry = self.entry(number)
        with self._checked():
            table = self._item(self._model.Buffers, self._model.BuffersLength(), entry.buffer)
            raw = self._buffer(table)
        if raw is None:
            return None
        count = math.prod(entry.shape)
        self._left -= count * max(4, STORED[entry.type].itemsize)
        wide = STORED[entry.type].itemsize * (count if entry.type != "INT4" else -(-count // 2))
        if raw.size != wide:
            raise self._fail(
                f"constant '{entry.name:.200}' of shape {list(entry.shape)} needs {wide} bytes, "
                f"{raw.size} are there"
            )
        if self._left < 0:
            raise self._fail("its constants together are larger than it, read again and again")
        if entry.type == "INT4":
            pairs = np.stack([raw & 15, raw >> 4], 1).reshape(-1)[:count].astype(np.int8)
            return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8).reshape(entry.shape)
        values = raw.view(STORED[entry.type]).reshape(entry.shape)
        if entry.grid is not None and entry.type in MOVED:
            return (values.astype(np.int16) - MOVED[entry.type]).astype(np.int8)
        return values

    def _buffer(self, table: Any) -> np.ndarray | None:
        if table.Offset() > 1:  # beyond the flatbuffer, as files near 2 GB have it
            start, size = table.Offset(), table.Size()
            if start + size > len(self._bytes):
                raise self._fail(f"a buffer ends at byte {start + size}")
            return np.frombuffer(self._bytes, np.uint8, size, start)
        if not table.DataLength():
            return None
        return table.DataAsNumpy()


@cache
def _schema() -> ModuleType:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise MissingExtra("LiteRT", "litert") from None
    return schema_py_generated


@cache
def _names(enumeration: str) -> dict[int, str]:
    """Values of one of the schema's enumerations by number."""
    kind = getattr(_schema(), enumeration)
    return {v: k for k, v in vars(kind).items() if not k.startswith("_")}


@cache
def _fields(kind: str) -> tuple[str, ...]:
    """The fields of one of the schema's options tables."""
    plain = vars(getattr(_schema(), f"{kind}T")())
    return tuple(f"{name[0].upper()}{name[1:]}" for name in plain)

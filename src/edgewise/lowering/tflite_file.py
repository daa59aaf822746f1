"""The TFLite file itself: tensors and operators gathered one by one, then one flatbuffer.

The schema is the one that the LiteRT package ships. This is the only file of the lowering that
knows it; the operators' rows name options as the schema does.

Format: https://github.com/google-ai-edge/LiteRT (tflite/converter/schema/schema.fbs); operator
versions and the runtime that first had them: tools/versioning/{op,runtime}_version.cc there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..errors import MissingExtra, ModelError
from .program import Quant

__all__ = ["OPERATORS", "TfliteFile"]

LARGEST = 2**31 - 1  # bytes; offsets in a flatbuffer are 32 bit
ALIGNMENT = 16  # bytes, of a constant's data


class Row(NamedTuple):
    """An operator: the schema's options, and by dtype or feature its version and runtime."""

    options: str
    versions: dict[str, tuple[int, str]]


def _plain(options: str, since: str, int8: tuple[int, str] | None = None, **more) -> Row:
    """Version 1 for every dtype but those given."""
    return Row(options, {"": (1, since), **({"int8": int8} if int8 else {}), **more})


V2 = (2, "1.14.0")
OPERATORS: dict[str, Row] = {
    "ABS": _plain("AbsOptions", "1.13.0"),
    "ADD": _plain("AddOptions", "1.5.0", V2, int64=(4, "2.6.0"), int16=(3, "2.4.0")),
    "AVERAGE_POOL_2D": _plain("Pool2DOptions", "1.5.0"),
    "BATCH_MATMUL": _plain("BatchMatMulOptions", "2.3.0", (2, "2.3.0")),
    "BROADCAST_TO": Row("BroadcastToOptions", {"": (2, "2.5.0")}),
    "CAST": _plain("CastOptions", "1.5.0"),
    "CONCATENATION": _plain("ConcatenationOptions", "1.5.0", V2, int16=(3, "2.3.0")),
    "CONV_2D": _plain(
        "Conv2DOptions", "1.5.0", (3, "1.14.0"), groups=(6, "2.9.0"), int16=(4, "2.3.0")
    ),
    "COS": _plain("CosOptions", "1.14.0"),
    "DEPTHWISE_CONV_2D": _plain(
        "DepthwiseConv2DOptions", "1.5.0", (3, "1.14.0"), dilated=(2, "1.12.0"), int16=(5, "2.3.0")
    ),
    "DEQUANTIZE": _plain("DequantizeOptions", "1.13.1", V2, float16=(3, "1.15.0")),
    "DIV": _plain("DivOptions", "1.6.0", rank5=(2, "2.3.0")),
    "ELU": _plain("", "1.14.0"),
    "EXP": _plain("ExpOptions", "1.7.0"),
    "FLOOR": _plain("", "1.9.0"),
    "FULLY_CONNECTED": _plain(
        "FullyConnectedOptions",
        "1.5.0",
        (4, "1.14.0"),
        keep_num_dims=(5, "2.0.0"),
        int16=(7, "2.3.0"),
        at_run_time=(12, "2.17.0"),
    ),
    "GATHER": _plain("GatherOptions", "1.6.0"),
    "GELU": _plain("GeluOptions", "2.9.0"),
    "HARD_SWISH": _plain("HardSwishOptions", "1.15.0"),
    "LEAKY_RELU": _plain("LeakyReluOptions", "1.13.1"),
    "LOG": _plain("", "1.14.0"),
    "LOGISTIC": _plain("", "1.14.0", V2),
    "LOG_SOFTMAX": _plain("LogSoftmaxOptions", "1.14.0"),
    "MAXIMUM": _plain("MaximumMinimumOptions", "1.14.0", rank5=(3, "2.3.0")),
    "MAX_POOL_2D": _plain("Pool2DOptions", "1.5.0", V2, int16=(3, "2.3.0")),
    "MEAN": _plain("ReducerOptions", "1.6.0", V2, int16=(3, "2.4.0")),
    "MINIMUM": _plain("MaximumMinimumOptions", "1.14.0", rank5=(3, "2.3.0")),
    "MIRROR_PAD": _plain("MirrorPadOptions", "1.13.1", (2, "2.3.0")),
    "MUL": _plain("MulOptions", "1.5.0", V2, int64=(5, "2.6.0"), upscaling=(3, "1.15.0")),
    "NEG": _plain("NegOptions", "1.9.0"),
    "PAD": _plain("PadOptions", "1.5.0", V2, rank5=(4, "2.6.0"), int16=(3, "2.4.0")),
    "PADV2": _plain("PadV2Options", "1.9.0", V2, rank5=(4, "2.6.0")),
    "POW": _plain("PowOptions", "1.10.0"),
    "QUANTIZE": _plain("QuantizeOptions", "1.14.0"),
    "REDUCE_MAX": _plain("ReducerOptions", "1.11.0"),
    "REDUCE_MIN": _plain("ReducerOptions", "1.11.0"),
    "RELU": _plain("", "1.5.0"),
    "RELU6": _plain("", "1.5.0"),
    "RELU_N1_TO_1": _plain("", "1.5.0"),
    "RESHAPE": _plain("ReshapeOptions", "1.5.0"),
    "RESIZE_BILINEAR": _plain("ResizeBilinearOptions", "1.7.0", half_pixel=(3, "2.2.0")),
    "RESIZE_NEAREST_NEIGHBOR": _plain("ResizeNearestNeighborOptions", "1.13.1"),
    "RSQRT": _plain("", "1.10.0"),
    "SIN": _plain("", "1.9.0"),
    "SLICE": _plain("SliceOptions", "1.14.0", V2, rank5=(5, "2.5.0"), int16=(4, "2.4.0")),
    "SOFTMAX": _plain("SoftmaxOptions", "1.5.0"),
    "SQRT": _plain("", "1.10.0"),
    "SUB": _plain("SubOptions", "1.6.0", V2, int64=(4, "2.4.0"), rank5=(3, "2.3.0")),
    "SUM": _plain("ReducerOptions", "1.10.0"),
    "TANH": _plain("", "1.14.0", V2),
    "TRANSPOSE": _plain(
        "TransposeOptions", "1.6.0", V2, rank5=(4, "2.3.0"), rank6=(6, "2.12.0"), int16=(5, "2.4.0")
    ),
    "TRANSPOSE_CONV": _plain(
        "TransposeConvOptions", "1.9.0", bias=(3, "2.3.0"), activation=(4, "2.13.0")
    ),
}

# Options whose values are names of these enumerations of the schema.
ENUMERATIONS = {
    "padding": "Padding",
    "fusedActivationFunction": "ActivationFunctionType",
    "mode": "MirrorPadMode",
    "inDataType": "TensorType",
    "outDataType": "TensorType",
}


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None
    buffer: int


@dataclass(frozen=True)
class _Operator:
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: str
    values: dict[str, Any]


class TfliteFile:
    """Gathers the tensors and operators of one graph and writes them.

    Raises:
        MissingExtra: the LiteRT package, whose schema this uses, is not installed.
    """

    def __init__(self) -> None:
        self._schema = _schema()
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._buffers: dict[bytes, int] = {b"": 0}  # the empty buffer 0 stands for "no data"
        self._since: set[tuple[int, ...]] = {(1, 5, 0)}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quant: Quant | None = None,
        data: np.ndarray | None = None,
    ) -> int:
        """Add a tensor, a constant if `data` is given, and return its index."""
        content = b"" if data is None else np.ascontiguousarray(data).tobytes()
        buffer = self._buffers.setdefault(content, len(self._buffers))
        self._tensors.append(_Tensor(name, tuple(shape), dtype, quant, buffer))
        return len(self._tensors) - 1

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        features: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Add an operator.

        Args:
            name: a key of `OPERATORS`.
            inputs, outputs: tensor indices.
            features: keys of the row's versions; the highest version counts.
            options: fields of the schema's options; enumerations by the names of their values.
        """
        row = OPERATORS[name]
        tensors = [self._tensors[i] for i in (*inputs, *outputs)]
        rank = max(len(t.shape) for t in tensors)
        words = {
            "",
            *features,
            *(t.dtype for t in tensors),
            *(f"rank{n}" for n in (5, 6) if n <= rank),
        }
        version, since = max(row.versions[word] for word in words if word in row.versions)
        self._since.add(tuple(map(int, since.split("."))))
        code = self._codes.setdefault((name, version), len(self._codes))
        self._operators.append(_Operator(code, tuple(inputs), tuple(outputs), row.options, options))

    def finish(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """The file; its inputs and outputs have these names, in its one signature too.

        Raises:
            ModelError: the constants do not fit into the 2 GB that the format can hold.
        """
        size = sum(len(data) + 64 for data in self._buffers) + 512 * len(self._operators) + 2**16
        size += sum(256 + 12 * np.size(t.quant.scale if t.quant else 0) for t in self._tensors)
        if size > LARGEST:
            raise ModelError(
                f"the model holds {size / 1e9:.1f} GB of constants and a LiteRT file at most "
                "2.1 GB: prune or quantize the model, or lower it for another runtime"
            )
        for name, index in outputs.items():
            self._tensors[index] = replace(self._tensors[index], name=name)
        version = ".".join(map(str, max(self._since))).encode().ljust(16, b"\0")
        runtime = self._buffers.setdefault(version, len(self._buffers))
        return _Writer(self._schema, size).write(
            self._tensors, self._operators, self._codes, self._buffers, runtime, inputs, outputs
        )


class _Writer:
    """One pass over the gathered lists; a flatbuffer is written from its leaves to its root."""

    def __init__(self, schema: ModuleType, size: int) -> None:
        from flatbuffers import Builder

        self.schema = schema
        self.builder = Builder(size)

    def write(self, tensors, operators, codes, buffers, runtime, inputs, outputs) -> bytes:
        s = self.schema
        graph = self._table(
            "SubGraph",
            Tensors=self._offsets([self._tensor(t) for t in tensors]),
            Inputs=self._numbers([*inputs.values()], np.int32),
            Outputs=self._numbers([*outputs.values()], np.int32),
            Operators=self._offsets([self._operator(o) for o in operators]),
            Name=self._string("main"),
        )
        signature = self._table(
            "SignatureDef",
            Inputs=self._names(inputs),
            Outputs=self._names(outputs),
            SignatureKey=self._string("serving_default"),
        )
        note = self._table("Metadata", Name=self._string("min_runtime_version"), Buffer=runtime)
        model = self._table(
            "Model",
            Version=3,
            OperatorCodes=self._offsets(
                [
                    self._table(
                        "OperatorCode",
                        # The old field is a byte: codes beyond it have 127 there.
                        DeprecatedBuiltinCode=min(getattr(s.BuiltinOperator, name), 127),
                        Version=version,
                        BuiltinCode=getattr(s.BuiltinOperator, name),
                    )
                    for name, version in codes
                ]
            ),
            Subgraphs=self._offsets([graph]),
            Description=self._string("edgewise"),
            Buffers=self._offsets([self._buffer(data) for data in buffers]),
            Metadata=self._offsets([note]),
            SignatureDefs=self._offsets([signature]),
        )
        self.builder.Finish(model, b"TFL3")
        return bytes(self.builder.Output())

    def _table(self, kind: str, **fields: Any) -> int:
        getattr(self.schema, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            if value is not None:
                getattr(self.schema, f"{kind}Add{name}")(self.builder, value)
        return getattr(self.schema, f"{kind}End")(self.builder)

    def _string(self, text: str) -> int:
        return self.builder.CreateString(text)

    def _numbers(self, values, dtype) -> int:
        return self.builder.CreateNumpyVector(np.asarray(values, dtype))

    def _offsets(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def _names(self, tensors: dict[str, int]) -> int:
        maps = [(self._string(name), index) for name, index in tensors.items()]
        return self._offsets([self._table("TensorMap", Name=n, TensorIndex=i) for n, i in maps])

    def _tensor(self, tensor: _Tensor) -> int:
        return self._table(
            "Tensor",
            Shape=self._numbers(tensor.shape, np.int32),
            Type=getattr(self.schema.TensorType, tensor.dtype.upper()),
            Buffer=tensor.buffer,
            Name=self._string(tensor.name),
            Quantization=self._quantization(tensor.quant),
            HasRank=True,
        )

    def _quantization(self, quant: Quant | None) -> int | None:
        if quant is None:
            return None
        return self._table(
            "QuantizationParameters",
            Scale=self._numbers(np.atleast_1d(quant.scale), np.float32),
            ZeroPoint=self._numbers(np.atleast_1d(quant.zero_point), np.int64),
            QuantizedDimension=quant.axis or 0,
        )

    def _operator(self, operator: _Operator) -> int:
        options = {}
        if operator.options:
            table = getattr(self.schema, operator.options + "T")()
            for name, value in operator.values.items():
                if name in ENUMERATIONS:
                    value = getattr(getattr(self.schema, ENUMERATIONS[name]), value)
                setattr(table, name, value)
            options = {
                "BuiltinOptionsType": getattr(self.schema.BuiltinOptions, operator.options),
                "BuiltinOptions": table.Pack(self.builder),
            }
        return self._table(
            "Operator",
            OpcodeIndex=operator.code,
            Inputs=self._numbers(operator.inputs, np.int32),
            Outputs=self._numbers(operator.outputs, np.int32),
            **options,
        )

    def _buffer(self, data: bytes) -> int:
        if not data:
            return self._table("Buffer")
        self.builder.StartVector(1, len(data), ALIGNMENT)
        self.builder.head -= len(data)
        self.builder.Bytes[self.builder.head : self.builder.head + len(data)] = data
        return self._table("Buffer", Data=self.builder.EndVector())


def _schema() -> ModuleType:
    try:
        import flatbuffers  # noqa: F401
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise MissingExtra("LiteRT", "litert") from None
    return schema_py_generated

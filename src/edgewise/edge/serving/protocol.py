"""The Open Inference Protocol v2: requests to arrays and arrays to answers. No input or output.

Specification: kserve/open-inference-protocol, "inference_rest.md"; the binary form of tensors is
Triton's extension "binary_tensor_data": a JSON head whose length is in the header field
``Inference-Header-Content-Length``, then the tensors' bytes, little-endian, in the head's order.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

import msgspec
import numpy as np

from ...record import Signature, TensorSpec
from ..artifact import shape_text
from .limits import Refused
from .regions import Regions

__all__ = [
    "DATATYPES",
    "Asked",
    "answer",
    "ask",
    "checked",
    "described",
    "from_bytes",
    "from_numbers",
    "tensors",
    "to_bytes",
    "wanted",
]

# numpy's name -> the protocol's
DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}

NUMBER_BYTES = 32  # of JSON text that one number may take, with its comma, brackets and spaces
SHARED = "shared_memory_region"
UNSUPPORTED = (SHARED, "classification")  # extensions that change what is sent


class Tensor(msgspec.Struct):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw()


class Wanted(msgspec.Struct):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class Head(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] = []


class Asked(msgspec.Struct):
    """A request whose arrays fit the model.

    `outputs` are positions among the model's outputs, each with whether it goes out as bytes.
    """

    id: str
    arrays: tuple[np.ndarray, ...]
    outputs: list[tuple[int, bool]]


DECODER = msgspec.json.Decoder(Head)
ENCODER = msgspec.json.Encoder()


def ask(
    body: bytes | memoryview,
    head_bytes: int | None,
    signature: Signature,
    samples: int,
    regions: Regions | None = None,
) -> Asked:
    """Read a request.

    Args:
        body: of the HTTP request.
        head_bytes: the length of its JSON; None where the whole body is JSON.
        signature: of the model.
        samples: that it may have at most.
        regions: of shared memory that inputs may lie in; None where they may not.

    Raises:
        Refused: 400 for what does not fit, and why.
    """
    body = memoryview(body)
    if head_bytes is None:
        head_bytes = len(body)
    elif not 0 < head_bytes <= len(body):
        raise Refused(
            400, f"Inference-Header-Content-Length is {head_bytes} in a body of {len(body)} bytes"
        )
    try:
        head = DECODER.decode(body[:head_bytes])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the request is not a valid inference request: {error}") from None
    rest = body[head_bytes:]
    given: dict[str, np.ndarray] = {}
    for tensor in head.inputs:
        spec = checked(tensor, signature, samples, shared=regions is not None)
        if tensor.name in given:
            raise Refused(400, f"input '{tensor.name}' is given twice")
        if SHARED in tensor.parameters:
            want = math.prod(tensor.shape) * np.dtype(spec.dtype).itemsize
            data = regions.read(tensor.parameters, want)
            given[tensor.name] = from_bytes(data, tensor.name, tensor.shape, spec)
            continue
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            given[tensor.name] = _from_json(tensor, spec)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(rest):
            raise Refused(
                400, f"input '{tensor.name}' has {size} bytes, {len(rest)} are left in the body"
            )
        given[tensor.name] = from_bytes(rest[:size], tensor.name, tensor.shape, spec)
        rest = rest[size:]
    if len(rest):
        raise Refused(400, f"{len(rest)} bytes at the end of the body belong to no input")
    binary = head.parameters.get("binary_data_output") is True
    return Asked(head.id, tensors(given, signature), wanted(head.outputs, binary, signature))


def checked(tensor: Any, signature: Signature, samples: int, *, shared: bool = False) -> TensorSpec:
    """The input that a tensor is for, once its datatype and shape are seen to fit.

    Args:
        tensor: has ``name``, ``datatype``, ``shape`` and ``parameters``.
        signature: of the model.
        samples: that a request may have at most.
        shared: whether it may lie in shared memory.

    Raises:
        Refused: 400.
    """
    for spec in signature.inputs:
        if spec.name == tensor.name:
            _fits(tensor, spec, samples)
            if not shared:
                _supported(tensor.parameters)
            return spec
    raise Refused(400, f"the model has no input '{tensor.name[:80]}': it takes {_names(signature)}")


def tensors(given: dict[str, np.ndarray], signature: Signature) -> tuple[np.ndarray, ...]:
    """The inputs in the model's order, all with the same number of samples.

    Raises:
        Refused: 400 where one is missing or the numbers of samples differ.
    """
    missing = [spec.name for spec in signature.inputs if spec.name not in given]
    if missing:
        raise Refused(400, f"input '{missing[0]}' is missing: the model takes {_names(signature)}")
    arrays = tuple(given[spec.name] for spec in signature.inputs)
    if len({len(array) for array in arrays}) > 1:
        raise Refused(400, f"the inputs have {[len(a) for a in arrays]} samples: give as many each")
    return arrays


def wanted(outputs: Sequence[Any], binary: bool, signature: Signature) -> list[tuple[int, bool]]:
    """Which outputs go out, by position, each with whether as bytes; all where none is named.

    Raises:
        Refused: 400 for one that the model does not have.
    """
    if not outputs:
        return [(position, binary) for position in range(len(signature.outputs))]
    names = [spec.name for spec in signature.outputs]
    chosen: dict[int, bool] = {}
    for output in outputs:
        if output.name not in names:
            known = ", ".join(names)
            raise Refused(400, f"the model has no output '{output.name[:80]}': it has {known}")
        _supported(output.parameters)
        chosen[names.index(output.name)] = output.parameters.get("binary_data", binary) is True
    return list(chosen.items())


def from_bytes(raw: Any, name: str, shape: Sequence[int], spec: TensorSpec) -> np.ndarray:
    """A view of a tensor's bytes as an array; it may begin anywhere (`Artifact.to_file` aligns).

    Raises:
        Refused: 400 where the number of bytes is not the shape's.
    """
    dtype = np.dtype(spec.dtype)
    want = math.prod(shape) * dtype.itemsize
    if len(raw) != want:
        raise Refused(
            400, f"input '{name}' of shape {list(shape)} takes {want} bytes, found {len(raw)}"
        )
    array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise Refused(400, f"input '{name}' of BOOL has bytes other than 0 and 1")
    return array.astype(dtype, copy=False)


def from_numbers(data: Sequence[Any], tensor: Any, spec: TensorSpec) -> np.ndarray:
    """Numbers one by one as an array of the input's shape and dtype.

    Raises:
        Refused: 400 where they are too many or few, or what the dtype does not hold.
    """
    count, dtype = math.prod(tensor.shape), np.dtype(spec.dtype)
    try:
        array = np.asarray(data)
        if array.dtype.kind not in _kinds(dtype) or array.size != count:
            raise ValueError(f"{array.size} of {array.dtype.name}")
        if dtype.kind in "iu":  # numpy casts an array without a word where it refuses a list
            bounds = np.iinfo(dtype)
            if array.min() < bounds.min or array.max() > bounds.max:
                raise ValueError(f"a number outside {bounds.min} ... {bounds.max}")
        return array.astype(dtype).reshape(tensor.shape)
    except (ValueError, RecursionError) as error:
        text = str(error)[:200]
        raise Refused(
            400, f"input '{tensor.name}' takes {count} {tensor.datatype} numbers, found {text}"
        ) from None


def answer(
    asked: Asked, outputs: tuple[np.ndarray, ...], signature: Signature, model: dict[str, str]
) -> tuple[list[bytes | memoryview], int | None]:
    """The parts of an answer's body, and the length of its JSON where bytes follow it.

    Args:
        asked: the request.
        outputs: of the model, in the signature's order.
        model: ``{"model_name": ..., "model_version": ...}``.
    """
    rows, parts = [], []
    for position, binary in asked.outputs:
        spec, array = signature.outputs[position], outputs[position]
        row = {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": array.shape}
        if binary:
            row["parameters"] = {"binary_data_size": array.nbytes}
            parts.append(to_bytes(array))
        else:
            row["data"] = _to_json(array, spec)
        rows.append(row)
    head = ENCODER.encode({**model, **({"id": asked.id} if asked.id else {}), "outputs": rows})
    return [head, *parts], len(head) if parts else None


def to_bytes(array: np.ndarray) -> memoryview:
    """An array's numbers as they go out: little-endian, the last axis fastest."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def described(signature: Signature) -> dict[str, Any]:
    """The inputs and outputs as a model's metadata give them; -1 is the batch axis."""

    def rows(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {
                "name": spec.name,
                "datatype": DATATYPES[spec.dtype],
                "shape": [-1 if size is None else size for size in spec.shape],
            }
            for spec in specs
        ]

    return {"inputs": rows(signature.inputs), "outputs": rows(signature.outputs)}


def _fits(tensor: Any, spec: TensorSpec, samples: int) -> None:
    name, datatype, shape = tensor.name, tensor.datatype, list(tensor.shape)
    if datatype != DATATYPES[spec.dtype]:
        raise Refused(400, f"input '{name}' takes {DATATYPES[spec.dtype]}, found {datatype[:20]!r}")
    fits = len(shape) == len(spec.shape) and all(
        want in (None, have) for want, have in zip(spec.shape, shape, strict=True)
    )
    if not fits or (shape and shape[0] < 1):
        raise Refused(400, f"input '{name}' takes shape {shape_text(spec)}, found {shape[:8]}")
    if shape and shape[0] > samples:
        raise Refused(400, f"input '{name}' has {shape[0]} samples, at most {samples} are taken")


def _supported(parameters: Container[str]) -> None:
    for name in UNSUPPORTED:
        if name in parameters:
            raise Refused(400, f"the parameter '{name}' is not supported by this server")


def _from_json(tensor: Tensor, spec: TensorSpec) -> np.ndarray:
    count, text = math.prod(tensor.shape), bytes(tensor.data)
    if len(text) > NUMBER_BYTES * (count + 1):
        raise Refused(400, f"input '{tensor.name}' has more JSON than its {count} numbers can need")
    try:
        data = msgspec.json.decode(text, type=list)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, f"the data of input '{tensor.name}' are no list: {error}") from None
    return from_numbers(data, tensor, spec)


def _kinds(dtype: np.dtype) -> str:
    """The kinds of what numpy makes of the JSON that may stand for `dtype`."""
    return {"f": "fiu", "b": "b"}.get(dtype.kind, "iu")


def _to_json(array: np.ndarray, spec: TensorSpec) -> list[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refused(
            400,
            f"output '{spec.name}' has numbers that JSON cannot write (infinite or none): ask for "
            "it as binary data",
        )
    return array.reshape(-1).tolist()


def _names(signature: Signature) -> str:
    return ", ".join(spec.name for spec in signature.inputs)

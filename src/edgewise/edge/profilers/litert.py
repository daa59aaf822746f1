"""LiteRT's profiler, which its Python package does not offer: through the C interface.

``libLiteRt.so`` of the package exports the functions of ``litert/c/*.h``. The kernels are those
that the interpreter runs: the built-in ones, and XNNPACK's for what that takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import byref, c_char_p, c_int, c_int32, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RuntimeFailure
from ...record import Signature, TensorSpec
from ..runners import litert as runner
from . import Operator

__all__ = ["profile"]

WARM = 3  # runs that are not counted
CPU = 1
WRITE = 1
INVOKE = b"Invoke"
BUILT_IN, DELEGATED = 2, 8  # kinds of events: an operator of the file; one of XNNPACK's
ELEMENTS = {"float32": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9,
            "float16": 10}  # fmt: skip
# XNNPACK's words for operators that multiply by weights, which it runs one for one.
PRODUCTS = ("Convolution", "Fully Connected", "Deconvolution", "Batch Matrix Multiply")


class Layout(ctypes.Structure):
    """LiteRtLayout of litert_layout.h."""

    _fields_ = (
        ("rank", c_uint, 7), ("has_strides", c_uint, 1),
        ("dimensions", c_int32 * 8), ("strides", c_uint32 * 8),
    )  # fmt: skip


class TensorType(ctypes.Structure):
    """LiteRtRankedTensorType of litert_model_types.h."""

    _fields_ = (("element", c_int), ("layout", Layout))


class Event(ctypes.Structure):
    """ProfiledEventData of litert_profiler_event.h."""

    _fields_ = (
        ("tag", c_char_p), ("kind", c_int), ("start", c_uint64), ("us", c_uint64),
        ("memory", c_size_t * 6), ("node", c_uint64), ("subgraph", c_uint64), ("source", c_int),
    )  # fmt: skip


def profile(
    path: Path, threads: int, feeds: Iterator[tuple[np.ndarray, ...]], runs: int
) -> list[list[Operator]]:
    """What XNNPACK and the built-in kernels ran; see `edgewise.edge.profilers.profile`."""
    opened = runner.open(path, threads)
    model = _Compiled(path, threads, opened.signature)
    for _ in range(WARM):
        model.run(next(feeds))
    operators = opened.operators()
    found = []
    for _ in range(runs):
        events = model.trace(next(feeds))
        found.append(_operators(events, operators))
    return found


def _operators(
    events: Sequence[tuple[bytes, int, int, int]], operators: Sequence[runner.Operator]
) -> list[Operator]:
    """Events of one run as operators; XNNPACK's products have the file's names where they match."""
    products = iter([o.name for o in operators if o.kind in runner.WEIGHTED])
    taken = sum(tag.decode().startswith(PRODUCTS) for tag, kind, *_ in events if kind == DELEGATED)
    built_in = sum(
        operators[node].kind in runner.WEIGHTED
        for _, kind, node, _ in events
        if kind == BUILT_IN and node < len(operators)
    )
    matched = taken + built_in == sum(o.kind in runner.WEIGHTED for o in operators)
    found = []
    for tag, kind, node, us in events:
        word = tag.decode(errors="replace")
        if kind == DELEGATED:
            name = next(products) if matched and word.startswith(PRODUCTS) else ""
            found.append(Operator(name, word, "XNNPACK", us))
        elif kind == BUILT_IN and word != "DELEGATE" and node < len(operators):
            operator = operators[node]
            if matched and operator.kind in runner.WEIGHTED:
                next(products)
            found.append(Operator(operator.name, word, "built-in", us, operator.inputs, True))
    return found


class _Compiled:
    """A compiled model with profiling on, its inputs and outputs laid out."""

    def __init__(self, path: Path, threads: int, signature: Signature) -> None:
        self._library = ctypes.CDLL(str(runner.library()))
        self.environment, model, options = c_void_p(), c_void_p(), c_void_p()
        self.model, self.profiler = c_void_p(), c_void_p()
        self._call("CreateEnvironment", 0, None, byref(self.environment))
        name = str(path).encode()
        self._call("CreateModelFromFile", self.environment, name, byref(model))
        self._call("CreateOptions", byref(options))
        self._call("SetOptionsHardwareAccelerators", options, CPU)
        self._payloads = []
        for key, text in (
            (b"runtime_options_string", b"enable_profiling = true\n"),
            (b"xnnpack", b"num_threads = %d\n" % threads),
        ):
            self._add(options, key, text)
        self._call("CreateCompiledModel", self.environment, model, options, byref(self.model))
        self._call("CompiledModelGetProfiler", self.model, byref(self.profiler))
        self.inputs = self._buffers("Input", signature.inputs)
        self.outputs = self._buffers("Output", signature.outputs)

    def run(self, arrays: tuple[np.ndarray, ...]) -> None:
        """One inference."""
        for buffer, array in zip(self.inputs, arrays, strict=True):
            place, array = c_void_p(), np.ascontiguousarray(array)
            self._call("LockTensorBuffer", c_void_p(buffer), byref(place), WRITE)
            ctypes.memmove(place, array.ctypes.data, array.nbytes)
            self._call("UnlockTensorBuffer", c_void_p(buffer))
        counts = (c_size_t(len(self.inputs)), c_size_t(len(self.outputs)))
        self._call(
            "RunCompiledModel", self.model, c_size_t(0), counts[0], self.inputs, counts[1],
            self.outputs,
        )  # fmt: skip

    def trace(self, arrays: tuple[np.ndarray, ...]) -> list[tuple[bytes, int, int, int]]:
        """One inference: (tag, kind, node, microseconds) of each event."""
        self._call("ResetProfiler", self.profiler)
        self._call("StartProfiler", self.profiler)
        self.run(arrays)
        self._call("StopProfiler", self.profiler)
        count = c_int()
        self._call("GetNumProfilerEvents", self.profiler, byref(count))
        events = (Event * count.value)()
        self._call("GetProfilerEvents", self.profiler, count, events)
        return [(e.tag, e.kind, e.node, e.us) for e in events]

    def _add(self, options: c_void_p, key: bytes, text: bytes) -> None:
        payload, made = ctypes.create_string_buffer(text), c_void_p()
        nothing = ctypes.CFUNCTYPE(None, c_void_p)(lambda at: None)  # Python frees the payload
        self._payloads += [payload, nothing]
        self._call("CreateOpaqueOptions", key, payload, nothing, byref(made))
        self._call("AddOpaqueOptions", options, made)

    def _buffers(self, side: str, tensors: Sequence[TensorSpec]) -> Any:
        made = []
        for place, tensor in enumerate(tensors):
            layout = Layout(rank=len(tensor.shape), dimensions=(c_int32 * 8)(*tensor.shape))
            kind, needs, buffer = TensorType(ELEMENTS[tensor.dtype], layout), c_void_p(), c_void_p()
            self._call(
                f"GetCompiledModel{side}BufferRequirements", self.model, c_size_t(0),
                c_size_t(place), byref(needs),
            )  # fmt: skip
            self._call(
                "CreateManagedTensorBufferFromRequirements", self.environment, byref(kind), needs,
                byref(buffer),
            )  # fmt: skip
            made.append(buffer)
        return (c_void_p * len(made))(*made)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeFailure(
                f"LiteRT's profiler failed in {name} (status {status}): this build of it has no "
                "such profiler"
            )

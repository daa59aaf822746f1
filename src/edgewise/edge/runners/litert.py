"""Run ``.tflite`` files with LiteRT's interpreter on the CPU, through XNNPACK."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import MissingExtra, ModelError, RuntimeFailure
from ...record import Signature, TensorSpec

__all__ = ["WEIGHTED", "library", "open", "probe", "sdk"]

IDENTIFIER = b"TFL3"
IDENTIFIER_AT = slice(4, 8)
STDERR = 2
# Operators that multiply by weights, their second input.
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")


def sdk() -> type:
    """The ``Interpreter`` class of the ``ai-edge-litert`` package.

    Raises:
        MissingExtra: it is not installed.
        RuntimeFailure: it is installed, but this system cannot load its libraries.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        raise MissingExtra("LiteRT", "litert") from None
    except ImportError as error:
        raise RuntimeFailure(f"LiteRT is installed but cannot be loaded: {error}") from None
    return Interpreter


def probe() -> str:
    """The version of LiteRT (``2.3.0``).

    Raises:
        MissingExtra: LiteRT is not installed.
    """
    sdk()
    return version("ai-edge-litert")


def library() -> Path:
    """The shared library of the package, with LiteRT's C interface."""
    return Path(sys.modules[sdk().__module__].__file__).with_name("libLiteRt.so")


def open(path: Path, threads: int) -> Runner:
    """Open a file for running on `threads` threads.

    Raises:
        MissingExtra: LiteRT is not installed.
        ModelError: LiteRT cannot read the file, or lacks an operator that is in it.
    """
    interpreter = sdk()
    try:
        with path.open("rb") as file:
            start = file.read(IDENTIFIER_AT.stop)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    if start[IDENTIFIER_AT] != IDENTIFIER:
        raise ModelError(f"{path} is not a LiteRT file: it does not begin as a .tflite file does")
    try:
        # The interpreter verifies the whole flatbuffer before it builds anything from it.
        with _quiet():
            opened = interpreter(str(path), num_threads=threads)
            opened.allocate_tensors()
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ModelError(f"LiteRT cannot open {path}: {_reason(error)}") from None
    return Runner(opened, path)


@dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        kind: the schema's word (``"CONV_2D"``).
        name: of its first output; where that is an output of the file, whose name says nothing of
            layers, of its weight.
        inputs: dtypes.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]


class Runner:
    """An interpreter with its tensors allocated.

    Attributes:
        signature: inputs and outputs as the file has them; the names are those of the file's
            first signature, or of its tensors where it has none.
        version: of LiteRT.
    """

    def __init__(self, interpreter: Any, path: Path) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        names = _names(interpreter)
        self.signature = Signature(_specs(inputs, names), _specs(outputs, names))
        self.version = probe()
        self._interpreter = interpreter
        self._path = path
        self._inputs = tuple(detail["index"] for detail in inputs)
        self._outputs = tuple(detail["index"] for detail in outputs)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One inference; the results are copies that stay valid after the next call."""
        try:
            for index, array in zip(self._inputs, inputs, strict=True):
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise RuntimeFailure(f"LiteRT failed to run {self._path}: {_reason(error)}") from None
        return tuple(self._interpreter.get_tensor(index) for index in self._outputs)

    def operators(self) -> list[Operator]:
        """The operators of the file, those that a delegate takes among them."""
        names = {d["index"]: d["name"] for d in self._interpreter.get_tensor_details()}

        def name(found: dict[str, Any]) -> str:
            named = list(found["outputs"][:1])
            if found["op_name"] in WEIGHTED and named and named[0] in self._outputs:
                named = list(found["inputs"][1:2])
            return names.get(int(named[0]), "") if named else ""

        return [
            Operator(
                kind=found["op_name"],
                name=name(found),
                inputs=tuple(np.dtype(t).name for t in found["operand_types"]),
            )
            for found in self._interpreter._get_ops_details()
            if found["op_name"] != "DELEGATE"
        ]


def _names(interpreter: Any) -> dict[int, str]:
    """Tensor index to the name in the signature."""
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        details = {**runner.get_input_details(), **runner.get_output_details()}
        return {detail["index"]: name for name, detail in details.items()}
    return {}


def _specs(details: Sequence[dict[str, Any]], names: dict[int, str]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=names.get(detail["index"], detail["name"]),
            shape=tuple(int(size) for size in detail["shape"]),
            dtype=np.dtype(detail["dtype"]).name,
        )
        for detail in details
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the library prints about itself from standard error; it has no setting for that.

    Its errors come as exceptions.
    """
    try:
        kept = os.dup(STDERR)
    except OSError:  # a service without standard error
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def _reason(error: Exception) -> str:
    """The first line of LiteRT's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

"""Run ``.onnx`` files with ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import MissingExtra, ModelError, RuntimeFailure
from ...record import Signature, TensorSpec

__all__ = ["open", "options", "probe", "saturates", "sdk", "session"]

WARNINGS_OFF = 3  # only errors and what is fatal are printed

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def sdk() -> ModuleType:
    """The ``onnxruntime`` package, imported with its telemetry and its warnings off.

    The official wheels report usage to Microsoft from version 1.29 on.

    Raises:
        MissingExtra: onnxruntime is not installed.
        RuntimeFailure: it is installed, but this system cannot load its libraries.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingExtra("ONNX Runtime", "onnxruntime") from None
    except ImportError as error:
        raise RuntimeFailure(f"ONNX Runtime is installed but cannot be loaded: {error}") from None
    onnxruntime.disable_telemetry_events()  # in case that someone else imported it first
    onnxruntime.set_default_logger_severity(WARNINGS_OFF)
    return onnxruntime


def probe() -> str:
    """The version of ONNX Runtime (``1.31.1``).

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    return sdk().__version__


def open(path: Path, threads: int) -> Runner:
    """Open a file for running on `threads` threads.

    Raises:
        MissingExtra: onnxruntime is not installed.
        ModelError: ONNX Runtime cannot read the file.
    """
    return Runner(session(path, options(threads)), path)


def session(path: Path, chosen: Any) -> Any:
    """An inference session with these options.

    Raises:
        ModelError: ONNX Runtime cannot read the file.
    """
    try:
        return sdk().InferenceSession(path, chosen, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise ModelError(f"ONNX Runtime cannot open {path}: {_reason(error)}") from None


def options(threads: int) -> Any:
    """Session options: one inference at a time, as fast and as exact as it can be."""
    chosen = sdk().SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = WARNINGS_OFF
    if saturates():
        chosen.add_session_config_entry("session.x64quantprecision", "1")
    return chosen


def saturates(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor's fast uint8 x int8 kernels give wrong sums: x86 without VNNI.

    They add pairs of products in int16, which 255 * 127 * 2 overflows; the session option takes
    the exact, slower ones. ONNX Runtime would do so on processors with VNNI too, for which it
    costs more than half of the speed: so it is not left to itself. Without /proc nothing is
    known, and right numbers go first.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not cpuinfo.exists() or "vnni" not in cpuinfo.read_text()


class Runner:
    """An inference session.

    Attributes:
        signature: inputs and outputs as the file has them; a size that the file leaves open is
            None.
        version: of ONNX Runtime.
    """

    def __init__(self, session: Any, path: Path) -> None:
        self.signature = Signature(
            _specs(session.get_inputs(), path), _specs(session.get_outputs(), path)
        )
        self.version = probe()
        self._session = session
        self._names = tuple(spec.name for spec in self.signature.inputs)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One inference."""
        return tuple(self._session.run(None, dict(zip(self._names, inputs, strict=True))))


def _specs(values: Sequence[Any], path: Path) -> tuple[TensorSpec, ...]:
    for value in values:
        if value.type not in DTYPES:
            raise ModelError(
                f"'{value.name}' in {path} is a {value.type}, which is no array of numbers: give "
                "a model that takes and gives tensors"
            )
    return tuple(
        TensorSpec(
            name=value.name,
            shape=tuple(size if isinstance(size, int) else None for size in value.shape),
            dtype=DTYPES[value.type],
        )
        for value in values
    )


def _reason(error: Exception) -> str:
    """ONNX Runtime's message without the status code in front and the lines below."""
    text = str(error).strip().partition("\n")[0]
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text

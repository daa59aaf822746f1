"""Run OpenVINO IR (an ``.xml`` with its ``.bin``) on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import MissingExtra, ModelError, RuntimeFailure
from ...record import Signature, TensorSpec

__all__ = ["open", "probe", "reason", "sdk"]


def sdk() -> ModuleType:
    """The ``openvino`` package, imported without its telemetry.

    ``import openvino`` by itself reports to Google Analytics and writes a client id into
    ``~/intel``, through ``openvino_telemetry``, which it depends on. Where that package cannot be
    imported it takes a stub that does nothing: so it is hidden for the time of the import.

    Raises:
        MissingExtra: openvino is not installed.
        RuntimeFailure: it is installed, but this system cannot load its libraries.
    """
    if "openvino" not in sys.modules:
        hidden = sys.modules.get("openvino_telemetry", ...)
        sys.modules["openvino_telemetry"] = None  # makes its import raise ImportError
        try:
            import openvino  # noqa: F401
        except ModuleNotFoundError:
            raise MissingExtra("OpenVINO", "openvino") from None
        except ImportError as error:
            raise RuntimeFailure(f"OpenVINO is installed but cannot be loaded: {error}") from None
        finally:
            del sys.modules["openvino_telemetry"]
            if hidden is not ...:
                sys.modules["openvino_telemetry"] = hidden
    return sys.modules["openvino"]


def probe() -> str:
    """The version of OpenVINO (``2026.4.1``).

    Raises:
        MissingExtra: openvino is not installed.
    """
    return sdk().get_version().partition("-")[0]


def open(path: Path, threads: int, *, counting: bool = False) -> Runner:
    """Open an IR file for running on `threads` threads, `counting` what each operator takes.

    Raises:
        MissingExtra: openvino is not installed.
        ModelError: OpenVINO cannot read or compile the file.
    """
    core = sdk().Core()
    try:
        # OpenVINO would try its other front-ends (ONNX, TensorFlow ...) on what is no IR.
        with path.open("rb") as file:
            if b"<net" not in file.read(4096):
                raise ModelError(
                    f"{path} is not OpenVINO IR: give the .xml that `edgewise lower` wrote"
                )
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", settings(threads) | {"PERF_COUNT": counting})
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"OpenVINO cannot open {path} ({reason(error)}): lower the model again, and keep its "
            ".bin beside it"
        ) from None
    # Not the compiled model's ports: outputs that are equal share one name there.
    signature = Signature(_specs(model.inputs), _specs(model.outputs))
    return Runner(path, compiled, signature)


def settings(threads: int) -> dict[str, Any]:
    """What the CPU plugin is told: one inference at a time, as fast as it can be.

    Where the processor has bfloat16 arithmetic the plugin would run every float operator in it
    without a word, which changes results by 1 part in 256: float32 must mean float32.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }


class Runner:
    """A compiled model with one request.

    Attributes:
        signature: inputs and outputs as the file has them; a size that the file leaves open is
            None.
        version: of OpenVINO.
    """

    def __init__(self, path: Path, compiled: Any, signature: Signature) -> None:
        self._path = path
        self.signature = signature
        self.version = probe()
        self._request = compiled.create_infer_request()

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One inference; the results are copies that stay valid after the next call.

        Raises:
            RuntimeFailure: inputs that do not fit the file, or OpenVINO's own failure.
        """
        # The tensors share the arrays' memory (which takes writable ones) and alone keep it alive.
        arrays = [np.require(array, None, "CW") for array in inputs]
        tensors = [sdk().Tensor(array, True) for array in arrays]
        try:
            for i, tensor in enumerate(tensors):
                self._request.set_input_tensor(i, tensor)
            results = self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise RuntimeFailure(f"OpenVINO failed to run {self._path}: {reason(error)}") from None
        return tuple(results[i].copy() for i in range(len(self.signature.outputs)))

    def counters(self) -> list[Any]:
        """What each operator of the last inference took; the file was opened with `counting`."""
        return self._request.get_profiling_info()


def _specs(ports: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=min(port.names, default=port.get_node().get_friendly_name()),
            shape=tuple(d.get_length() if d.is_static else None for d in port.partial_shape),
            dtype=str(port.element_type.to_dtype()),
        )
        for port in ports
    )


def reason(error: Exception) -> str:
    """The last line of an OpenVINO error: the ones before it name C++ source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"

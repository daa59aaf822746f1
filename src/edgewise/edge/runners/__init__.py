"""The runtimes, one file each: open a file, run numpy arrays through it. Free of torch."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from ...errors import InputError, ModelError
from ...record import Signature

__all__ = [
    "RUNTIMES", "Runner", "files", "lacks_wheels", "open_file", "probe", "runtime_of",
]  # fmt: skip


class Runner(Protocol):
    """An opened file, ready to run.

    Attributes:
        signature: inputs and outputs as the file has them, shapes with the file's own batch.
        version: of the runtime.
    """

    signature: Signature
    version: str

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One inference. `inputs` have exactly the shapes and dtypes of `signature`."""
        ...


@dataclass(frozen=True)
class Runtime:
    """Where a runtime's runner is, what its files are called, and the extra that installs it.

    The module has ``open(path: Path, threads: int) -> Runner`` and ``probe() -> str`` (the
    version; raises `MissingExtra` when the runtime is not installed).
    """

    name: str
    module: str
    suffixes: tuple[str, ...]  # the first is the file that the runtime opens
    extra: str
    package: str  # the distribution's name on PyPI


RUNTIMES: dict[str, Runtime] = {
    r.name: r
    for r in (
        Runtime("onnxruntime", "onnxruntime", (".onnx",), "onnxruntime", "onnxruntime"),
        Runtime("litert", "litert", (".tflite",), "litert", "ai-edge-litert"),
        Runtime("executorch", "executorch", (".pte",), "executorch", "executorch"),
        Runtime("openvino", "openvino", (".xml", ".bin"), "openvino", "openvino"),
    )
}

# The least glibc that the wheels on PyPI load, by architecture: their manylinux tags.
WHEELS = {
    "onnxruntime": {"x86_64": "2.28", "aarch64": "2.28"},
    "litert": {"x86_64": "2.27", "aarch64": "2.27"},
    "executorch": {"x86_64": "2.28", "aarch64": "2.28"},
    "openvino": {"x86_64": "2.28", "aarch64": "2.35"},
}


def get(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RUNTIMES:
        raise InputError(f"unknown runtime '{name}': choose one of {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def lacks_wheels(name: str, architecture: str, libc: str) -> str | None:
    """Why pip finds no wheel of a runtime for such a Linux; None where it does.

    Args:
        architecture, libc: as `edgewise.edge.machine.describe` gives them; a C library that is not
            known is taken to be new enough.
    """
    wheels = WHEELS[get(name).name]
    if architecture not in wheels:
        known = " and ".join(wheels)
        return f"{name} has no wheels for {architecture}, only for {known}: use a 64-bit system"
    if libc == "musl":
        return f"{name} has no wheels for musl: use a system with glibc, such as Debian"
    if libc.startswith("glibc ") and _numbers(libc.split()[1]) < _numbers(wheels[architecture]):
        return f"{name} needs glibc {wheels[architecture]}, this is {libc}: use a newer system"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def runtime_of(path: str | os.PathLike[str]) -> str:
    """The runtime that opens files with this suffix.

    Raises:
        ModelError: no runtime does.
    """
    suffix = Path(path).suffix.lower()
    for runtime in RUNTIMES.values():
        if suffix == runtime.suffixes[0]:
            return runtime.name
    known = ", ".join(r.suffixes[0] for r in RUNTIMES.values())
    raise ModelError(
        f"{path} is not an artifact: its suffix is '{suffix}', expected one of {known}"
    )


def files(name: str, path: Path) -> tuple[Path, ...]:
    """The file and those companions of it that exist (OpenVINO's ``.bin``)."""
    companions = (path.with_suffix(s) for s in get(name).suffixes[1:])
    return (path, *(c for c in companions if c.exists()))


def open_file(name: str, path: str | os.PathLike[str], threads: int | None = None) -> Runner:
    """Open a file for running; `threads` defaults to the number of processors.

    Raises:
        MissingExtra: the runtime is not installed.
        ModelError: the runtime cannot read the file.
    """
    return _module(name).open(Path(path), threads or os.cpu_count() or 1)


def probe(name: str) -> str:
    """Import the runtime itself and return its version.

    Raises:
        MissingExtra: the runtime is not installed.
    """
    return _module(name).probe()


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{get(name).module}", __name__)

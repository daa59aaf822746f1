"""Where files run: on this machine, or on a device behind it; the seam that devices fill.

A place starts workers (`edgewise.edge.worker`) and carries files to where they can open them. All
that measures or runs a file asks a place, so that every device is measured by the same method.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..record import Signature, TensorSpec
from .wire import pack, unpack
from .worker import LOCAL, Worker

__all__ = ["HERE", "Place", "RemoteRunner", "signature_from"]


class Place(Protocol):
    """Somewhere that files run.

    Attributes:
        name: as the user gave it: ``"local"``, ``"ssh://pi@pi4"``, ``"emulated:cortex-a72"``.
        timed: whether its clock tells how fast the device is; an emulated one's does not.
    """

    name: str
    timed: bool

    def command(self, runtime: str) -> Sequence[str]:
        """What starts a worker there that can import this runtime.

        Raises:
            EdgewiseError: it cannot have that runtime.
        """
        ...

    def send(self, path: Path) -> str:
        """Carry a file there, with the name that it has here; its path there."""
        ...

    def machine(self, found: dict[str, Any]) -> dict[str, Any]:
        """Of what `machine.describe` found there, that which is true of the device."""
        ...


class Here:
    """This machine: nothing is carried anywhere."""

    name = "local"
    timed = True

    def command(self, runtime: str) -> Sequence[str]:
        """This interpreter, from wherever edgewise was imported."""
        return LOCAL

    def send(self, path: Path) -> str:
        """The same file."""
        return str(path.resolve())

    def machine(self, found: dict[str, Any]) -> dict[str, Any]:
        """All of it."""
        return found


HERE = Here()


class RemoteRunner:
    """A file opened by a worker: a `runners.Runner` whose arrays travel over the worker's pipe.

    Attributes:
        signature, version: as of every runner.
    """

    def __init__(self, worker: Worker, path: str, threads: int | None = None) -> None:
        opened = worker.ask(open=path, threads=threads)
        self.signature = signature_from(opened["signature"])
        self.version: str = opened["version"]
        self._worker = worker

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One inference."""
        answer = self._worker.ask(infer=[pack(array) for array in inputs])
        return tuple(unpack(array) for array in answer["outputs"])


def signature_from(found: dict[str, Any]) -> Signature:
    """A signature from a worker's answer."""
    inputs, outputs = (
        tuple(TensorSpec(s["name"], tuple(s["shape"]), s["dtype"]) for s in found[key])
        for key in ("inputs", "outputs")
    )
    return Signature(inputs, outputs)

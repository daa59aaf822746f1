"""An artifact opened on a device, run from here."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from ..edge import runners
from ..edge.agreement import outputs_agree
from ..edge.artifact import Artifact
from ..edge.place import Place, RemoteRunner
from ..edge.worker import Worker
from ..record import Agreement

__all__ = ["Opened"]

TIMEOUT = 300.0  # seconds to open a file, or for one inference: emulation is slow
COMPARED = 200  # samples


class Opened:
    """A worker on the device with the file open, until the ``with`` ends.

    Attributes:
        artifact: the file, as it lies here.
        machine, versions: the device's own.
    """

    def __init__(self, artifact: Artifact, place: Place, threads: int | None = None) -> None:
        self.artifact = artifact
        self.place = place
        self.threads = threads
        self._stack = ExitStack()
        self._kept: list[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]] = []

    def __enter__(self) -> Opened:
        path, runtime = self.artifact.path, self.artifact.runtime
        command = self.place.command(runtime)
        with ExitStack() as stack:
            worker = Worker(runtime, path.name, timeout=TIMEOUT, command=command)
            stack.enter_context(worker)
            self.worker = worker
            self.files = {p.name: self.place.send(p) for p in runners.files(runtime, path)}
            self._runner = RemoteRunner(worker, self.files[path.name], self.threads)
            found: dict[str, Any] = worker.ask(describe=runtime)
            self.machine = self.place.machine(found["machine"])
            self.versions: dict[str, str] = found["versions"]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """As `Artifact.run`, on the device."""
        outputs = self.artifact.run_on(self._runner, *inputs)
        if sum(len(some[0]) for some, _ in self._kept) < COMPARED:
            self._kept.append((inputs, _tuple(outputs)))
        return outputs

    def agreement(self, source: str) -> Agreement:
        """How the first 200 or so outputs that were given compare with those of this machine.

        Args:
            source: where the inputs came from, for the record.

        Raises:
            MissingExtra: the runtime is not installed here.
        """
        inputs, there = (
            tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            for parts in zip(*self._kept, strict=True)
        )
        return outputs_agree(_tuple(self.artifact.run(*inputs)), there, source=source)


def _tuple(outputs: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)

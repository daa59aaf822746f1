"""HDF5 files from strangers, read by a process that may hang or crash without harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

import numpy as np

from ...errors import MissingExtra, ModelError

__all__ = ["MAGIC", "H5File"]

MAGIC = b"\x89HDF\r\n\x1a\n"

PATIENCE = 5.0  # seconds for an answer, and more for an array
SLOWEST = 20e6  # bytes a second
STARTING = 60.0  # seconds until the process runs, on a busy machine
SPARE = 2 << 30  # bytes of address space besides the file's own


class H5File:
    """An HDF5 file opened for reading, from a path or from the bytes of one.

    Used as a context manager: the process ends with it.

    Args:
        name: of the file, in messages.

    Raises:
        MissingExtra: h5py is not installed.
        ModelError: it is no HDF5 file, or is cut off.
    """

    def __init__(self, source: Path | bytes, name: str):
        if find_spec("h5py") is None:
            raise MissingExtra("h5py, which reads Keras' weights,", "keras")
        self.name = name
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("h5_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1"},
        )
        first = len(source) if isinstance(source, bytes) else str(source.absolute())
        try:
            self._bound()
            self._exchange(first, STARTING, source if isinstance(source, bytes) else b"")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> H5File:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            stream.close()
        self._process.wait()

    def has(self, path: str) -> bool:
        """Whether there is a group or an array under this path."""
        return self._ask("has", path)

    def text(self, path: str, attribute: str) -> str | None:
        """An attribute that is text; None where there is none."""
        return self._ask("text", path, attribute)

    def texts(self, path: str, attribute: str) -> list[str] | None:
        """An attribute that is a list of texts (in parts ``name0``, ``name1`` ... when long)."""
        return self._ask("texts", path, attribute)

    def array(self, path: str) -> np.ndarray:
        """The numbers under this path, as float32 or integers.

        Raises:
            ModelError: there is none, it lies outside the file or is larger than the file can
                hold, or is no array of numbers.
        """
        return self._ask("array", path, patience=PATIENCE + self.size / SLOWEST)

    def _ask(self, *request: str, patience: float = PATIENCE) -> Any:
        return self._exchange(request, patience)

    def _exchange(self, request: Any, patience: float, data: bytes = b"") -> Any:
        """One request and its answer; the process is killed when that takes too long."""
        watch = Timer(patience, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n" + data)
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
            if "bytes" in answer:
                data = self._process.stdout.read(answer["bytes"])
                return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"])
        except (OSError, ValueError):
            raise ModelError(
                f"{self.name} is damaged: the HDF5 library hangs or crashes on it"
            ) from None
        finally:
            watch.cancel()
        if "error" in answer:
            raise ModelError(f"{self.name}: {answer['error']}")
        return answer["value"]

    def _bound(self) -> None:
        """Bound the memory of the process, where the system can."""
        try:
            from resource import RLIMIT_AS, prlimit
        except ImportError:
            return
        most = SPARE + 4 * self.size
        prlimit(self._process.pid, RLIMIT_AS, (most, most))

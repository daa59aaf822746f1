"""Run ``.pte`` files with ExecuTorch's runtime on the CPU, through XNNPACK.

ExecuTorch's Python runtime takes and gives torch tensors: this is the one runner that needs
torch on the device.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np

from ...errors import MissingExtra, ModelError, RuntimeFailure
from ...record import Signature, TensorSpec

__all__ = ["open", "probe", "sdk"]

T = TypeVar("T")

IDENTIFIER = b"ET12"
IDENTIFIER_AT = slice(4, 8)
METHOD = "forward"

# c10::ScalarType, by which a .pte file numbers dtypes.
DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32"}
DTYPES |= {7: "float64", 11: "bool"}


def sdk() -> ModuleType:
    """ExecuTorch's runtime, the extension module itself.

    ``executorch.runtime`` gives the same functions, but imports the whole compiler with them:
    4 s and 200 MB that a device need not spend.

    Raises:
        MissingExtra: executorch or torch is not installed.
        RuntimeFailure: it is installed, but this system cannot load its libraries.
    """
    try:
        import torch  # noqa: F401  (its libraries are the extension's)
        from executorch.extension.pybindings import _C
    except ModuleNotFoundError:
        raise MissingExtra("ExecuTorch", "executorch") from None
    except ImportError as error:
        raise RuntimeFailure(f"ExecuTorch is installed but cannot be loaded: {error}") from None
    return _C


def probe() -> str:
    """The version of ExecuTorch (``1.5.1``).

    Raises:
        MissingExtra: ExecuTorch is not installed.
    """
    sdk()
    return version("executorch")


def open(path: Path, threads: int, *, traced: bool = False) -> Runner:
    """Open a file for running on `threads` threads, `traced` operator by operator.

    Raises:
        MissingExtra: ExecuTorch is not installed.
        ModelError: ExecuTorch cannot read the file, or lacks an operator that is in it.
    """
    sdk()
    try:
        with path.open("rb") as file:
            start = file.read(IDENTIFIER_AT.stop)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    if start[IDENTIFIER_AT] != IDENTIFIER:
        raise ModelError(f"{path} is not an ExecuTorch file: it does not begin as a .pte file does")
    return Runner(path, threads, traced)


class Runner:
    """A loaded method.

    Attributes:
        signature: inputs and outputs as the file has them; a .pte file has no names for them.
        version: of ExecuTorch.
    """

    def __init__(self, path: Path, threads: int, traced: bool = False) -> None:
        self.version = probe()
        self._path = path
        self._traced = traced
        self._threads = threads
        self._program: Any = None
        self._method: Any = None
        self._load()
        meta = self._method.method_meta()
        self.signature = Signature(
            _specs(meta.input_tensor_meta, meta.num_inputs(), "x"),
            _specs(meta.output_tensor_meta, meta.num_outputs(), "y"),
        )

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """One inference; the results are copies that stay valid after the next call."""
        import torch

        if self._method is None:
            self._load()
        # torch warns of arrays that it could write to but must not.
        arrays = (np.require(array, requirements="CW") for array in inputs)
        try:
            outputs = self._method([torch.from_numpy(array) for array in arrays])
        except RuntimeError as error:
            raise RuntimeFailure(f"ExecuTorch failed to run {self._path}: {error}") from None
        return tuple(output.numpy() for output in outputs)

    def dump(self, path: Path) -> None:
        """Write the trace of all runs so far, an ETDump; the file was opened `traced`."""
        self._program.write_etdump_result_to_file(str(path))

    def release(self) -> None:
        """Let go of the method, before the threads that it works with end."""
        self._method = self._program = None

    def _load(self) -> None:
        lib = sdk()
        _threads().lend(self._threads, self)

        def load() -> None:
            self._program = lib._load_program(
                str(self._path),
                enable_etdump=self._traced,
                program_verification=lib.Verification.InternalConsistency,
            )
            self._method = self._program.load_method(METHOD)

        try:
            _listening(load)
        except RuntimeError as error:
            raise ModelError(f"ExecuTorch cannot open {self._path}: {error}") from None


class _Threads:
    """The threads that all of ExecuTorch shares in a process.

    There is one pool, of as many threads as the machine has processors until it is told
    otherwise. Each loaded method keeps the address of the pool, and another number of threads
    means another pool: so all methods are let go before it changes, and load again at their next
    run. Files that are measured are opened in processes of their own, where that never happens.
    """

    def __init__(self) -> None:
        self._borrowers: WeakSet[Runner] = WeakSet()

    def lend(self, count: int, borrower: Runner) -> None:
        lib = sdk()
        if _listening(lib._threadpool_get_thread_count) != count:
            for other in self._borrowers:
                other.release()
            self._borrowers.clear()
            _listening(lambda: lib._unsafe_reset_threadpool(count))
        self._borrowers.add(borrower)


@cache
def _threads() -> _Threads:
    return _Threads()


def _listening(call: Callable[[], T]) -> T:
    """Call into the runtime with what it prints caught: it has no other way to give a reason.

    Raises:
        RuntimeError: what went wrong, in one line.
    """
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):  # the runtime writes to Python's stream
            return call()
    except RuntimeError as error:
        # "[program.cpp:114] File size is too small ..."
        _, _, reason = heard.getvalue().strip().rpartition("\n")[2].rpartition("] ")
        raise RuntimeError(reason or str(error)) from None


def _specs(meta: Callable[[int], Any], count: int, letter: str) -> tuple[TensorSpec, ...]:
    infos = [meta(i) for i in range(count)]
    return tuple(
        TensorSpec(f"{letter}{i}", tuple(info.sizes()), DTYPES.get(info.dtype(), "float32"))
        for i, info in enumerate(infos)
    )

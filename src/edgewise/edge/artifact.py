"""Artifact: a model in the form that one runtime runs, with the record of how it came about."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError, ModelError
from ..record import Agreement, Event, Signature, TensorSpec, decode, encode
from . import runners

if TYPE_CHECKING:
    from .runners import Runner
    from .stream import Stream, Streaming

__all__ = ["Artifact"]

FORMAT = 1
FEW = 4  # channels of an image


@dataclass(frozen=True)
class Artifact:
    """The file or files that one runtime runs, what goes in and out, and the lineage.

    On disk it is the runtime's own file(s) and, beside them, ``<file>.json`` with this record.

    Attributes:
        runtime: a name from `edgewise.edge.runners.RUNTIMES`.
        path: the file that the runtime opens.
        files: each file's name (beside `path`) with its sha256.
        signature: inputs and outputs as the Model has them; `run` takes and gives these.
        layouts: tensor name to the axis order in the file, for those that the lowering laid out
            anew (``{"x": "NHWC"}`` where the signature says ``"NCHW"``).
        batch: the batch size that the file was made for.
        precision: ``"float32"``, ``"float16"``, or a scheme: ``"int8"``, ``"int4-weights"`` ...
        lineage: every step from the loaded model to this file.
        agreement: how the file's outputs compare with the Model's.
    """

    runtime: str
    path: Path
    files: dict[str, str]
    signature: Signature
    layouts: dict[str, str] = field(default_factory=dict)
    batch: int = 1
    precision: str = "float32"
    lineage: tuple[Event, ...] = ()
    agreement: Agreement | None = None
    format: int = FORMAT

    @classmethod
    def of(
        cls, runtime: str, path: str | os.PathLike[str], signature: Signature, **fields
    ) -> Artifact:
        """An artifact for a file (and its companions) just written."""
        path = Path(path)
        files = {p.name: _sha256(p) for p in runners.files(runtime, path)}
        return cls(runtime=runtime, path=path, files=files, signature=signature, **fields)

    @classmethod
    def bare(cls, path: Path, signature: Signature) -> Artifact:
        """An artifact for a file without a record, with the signature that its runtime gives."""
        free, batch = _free_batch(signature)
        return cls.of(runners.runtime_of(path), path, free, batch=batch)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read an artifact and check its files against the record.

        A bare runtime file (no ``.json`` beside it) opens too: its signature is then the file's
        own and there is no lineage.

        Raises:
            ModelError: no such file, an unknown suffix, or a file that was changed since the
                record was written.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"{path} does not exist: give the file that `edgewise lower` wrote")
        runtime = runners.runtime_of(path)
        record = path.with_name(path.name + ".json")
        if not record.exists():
            return cls.bare(path, runners.open_file(runtime, path).signature)
        artifact = replace(decode(record.read_bytes(), cls, str(record)), path=path)
        if artifact.format != FORMAT or artifact.runtime != runtime:
            raise ModelError(
                f"{record} is of format {artifact.format} for {artifact.runtime}, expected format "
                f"{FORMAT} for {runtime}: lower the model again with this version of edgewise"
            )
        found = {file.name: _sha256(file) for file in runners.files(runtime, path)}
        if artifact.files != found:
            raise ModelError(
                f"{path} is not what {record.name} describes (its sha256 differs): lower the "
                "model again, or delete the record to open the file as it is"
            )
        return artifact

    def save_record(self) -> Path:
        """Write the record beside the file and return its path."""
        record = self.path.with_name(self.path.name + ".json")
        temporary = record.with_name(record.name + ".partial")
        temporary.write_bytes(encode(replace(self, path=Path(self.path.name))))
        temporary.replace(record)
        return record

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its companions on disk."""
        return sum((self.path.parent / name).stat().st_size for name in self.files)

    @property
    def sha256(self) -> str:
        """The sha256 of the file that the runtime opens."""
        return self.files[self.path.name]

    @cached_property
    def _runner(self) -> Runner:
        return runners.open_file(self.runtime, self.path)

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run any number of samples through the runtime, `batch` of them at a time.

        Args:
            inputs: one array an input, shape and dtype as in `signature`, batch axis first.

        Returns:
            The output, or a tuple of the outputs when there are several; numpy arrays.

        Raises:
            DataError: an input whose shape or dtype does not fit the signature.
        """
        return self.run_on(self._runner, *inputs)

    def run_on(self, runner: Runner, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """As `run`, where the file was opened by someone else: on a device."""
        inputs = tuple(np.asarray(array) for array in inputs)
        check_inputs(inputs, self.signature)
        n = len(inputs[0])
        chunks = [
            self.run_batch(runner, tuple(array[at : at + self.batch] for array in inputs))
            for at in range(0, n, self.batch)
        ]
        outputs = tuple(np.concatenate(parts) for parts in zip(*chunks, strict=True))
        return outputs if len(outputs) > 1 else outputs[0]

    def to_file(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """One batch of inputs in the axis order that the file takes, aligned for the processor."""
        return tuple(
            np.require(_permute(array, spec, self.layouts, back=False), requirements="A")
            for array, spec in zip(inputs, self.signature.inputs, strict=True)
        )

    def stream(self, streaming: Streaming) -> Stream:
        """Listen to an endless signal with this model (see `edgewise.edge.stream`).

        Raises:
            InputError: a model of several inputs or outputs, or an axis that it does not have.
        """
        from .stream import Stream

        return Stream(self.run, self.signature, streaming)

    def run_batch(self, runner: Runner, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Run at most `batch` samples, which must fit the signature, through an opened file."""
        n = len(inputs[0])
        if n < self.batch:
            inputs = tuple(
                np.concatenate([a, np.repeat(a[-1:], self.batch - n, 0)]) for a in inputs
            )
        outputs = runner.run(*self.to_file(inputs))
        return tuple(
            _permute(array, spec, self.layouts, back=True)[:n]
            for array, spec in zip(outputs, self.signature.outputs, strict=True)
        )


def check_inputs(inputs: tuple[np.ndarray, ...], signature: Signature) -> None:
    """Refuse inputs that do not fit the signature, with the sentence that says what does.

    Raises:
        DataError: wrong number of inputs, shape or dtype, or no sample at all.
    """
    if len(inputs) != len(signature.inputs):
        raise DataError(
            f"the model takes {len(signature.inputs)} inputs "
            f"({', '.join(s.name for s in signature.inputs)}), {len(inputs)} were given"
        )
    for array, spec in zip(inputs, signature.inputs, strict=True):
        fits = array.ndim == len(spec.shape) and all(
            size in (None, have) for size, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != spec.dtype:
            raise DataError(
                f"input '{spec.name}' takes {spec.dtype} of shape {shape_text(spec)}, found "
                f"{array.dtype} of shape {tuple(array.shape)}: reshape or convert the data"
            )
        if len(array) == 0:
            raise DataError(f"input '{spec.name}' has no sample: give at least one")


def shape_text(spec: TensorSpec) -> str:
    """``(batch, 3, 32, 32)``."""
    return "(" + ", ".join("batch" if s is None else str(s) for s in spec.shape) + ")"


def _free_batch(signature: Signature) -> tuple[Signature, int]:
    """A file's own signature with the batch axis free, and the batch that the file takes."""

    def free(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(s, shape=(None, *s.shape[1:])) for s in specs)

    batch = next((s.shape[0] for s in signature.inputs if s.shape and s.shape[0]), 1)
    signature = replace(signature, inputs=free(signature.inputs), outputs=free(signature.outputs))
    return signature, batch


def _permute(
    array: np.ndarray, spec: TensorSpec, layouts: dict[str, str], *, back: bool
) -> np.ndarray:
    file_layout = layouts.get(spec.name, spec.layout)
    if file_layout == spec.layout:
        return array
    have, want = (file_layout, spec.layout) if back else (spec.layout, file_layout)
    laid = array.transpose([have.index(axis) for axis in want])
    if laid.shape[-1] > FEW:
        return np.ascontiguousarray(laid)
    out = np.empty(laid.shape, laid.dtype)
    for i in range(laid.shape[-1]):  # numpy copies innermost axis by axis: four times as slow here
        out[..., i] = laid[..., i]
    return out


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

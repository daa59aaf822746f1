"""Checkpoints: written whole or not at all, checked before they are believed.

A checkpoint is one safetensors file, its record of plain numbers in the header, and its name says
the SHA-256 of its bytes. It is written under another name, flushed to the disk, and renamed; the
one before is removed only then. A file that is not what its name says is passed over.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from ..errors import InputError, StepError
from ..record import decode, encode

__all__ = ["Checkpoint", "Checkpoints", "State"]

KEPT = 2


@dataclass(frozen=True)
class State:
    """What of a training is no tensor.

    Attributes:
        training: identifies what is trained, on what, how: see `Checkpoints`.
        step: steps done.
        best: the best validation so far.
        stale: epochs since then.
        finished: the training has ended; nothing is left to do.
    """

    training: str
    step: int
    best: float | None = None
    stale: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """A training as it stood: every tensor by name, and the rest."""

    tensors: dict[str, Tensor]
    state: State
    path: Path | None = None


class Checkpoints:
    """The checkpoints of one training in a folder.

    Args:
        folder: is made if need be.
        training: any text that another training would not have.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, training: str):
        self.folder = folder
        self.training = training
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob("*.partial"):
                left.unlink()
        except OSError as error:
            raise InputError(f"{folder} cannot hold checkpoints: {error.strerror}") from None

    def save(self, tensors: dict[str, Tensor], state: State) -> Path:
        """Write a checkpoint, then drop all but the last two.

        Raises:
            StepError: the disk is full or failed; the checkpoints that were there are still there.
        """
        data = safetensors.torch.save(tensors, {"state": encode(state).decode()})
        digest = hashlib.sha256(data).hexdigest()[:16]
        path = self.folder / f"step-{state.step:09d}-{digest}.safetensors"
        partial = path.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _flush(self.folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StepError(
                f"the checkpoint of step {state.step} cannot be written to {self.folder}: "
                f"{error.strerror}; make room and start again, it goes on from the last checkpoint"
            ) from None
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def last(self) -> Checkpoint | None:
        """The newest sound checkpoint; None when there is none.

        Raises:
            InputError: it is another training's.
        """
        for path in self._paths():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest()[:16] != path.stem.rpartition("-")[2]:
                continue
            tensors = safetensors.torch.load(data)
            with safetensors.safe_open(path, "pt") as file:
                state = decode(file.metadata()["state"].encode(), State, str(path))
            if state.training != self.training:
                raise InputError(
                    f"{self.folder} holds the checkpoints of another training (another model, "
                    "other data or other settings): choose another folder, or delete it"
                )
            return Checkpoint(tensors, state, path)
        return None

    def _paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)


def _flush(folder: Path) -> None:
    """Make the rename last through a power cut (POSIX; elsewhere a folder cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

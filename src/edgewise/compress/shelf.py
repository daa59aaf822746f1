"""Shelf: many tensors at once, in memory as long as there is room, then in files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ..errors import StepError

__all__ = ["Shelf"]


class Shelf:
    """Keeps values within so much memory; to be used in a ``with`` block.

    What is beyond is mapped from files: the system reads it back when it is looked at, and may
    put it out of memory again at any time.

    Args:
        room: bytes that are kept in memory.
    """

    def __init__(self, room: int):
        self.room = room
        self.held = 0  # bytes in memory
        self._ours: dict[int, int] = {}  # id of each tensor in memory -> its bytes
        self._count = 0

    def __enter__(self) -> Shelf:
        self._folder = tempfile.TemporaryDirectory(prefix="edgewise-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def put(self, value: object) -> object:
        """The same value, to be used instead of it; tensors may stand in tuples.

        Raises:
            StepError: the disk is full.
        """
        if isinstance(value, tuple | list):
            return type(value)(map(self.put, value))
        if not isinstance(value, Tensor):
            return value
        if id(value) in self._ours:
            return value
        if self.held + value.nbytes <= self.room or not value.nbytes:
            self.held += value.nbytes
            self._ours[id(value)] = value.nbytes
            return value
        return self._filed(value)

    def drop(self, value: object) -> None:
        """Say that a value is not needed any more."""
        if isinstance(value, tuple | list):
            for part in value:
                self.drop(part)
        else:
            self.held -= self._ours.pop(id(value), 0)

    def _filed(self, value: Tensor) -> Tensor:
        self._count += 1
        path = Path(self._folder.name) / str(self._count)
        try:
            with path.open("wb") as file:
                file.write(value.contiguous().numpy().data)
            kept = torch.from_file(str(path), False, value.numel(), dtype=value.dtype)
        except (OSError, RuntimeError) as error:
            raise StepError(
                f"{value.nbytes:,} bytes of values cannot be kept in {path.parent} ({error}): make "
                "room there, set TMPDIR to another folder, or give fewer samples"
            ) from error
        path.unlink()  # the mapping keeps what was in it
        return kept.reshape(value.shape)

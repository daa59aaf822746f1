"""Values of many samples, put away batch by batch: in memory while they are few, then in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

__all__ = ["Shelf"]

MEMORY = 4 << 20  # bytes that are held, however many samples there are


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the file."""

    offset: int
    shape: torch.Size
    dtype: np.dtype


class Shelf:
    """Batches of values (tensors, numbers, tuples of them) by name, taken out in order, once.

    One tensor under several names stays one.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[dict[str, Any], ...]] = []
        self._held = 0
        self._file = None

    def put(self, *batch: dict[str, Any]) -> None:
        """Put one batch away behind the others."""
        tensors: dict[int, Tensor] = {}

        def note(value: Any) -> Any:
            if isinstance(value, Tensor):
                tensors[id(value)] = value
            return value

        for values in batch:
            fx.node.map_aggregate(tuple(values.values()), note)
        size = sum(t.nbytes for t in tensors.values())
        if self._held + size <= MEMORY:
            self._held += size
        else:
            places = {key: self._write(tensor) for key, tensor in tensors.items()}
            batch = tuple(_mapped(values, lambda v: places.get(id(v), v)) for values in batch)
        self._batches.append(batch)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], ...]]:
        while self._batches:
            batch = self._batches.pop(0)
            found: dict[_Place, Tensor] = {}

            def read(value: Any, found: dict[_Place, Tensor] = found) -> Any:
                if not isinstance(value, _Place):
                    return value
                if value not in found:
                    found[value] = self._read(value)
                return found[value]

            yield tuple(_mapped(values, read) for values in batch)

    def _write(self, tensor: Tensor) -> _Place:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the shelf)
        array = tensor.detach().contiguous().numpy()
        offset = self._file.seek(0, 2)
        self._file.write(array.reshape(-1).view(np.uint8).data)
        return _Place(offset, tensor.shape, array.dtype)

    def _read(self, place: _Place) -> Tensor:
        array = np.empty(place.shape, place.dtype)
        self._file.seek(place.offset)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return torch.from_numpy(array)


def _mapped(values: dict[str, Any], function: Any) -> dict[str, Any]:
    return {name: fx.node.map_aggregate(value, function) for name, value in values.items()}

"""Teachers: what they say of the training samples, computed once where that is possible."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx

from ..errors import StepError

__all__ = ["Teachers"]

IN_MEMORY = 256 << 20  # bytes of outputs that are kept without a folder


class Teachers:
    """Frozen networks whose outputs a student is to meet.

    Args:
        graphs: of `learning.judged`, in eval mode.
        samples: in the split; 0 where augmentation makes each batch new, and nothing is kept.
        folder: where outputs are kept; None for memory, if they are not more than 256 MB.
    """

    def __init__(self, graphs: Sequence[fx.GraphModule], samples: int, folder: Path | None):
        self.graphs = [graph.requires_grad_(False) for graph in graphs]
        self.samples = samples
        self.folder = folder
        self.half = False
        self._kept: list[list[np.ndarray]] | None = None
        self._seen = np.zeros(samples, bool)

    def to(self, device: torch.device, half: bool) -> Teachers:
        """Move the networks there; `half` lets them multiply in bfloat16."""
        self.half = half
        for graph in self.graphs:
            graph.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self, inputs: Sequence[Tensor], places: np.ndarray | None
    ) -> tuple[tuple[Tensor, ...], ...]:
        """The outputs of each teacher for a batch.

        Args:
            places: of the samples in the split; None for samples that are of another, or augmented.
        """
        if places is None or not self.samples:
            return self._run(inputs)
        if self._kept is not None and self._seen[places].all():
            device = inputs[0].device
            return tuple(
                tuple(torch.from_numpy(each[places]).to(device) for each in of) for of in self._kept
            )
        said = self._run(inputs)
        self._keep(said, places)
        return said

    def _run(self, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
        with torch.autocast(inputs[0].device.type, torch.bfloat16, self.half):
            return tuple(tuple(each.float() for each in graph(*inputs)) for graph in self.graphs)

    def _keep(self, said: tuple[tuple[Tensor, ...], ...], places: np.ndarray) -> None:
        arrays = [[each.cpu().numpy() for each in of] for of in said]
        if self._kept is None:
            size = sum(a[:1].nbytes for of in arrays for a in of) * self.samples
            if self.folder is None and size > IN_MEMORY:
                self.samples = 0  # the teacher runs each time
                return
            self._kept = [[self._room(a, i, j) for j, a in enumerate(of)]
                          for i, of in enumerate(arrays)]  # fmt: skip
        for room, of in zip(self._kept, arrays, strict=True):
            for kept, array in zip(room, of, strict=True):
                kept[places] = array
        self._seen[places] = True

    def _room(self, array: np.ndarray, i: int, j: int) -> np.ndarray:
        shape = (self.samples, *array.shape[1:])
        if self.folder is None:
            return np.empty(shape, array.dtype)
        path = self.folder / f"teacher-{i}-{j}.npy"  # of an earlier start: written anew
        try:
            room = np.lib.format.open_memmap(path, "w+", array.dtype, shape)
            # A sparse file on a full disk would kill the process at some later write.
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise StepError(
                f"the teacher's outputs ({np.prod(shape) * array.itemsize / 1e6:.0f} MB) cannot be "
                f"kept in {self.folder}: {error.strerror}; make room, or choose another folder"
            ) from None
        return room

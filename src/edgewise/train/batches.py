"""The samples of each step: in an order drawn from the seed, shared out, and read ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..data.split import Split
from ..errors import InputError
from .augment import Augment

__all__ = ["Part", "Parts", "ahead"]

T = TypeVar("T")
AHEAD = 2  # parts that wait ready


@dataclass(frozen=True)
class Part:
    """What one process computes at once: a batch, or a part of one.

    Attributes:
        places: of the samples in the split, int64 (n,).
        inputs, targets: as `Split.batches` gives them.
        drawn: the numbers that augmentation goes by, a row a sample.
    """

    places: np.ndarray
    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray | None
    drawn: dict[str, np.ndarray]


@dataclass(frozen=True)
class Parts:
    """All parts of a training that this process computes.

    Attributes:
        split: the training samples.
        batch: samples a step, over all processes.
        seed: of the order, drawn anew for each epoch, and of augmentation.
        rank, world: which process this is, of how many.
        accumulate: parts of a process's share of a batch.
    """

    split: Split
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def __post_init__(self):
        if self.batch % (self.world * self.accumulate):
            raise InputError(
                f"a batch of {self.batch} does not divide into {self.world} processes times "
                f"{self.accumulate} parts: choose another batch"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; what is left over comes in another epoch's order."""
        return len(self.split) // self.batch

    def of(self, step: int, augment: Augment) -> list[Part]:
        """This process's parts of step `step`, which depends on nothing but the fields.

        Raises:
            DataError: a sample that cannot be read; says which.
        """
        epoch, at = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))
        places = order[at * self.batch : (at + 1) * self.batch]
        drawn = augment.draw(np.random.default_rng((self.seed, epoch, at, 1)), self.batch)
        mine = np.arange(self.rank, self.batch, self.world)
        return [self._read(places, drawn, chosen) for chosen in np.split(mine, self.accumulate)]

    def _read(self, places: np.ndarray, drawn: dict[str, np.ndarray], chosen: np.ndarray) -> Part:
        places = places[chosen]
        part = replace(self.split, indices=self.split.indices[places])
        inputs, targets = next(part.batches(len(places)))
        return Part(places, inputs, targets, {name: each[chosen] for name, each in drawn.items()})


def ahead(make: Callable[[int], T], first: int, last: int) -> Iterator[T]:
    """``make(first)``, ... ``make(last - 1)``, made by a thread while the caller computes.

    What `make` raises is raised here, in its turn. The thread ends when the caller stops.
    """
    ready: queue.Queue = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(item) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for i in range(first, last):
            try:
                item = make(i), None
            except BaseException as error:  # handed to the caller, whatever it is
                item = None, error
            put(item)
            if item[1] is not None or stopped.is_set():
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(first, last):
            item, error = ready.get()
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()

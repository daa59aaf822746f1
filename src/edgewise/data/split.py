"""What every source of data becomes: a `Data` of up to three `Split`s that stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..errors import DataError, InputError
from ..record import Signature
from .fit import Fitting
from .labels import order_for
from .options import Options

__all__ = ["ROLES", "Batch", "Data", "Parts", "Source", "Split"]

ROLES = ("calibration", "training", "evaluation")

Batch = tuple[tuple[np.ndarray, ...], np.ndarray | None]


class Source(Protocol):
    """Samples that can be read by index, the one thing that a new kind of source must be.

    Attributes:
        name: what to call it in a message.
        labels: names of the classes in the order of the targets; empty when they have none.
        labelled: whether `read` gives targets.
        classes: the class of every sample, int64 (n,), where that is known without reading the
            inputs; splits are drawn by class from it.
    """

    name: str
    labels: tuple[str, ...]
    labelled: bool
    classes: np.ndarray | None

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> Batch:
        """The inputs of these samples, one array an input, and their targets (or None).

        Integer targets are int64, other targets float32; the first axis counts samples.
        """

    def where(self, index: int) -> str:
        """Names one sample in a message."""

    def fit(self, signature: Signature) -> Source:
        """The same samples, decoded at the size that the model takes."""


@dataclass(frozen=True)
class Parts:
    """What opening a source gives: a source for each role, or one under "whole" to be divided."""

    sources: dict[str, Source]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Split:
    """Some samples of a source, in a fixed order; nothing is read before it is asked for.

    Attributes:
        source: where the samples are.
        indices: which of them, int64 (n,).
        fitting: how they become the model's inputs; None gives them as they are stored.
    """

    source: Source
    indices: np.ndarray
    fitting: Fitting | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Split({len(self)} of {len(self.source)} samples of {self.source.name})"

    def batches(self, size: int) -> Iterator[Batch]:
        """Stream the samples, `size` at a time; the last batch may be smaller.

        Yields:
            A tuple with one array for each input, batch axis first, and the targets: int64 classes,
            float32 values, or None where there are none.

        Raises:
            DataError: a sample that cannot be read or does not fit the model; says which.
        """
        if size < 1:
            raise InputError(f"a batch has at least 1 sample, found size {size}")
        for at in range(0, len(self), size):
            chosen = self.indices[at : at + size]
            inputs, targets = self.source.read(chosen)
            if self.fitting is not None:
                inputs, targets = self.fitting(
                    inputs, targets, lambda i, chosen=chosen: self.source.where(int(chosen[i]))
                )
            yield inputs, targets

    def take(self, n: int) -> Batch:
        """Up to `n` samples as one batch, spread evenly over the split (see `subset`)."""
        return next(self.subset(n).batches(n))

    def subset(self, n: int) -> Split:
        """Up to `n` samples, spread evenly: files are often sorted by class, so not the first n."""
        if n < 1:
            raise InputError(f"take at least 1 sample, found {n}")
        n = min(n, len(self))
        return replace(self, indices=self.indices[np.arange(n) * len(self) // n])

    def shuffled(self, seed: int) -> Split:
        """The same samples in an order drawn from `seed`; train with another seed each epoch."""
        return replace(self, indices=np.random.default_rng(seed).permutation(self.indices))


@dataclass(frozen=True, eq=False)
class Data:
    """Real samples for the three things that need them.

    Attributes:
        calibration: for ranges and other statistics; a part of the training samples.
        training: for steps that train.
        evaluation: for metrics; shares no sample with the other two.
        options: what the caller said about the data.
        notes: how the splits came about, a sentence each.
    """

    calibration: Split | None = None
    training: Split | None = None
    evaluation: Split | None = None
    options: Options = field(default_factory=Options)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.splits:
            raise DataError("data needs at least one of calibration, training and evaluation")
        for role, split in self.splits.items():
            if len(split) == 0:
                raise DataError(f"the {role} split of {split.source.name} has no sample")

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        named = {role: getattr(self, role) for role in ROLES}
        return {role: split for role, split in named.items() if split is not None}

    @property
    def _name(self) -> str:
        return next(iter(self.splits.values())).source.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of the targets; empty when they have none."""
        return next(iter(self.splits.values())).source.labels

    def require(self, role: str) -> Split:
        """The split of that name.

        Raises:
            DataError: there is none; the message says why.
        """
        split = self.splits.get(role)
        if split is None:
            why = "".join(f" ({note})" for note in self.notes)
            raise DataError(f"{self._name} has no {role} samples{why}: give data that has some")
        return split

    def fit(self, signature: Signature) -> Data:
        """The same samples as the model takes them; what is certain is converted, the rest refused.

        Axes are moved to the signature's layout, numbers are cast where they keep their value,
        and classes with names are put in the order of the signature's labels. The first sample of
        every split is read at once, so that data which do not fit are refused before any work;
        each batch is checked as it is read.

        Raises:
            DataError: shape, dtype, value range or classes do not fit; says what was found and
                which option helps.
        """
        if all(s.fitting and s.fitting.signature == signature for s in self.splits.values()):
            return self
        order = order_for(
            self.labels, signature, self._name, given=self.options.classes is not None
        )
        fitting = Fitting(signature, self.options, order)
        fitted = {
            role: Split(split.source.fit(signature), split.indices, fitting)
            for role, split in self.splits.items()
        }
        for split in fitted.values():
            split.take(1)
        return replace(self, **fitted)

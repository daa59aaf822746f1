"""torch Datasets and DataLoaders, one sample at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import DataError
from ..record import Signature
from .arrays import TARGETS, make_parts, to_inputs, to_targets
from .options import Options
from .split import Batch, Parts

__all__ = ["Items", "is_torch", "open_torch"]

MOST_BYTES = 2 << 30  # of a stream that has to be kept in memory


@dataclass(frozen=True, eq=False)
class Items:
    """A map-style Dataset; `read` calls ``dataset[i]`` and collates.

    Attributes:
        collate: makes a batch of a list of items.
        chosen: the items that are meant, for a loader that samples a subset.
        names: of the model's inputs, for items that are mappings.
    """

    name: str
    dataset: Any
    collate: Callable[[list[Any]], Any]
    chosen: Sequence[int]
    names: tuple[str, ...]
    labelled: bool
    classes: np.ndarray | None
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, indices: np.ndarray) -> Batch:
        items = []
        for i in indices:
            try:
                items.append(self.dataset[self.chosen[i]])
            except Exception as error:  # the user's code
                raise DataError(
                    f"{self.where(i)} cannot be read: {type(error).__name__}: {error}"
                ) from error
        try:
            batch = self.collate(items)
        except Exception as error:  # the user's code
            raise DataError(
                f"{self.where(indices[0])} and those after it make no batch: {error}: let the "
                "Dataset give tensors of one shape"
            ) from error
        inputs, targets = _batch(batch, self.names, self.name)
        if targets is not None and targets.dtype.kind in "US":
            raise DataError(f"{self.where(indices[0])} has text for a target: give class indices")
        return inputs, targets

    def where(self, index: int) -> str:
        return f"sample {self.chosen[index]} of {self.name}"

    def fit(self, signature: Signature) -> Items:
        return self


def is_torch(source: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds such an object has imported it
    return torch is not None and isinstance(
        source, torch.utils.data.Dataset | torch.utils.data.DataLoader
    )


def open_torch(source: Any, options: Options, signature: Signature | None) -> Parts:
    """Items are ``(x, y)``, ``(x1, x2, ..., y)``, a bare ``x``, or mappings with those names.

    A loader's own batch size, order and workers are not used; its collate function is, and so is
    the subset of a SubsetRandomSampler. An IterableDataset cannot be read by index and is kept in
    memory, up to 2 GB.
    """
    from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, default_collate

    names = () if signature is None else tuple(spec.name for spec in signature.inputs)
    loader = source if isinstance(source, DataLoader) else None
    dataset = source if loader is None else loader.dataset
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or (loader is not None and loader.batch_size is None):
        batches = DataLoader(dataset, batch_size=64) if loader is None else loader
        inputs, targets = _gather(batches, names, name)
        return make_parts({"whole": (inputs, targets)}, options, signature, name)
    chosen = range(len(dataset))
    if loader is not None and isinstance(loader.sampler, SubsetRandomSampler):
        chosen = sorted(int(i) for i in loader.sampler.indices)
    if not chosen:
        raise DataError(f"{name} has no sample: give at least one")
    collate = default_collate if loader is None else loader.collate_fn
    items = Items(name, dataset, collate, chosen, names, labelled=False, classes=None)
    if items.read(np.array([0]))[1] is not None:
        classes = _classes(dataset)
        classes = None if classes is None else classes[np.asarray(chosen)]
        items = replace(items, labelled=True, classes=classes)
    return Parts({"whole": items})


def _batch(batch: Any, names: tuple[str, ...], name: str) -> Batch:
    """Tell inputs from targets in one collated batch."""
    if isinstance(batch, Mapping):
        inputs = names if names and set(names) <= batch.keys() else ("x",)
        if not set(inputs) <= batch.keys():
            raise DataError(
                f"the items of {name} have the keys {', '.join(map(str, batch))}: name the input x "
                f"or as the model does ({', '.join(names)})"
            )
        found = [key for key in TARGETS if key in batch and key not in inputs]
        values = (*(batch[key] for key in inputs), *(batch[key] for key in found[:1]))
        labelled = bool(found)
    else:
        values = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        labelled = len(values) > 1
    x, y = (values[:-1], values[-1]) if labelled else (values, None)
    return to_inputs(x, name), None if y is None else to_targets(y, name)


def _gather(batches: Iterable[Any], names: tuple[str, ...], name: str) -> Batch:
    """Keep a stream in memory."""
    read, size = [], 0
    for batch in batches:
        inputs, targets = _batch(batch, names, name)
        size += sum(array.nbytes for array in inputs)
        if size > MOST_BYTES:
            raise DataError(
                f"{name} streams more than {MOST_BYTES >> 30} GB and cannot be read by index: give "
                "a Dataset with __getitem__ and __len__"
            )
        read.append((inputs, targets))
    if not read:
        raise DataError(f"{name} has no sample: give at least one")
    inputs = tuple(np.concatenate(parts) for parts in zip(*(x for x, _ in read), strict=True))
    targets = None if read[0][1] is None else np.concatenate([y for _, y in read])
    return inputs, targets


def _classes(dataset: Any) -> np.ndarray | None:
    """The class of every sample where the dataset tells it without being read."""
    from torch.utils.data import Subset, TensorDataset

    if isinstance(dataset, Subset):
        inner = _classes(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices)]
    known = dataset.tensors[-1] if isinstance(dataset, TensorDataset) else None
    known = getattr(dataset, "targets", known)
    if known is None or len(known) != len(dataset):
        return None
    classes = to_targets(known, type(dataset).__name__)
    return classes if classes.ndim == 1 and classes.dtype == np.int64 else None

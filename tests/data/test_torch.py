from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from edgewise.data import load_data
from edgewise.data import torch as torch_source
from edgewise.errors import DataError
from edgewise.record import Signature, TensorSpec

X = torch.arange(80, dtype=torch.float32).reshape(40, 2)
Y = torch.arange(40) % 4


class Map(Dataset):
    """Gives what a function of the index gives."""

    def __init__(self, item, n=40):
        self.item, self.n = item, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.item(i)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def mapping(i):
    return {"x": X[i], "label": Y[i]}


SOURCES = {
    "tensors": TensorDataset(X, Y),
    "subset": Subset(TensorDataset(torch.cat([X, X]), torch.cat([Y, Y])), range(40)),
    "pairs": Map(lambda i: (X[i], int(Y[i]))),
    "arrays": Map(lambda i: (X[i].numpy(), Y[i].numpy())),
    "mappings": Map(mapping),
    "loader": DataLoader(Map(mapping), batch_size=7, shuffle=True),
    "stream": Stream(),
    "loader of a stream": DataLoader(Stream(), batch_size=7),
    "loader without batches": DataLoader(TensorDataset(X[None], Y[None]), batch_size=None),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_kind_gives_the_same_samples(source, takes):
    data = load_data(source, takes(2))
    assert (len(data.training), len(data.evaluation)) == (32, 8)
    for split in data.splits.values():
        (x,), y = split.take(99)
        np.testing.assert_array_equal(x, X[split.indices])
        np.testing.assert_array_equal(y, Y[split.indices])
        assert y.dtype == np.int64


def test_splits_are_drawn_by_class_where_classes_are_told():
    told, untold = load_data(SOURCES["subset"]), load_data(SOURCES["pairs"])
    assert "by class" in told.notes[0]
    assert "at random" in untold.notes[0]
    np.testing.assert_array_equal(np.bincount(told.evaluation.take(8)[1]), 2)


def test_a_loader_of_a_subset_gives_the_subset():
    loader = DataLoader(TensorDataset(X, Y), sampler=SubsetRandomSampler([9, 3, 5]))
    data = load_data({"training": loader})
    np.testing.assert_array_equal(data.training.take(3)[0][0], X[[3, 5, 9]])


def test_a_loader_collates_its_own_way():
    loader = DataLoader(
        Map(lambda i: (X[i], Y[i])),
        collate_fn=lambda items: (
            torch.stack([x for x, _ in items]) * 2,
            torch.tensor([y for _, y in items]),
        ),
    )
    data = load_data({"evaluation": loader})
    np.testing.assert_array_equal(data.evaluation.take(40)[0][0], X * 2)


def test_several_inputs_and_no_targets():
    signature = Signature((TensorSpec("a", (None, 2)), TensorSpec("b", (None,), "int64")), ())
    data = load_data(Map(lambda i: {"b": Y[i], "a": X[i]}), signature)
    (a, b), targets = data.calibration.take(40)
    assert targets is None
    np.testing.assert_array_equal(a, X)
    np.testing.assert_array_equal(b, Y)
    assert load_data(Map(lambda i: X[i])).evaluation is None


def test_nothing_is_read_before_it_is_asked_for():
    read = []
    data = load_data(Map(lambda i: read.append(i) or (X[i], Y[i])))
    assert read == [0]  # to see whether there are targets
    next(data.training.batches(4))
    assert len(read) == 5


def read_all(source):
    yield from load_data(source).training.batches(8)


def fail(i):
    raise KeyError("no such file") if i else ValueError


BAD = {
    "failing": (Map(fail), "sample 0 of Map cannot be read: ValueError"),
    "failing later": (
        Map(lambda i: (X[i], Y[i]) if i < 3 else fail(i)),
        "sample 3 of Map .*no such",
    ),
    "ragged": (Map(lambda i: (X[: i + 1], Y[i])), "make no batch"),
    "keys": (Map(lambda i: {"pixels": X[i]}), "have the keys pixels: name the input x"),
    "text": (Map(lambda i: (X[i], "cat")), "text for a target: give class indices"),
    "text stream": (DataLoader(Map(lambda i: "cat"), batch_size=None), "bare number|dtype <U3"),
    "empty": (Map(fail, 0), "no sample"),
}


@pytest.mark.parametrize(("source", "sentence"), BAD.values(), ids=BAD)
def test_a_dataset_that_cannot_be_used(source, sentence):
    with pytest.raises(DataError, match=sentence):
        list(read_all({"training": source}))


def test_a_stream_without_end_is_refused(monkeypatch):
    class Endless(IterableDataset):
        def __iter__(self):
            while True:
                yield X[0], Y[0]

    monkeypatch.setattr(torch_source, "MOST_BYTES", 10_000)
    with pytest.raises(DataError, match="Endless streams more than"):
        load_data(Endless())


def test_a_stream_of_nothing():
    class Empty(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(DataError, match="Empty has no sample"):
        load_data(Empty())

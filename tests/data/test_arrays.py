from __future__ import annotations

import contextlib
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from edgewise.data import arrays, load_data
from edgewise.errors import DataError
from edgewise.record import Signature, TensorSpec

X = np.arange(40 * 6, dtype=np.float32).reshape(40, 6)
Y = np.arange(40) % 4


@pytest.fixture
def save(tmp_path):
    def save(**named):
        np.savez_compressed(tmp_path / "some.npz", **named)
        return tmp_path / "some.npz"

    return save


def everything(split):
    inputs, targets = split.take(len(split))
    return inputs[0], targets


def test_digits_from_a_file_come_out_as_they_went_in(save, takes):
    digits = load_digits()
    path = save(x=digits.images, y=digits.target)
    data = load_data(path, takes(1, 8, 8))
    assert (len(data.calibration), len(data.training), len(data.evaluation)) == (256, 1438, 359)
    for split in data.splits.values():
        x, y = everything(split)
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x[:, 0], digits.images[split.indices])
        np.testing.assert_array_equal(y, digits.target[split.indices])


def test_cifar_pixels_fit_a_model_that_normalises_by_itself(shared_data, takes):
    data = load_data(
        shared_data / "cifar10" / "cifar10_train20k_test10k.npz",
        takes(3, 32, 32, dtype="uint8", range=(0.0, 255.0)),
    )
    assert (len(data.calibration), len(data.training), len(data.evaluation)) == (256, 20000, 10000)
    (pixels,), targets = data.calibration.take(256)
    assert pixels.shape == (256, 3, 32, 32)
    assert pixels.dtype == np.uint8
    assert np.ptp(np.bincount(targets)) <= 1


def test_train_and_test_are_kept_apart(save):
    data = load_data(save(x_train=X[:30], y_train=Y[:30], x_test=X[30:], y_test=Y[30:], name=Y))
    assert len(data.training) == len(data.calibration) == 30
    np.testing.assert_array_equal(everything(data.evaluation)[0], X[30:])
    assert set(map(tuple, everything(data.calibration)[0])) <= set(map(tuple, X[:30]))


def test_the_test_part_is_preferred_to_the_validation_part(save):
    data = load_data(save(x_train=X[:20], x_val=X[20:25], x_test=X[25:]))
    np.testing.assert_array_equal(everything(data.evaluation)[0], X[25:])


def test_test_samples_alone_are_not_calibrated_with(save):
    data = load_data(save(x_test=X, y_test=Y))
    assert data.calibration is data.training is None
    with pytest.raises(DataError, match=r"no calibration samples .*never used to calibrate"):
        data.require("calibration")


def test_inputs_go_by_the_names_of_the_model(save):
    ids, mask = np.arange(20).reshape(10, 2), np.ones((10, 2), bool)
    signature = Signature(
        (TensorSpec("ids", (None, 2), "int32"), TensorSpec("mask", (None, 2), "int64")), ()
    )
    data = load_data(save(mask=mask, ids=ids, label=np.arange(10) % 2), signature)
    (first, second), targets = data.training.take(3)
    assert (first.dtype, second.dtype, targets.dtype) == (np.int32, np.int64, np.int64)
    np.testing.assert_array_equal(second, 1)


@pytest.mark.parametrize(
    "source",
    [
        (X, Y),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        ((X,), Y),
        {"x": X, "y": Y},
        {"x": X, "y": Y[:, None]},
        ((X[:32], Y[:32]), (X[32:], Y[32:])),
    ],
)
def test_arrays_in_memory(source):
    data = load_data(source)
    assert len(data.training) + len(data.evaluation) == 40
    for split in data.splits.values():
        x, y = everything(split)
        np.testing.assert_array_equal(x[:, 0] / 6 % 4, y)
        assert y.dtype == np.int64


def test_a_bare_array_is_for_calibration_only():
    data = load_data(X)
    assert (len(data.calibration), data.training, data.evaluation) == (40, None, None)
    assert "no targets" in data.notes[0]
    assert "calibration only" in data.notes[0]


def test_names_for_targets_become_classes(save):
    names = np.array(["ox", "ant", "cat", "bee"])[Y]
    data = load_data(save(x=X, y=names))
    assert data.labels == ("ant", "bee", "cat", "ox")
    _, y = everything(data.training)
    assert [data.labels[i] for i in y] == [*names[data.training.indices]]


BAD = {
    "strange names": ({"images": X, "labels": Y}, "found images, labels; name the arrays x and y"),
    "lengths": ({"x": X, "y": Y[:7]}, r"different lengths \(7, 40\)"),
    "objects": ({"x": np.array([{}, None])}, "never unpickled"),
    "objects for targets": ({"x": X, "y": np.array([None] * 40)}, "never unpickled"),
    "text for inputs": ({"x": np.array(["a", "b"])}, "dtype <U1: give an array of numbers"),
    "nothing": ({"x": X[:0]}, "has no sample"),
    "two targets": ({"x": X, "y": Y, "label": Y}, "has the targets y, label"),
    "a number": ({"x": np.float32(3)}, "first axis counts samples"),
    "a number for targets": ({"x": X, "y": np.float32(3)}, "first axis counts samples"),
    "complex": ({"x": X.astype(complex)}, "dtype complex128"),
}


@pytest.mark.parametrize(("named", "sentence"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_used(save, named, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data(save(**named))


def test_ragged_lists_are_no_array():
    with pytest.raises(DataError, match="no array of numbers"):
        load_data({"x": [[1], [2, 3]]})


def test_an_empty_tuple_is_no_data():
    with pytest.raises(DataError, match="holds no data"):
        load_data(())


def test_a_bare_npy_under_the_name_npz(tmp_path):
    with (tmp_path / "some.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="one bare array"):
        load_data(tmp_path / "some.npz")


def test_an_array_larger_than_memory_is_refused_unread(tmp_path, monkeypatch):
    np.savez(tmp_path / "some.npz", x=X)
    monkeypatch.setattr(arrays.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 8}.get(name, 8))
    with pytest.raises(DataError, match="GB of memory"):
        load_data(tmp_path / "some.npz")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_file_is_refused_or_read(tmp_path, data):
    path = tmp_path / "some.npz"
    np.savez(path, x=X[:2, :2], y=Y[:2])
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "truncate"):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    with contextlib.suppress(DataError):
        load_data(path)


def test_nothing_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    np.savez(tmp_path / "some.npz", x=np.array([Evil()], object))
    with pytest.raises(DataError, match="never unpickled"):
        load_data(tmp_path / "some.npz")
    assert zipfile.is_zipfile(tmp_path / "some.npz")

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.data import load_data
from edgewise.data.divide import EVALUATION_SHARE, balanced, hold_out
from edgewise.errors import DataError

CLASSES = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array)
SEEDS = st.integers(0, 1000)


@given(CLASSES, SEEDS)
def test_every_class_gives_its_share_and_keeps_one(classes, seed):
    n = len(classes)
    kept, held = hold_out(classes, n, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(n))
    assert len(held) <= round(EVALUATION_SHARE * n)
    names, sizes = np.unique(classes, return_counts=True)
    if 2 * len(names) > n:
        return  # too many classes to balance
    assert set(classes[kept]) == set(names)
    for name, size in zip(names, sizes, strict=True):
        assert abs((classes[held] == name).sum() - EVALUATION_SHARE * size) < 1
    if (sizes >= 3).all():
        assert len(held) == round(EVALUATION_SHARE * n)


@given(st.integers(1, 300), SEEDS)
def test_without_classes_the_share_is_exact(n, seed):
    kept, held = hold_out(None, n, seed)
    assert len(held) == (round(EVALUATION_SHARE * n) if n > 1 else 0)
    assert len(np.intersect1d(kept, held)) == 0


@given(CLASSES, st.integers(1, 100), SEEDS)
def test_calibration_is_balanced_as_far_as_there_are_samples(classes, count, seed):
    indices = np.arange(len(classes)) + 1000
    padded = np.concatenate([np.full(1000, -1), classes])
    chosen = balanced(padded, indices, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(classes))
    assert set(chosen) <= set(indices)
    names, sizes = np.unique(classes, return_counts=True)
    if 2 * len(names) > len(classes):
        return
    drawn = np.array([(padded[chosen] == name).sum() for name in names])
    most = drawn.max()
    assert all(d >= most - 1 or d == s for d, s in zip(drawn, sizes, strict=True))


@given(CLASSES, SEEDS)
def test_the_seed_decides(classes, seed):
    one, two = (hold_out(classes, len(classes), seed) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_gives_another_division():
    splits = [load_data((np.zeros((100, 2)), np.arange(100) % 2), seed=s) for s in (0, 1)]
    assert set(splits[0].evaluation.indices) != set(splits[1].evaluation.indices)


def test_evaluation_shares_no_sample_with_the_rest():
    data = load_data((np.zeros((100, 2)), np.arange(100) % 2), calibration=30)
    held = set(data.evaluation.indices)
    assert not held & set(data.training.indices)
    assert set(data.calibration.indices) <= set(data.training.indices)
    assert len(data.calibration) == 30
    assert data.notes == ("20 of 100 samples held out for evaluation, drawn by class with seed 0",)


def test_values_are_divided_at_random():
    data = load_data((np.zeros((100, 2)), np.linspace(0, 1, 100)))
    assert len(data.evaluation) == 20
    assert "drawn at random" in data.notes[0]


def test_many_samples_without_targets_train_and_calibrate():
    data = load_data(np.zeros((100, 2)), calibration=10)
    assert (len(data.training), len(data.calibration), data.evaluation) == (100, 10, None)


def test_two_samples_are_too_few_to_hold_out():
    data = load_data((np.zeros((2, 2)), np.arange(2)))
    assert data.evaluation is None
    with pytest.raises(DataError, match="too few"):
        data.require("evaluation")


def test_roles_may_be_given():
    x, y = np.zeros((30, 2)), np.arange(30) % 3
    data = load_data({"training": (x, y), "evaluation": (x[:9], y[:9]), "calibration": x[:5]})
    sizes = (len(data.calibration), len(data.training), len(data.evaluation))
    assert sizes == (5, 30, 9)


def test_roles_that_are_divided_themselves_are_refused():
    x, y = np.zeros((30, 2)), np.arange(30) % 3
    with pytest.raises(DataError, match="the training data are divided into parts themselves"):
        load_data({"training": ((x, y), (x, y))})


def test_parts_with_other_classes_are_refused():
    x, y = np.zeros((4, 2)), np.array(["a", "b", "a", "b"])
    with pytest.raises(DataError, match="different classes"):
        load_data({"training": (x, y), "evaluation": (x, np.array(["a", "c", "a", "c"]))})
    data = load_data({"training": (x, y), "evaluation": (x, y)}, classes=["b", "a", "c"])
    np.testing.assert_array_equal(data.evaluation.take(4)[1], [1, 0, 1, 0])

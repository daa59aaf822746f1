from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.data import Data, Split, as_data, load_data
from edgewise.errors import DataError, InputError

X = np.arange(37, dtype=np.float32)[:, None]


def rows(split, size=8):
    return np.concatenate([x for (x,), _ in split.batches(size)])[:, 0]


@given(st.integers(1, 50))
def test_batches_are_the_samples_in_order(size):
    split = load_data(X).calibration
    batches = [x for (x,), _ in split.batches(size)]
    assert all(len(x) == size for x in batches[:-1])
    np.testing.assert_array_equal(np.concatenate(batches), X)


@given(st.integers(1, 60))
def test_a_subset_is_spread_over_the_split(n):
    split = load_data(X).calibration.subset(n)
    assert len(split) == min(n, 37)
    assert (np.diff(split.indices) >= max(1, 37 // n)).all()
    np.testing.assert_array_equal(split.take(n)[0][0][:, 0], rows(split))


def test_a_subset_of_samples_sorted_by_class_has_every_class():
    y = np.repeat(np.arange(10), 30)
    data = load_data({"evaluation": (np.zeros((300, 1)), y)})
    np.testing.assert_array_equal(np.bincount(data.evaluation.take(20)[1]), 2)


def test_shuffling_keeps_the_samples_and_follows_the_seed():
    split = load_data(X).calibration
    one, again, other = (rows(split.shuffled(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_array_equal(np.sort(one), X[:, 0])


def test_a_split_can_be_read_twice():
    split = load_data(X).calibration
    np.testing.assert_array_equal(rows(split), rows(split))


@pytest.mark.parametrize("call", [lambda s: next(s.batches(0)), lambda s: s.take(0)])
def test_no_sample_is_no_batch(call):
    with pytest.raises(InputError, match="at least 1 sample, found"):
        call(load_data(X).calibration)


def test_data_need_a_split_with_samples():
    with pytest.raises(DataError, match="at least one of"):
        Data()
    source = load_data(X).calibration.source
    with pytest.raises(DataError, match="the training split of the arrays has no sample"):
        Data(training=Split(source, np.arange(0)))


def test_data_are_fitted_anew_from_what_is_stored(takes):
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5, 3)
    data = load_data(pixels, scale=1 / 255)
    scaled = data.fit(takes(3, 4, 5))
    assert scaled.fit(takes(3, 4, 5)) is scaled
    again = scaled.fit(takes(4, 5, 3, layout="NHWC"))
    np.testing.assert_allclose(again.calibration.take(2)[0][0], pixels / 255, rtol=1e-6)


def test_data_are_data_already(takes):
    data = load_data(X)
    assert as_data(data, takes(1)).calibration.fitting.signature == takes(1)
    with pytest.raises(DataError, match="loaded already"):
        load_data(data, scale=2)


def test_a_split_says_what_it_is():
    assert repr(load_data(X).calibration) == "Split(37 of 37 samples of the arrays)"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nothing.npz", "nothing.npz does not exist: give an .npz"),
        (3, "a int is no data that can be read"),
        (__file__, r"test_split.py is no data that can be read: give an .npz"),
    ],
)
def test_what_is_no_data(source, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data(source)


@pytest.mark.parametrize("option", [{"target": "y"}, {"resize": 224}, {"classes": ["a"]}])
def test_an_option_for_another_kind_of_data_is_refused(option):
    with pytest.raises(DataError, match=f"{next(iter(option))}= .*leave it out"):
        load_data((X, np.arange(37) % 3), **option)

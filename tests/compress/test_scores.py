"""What makes scores of different groups comparable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.compress.scores import of_those_left

units = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(np.array)


@given(units)
def test_the_order_in_a_group_stays(score):
    found = of_those_left(score)
    assert (score[np.argsort(found, kind="stable")] == np.sort(score)).all()


@given(units, st.floats(1e-3, 1e3))
def test_the_unit_of_a_group_does_not_matter(score, factor):
    np.testing.assert_allclose(of_those_left(score * factor), of_those_left(score), rtol=1e-9)


@given(units)
def test_a_unit_is_worth_what_it_is_to_those_that_are_left(score):
    ordered, found = np.sort(score), np.sort(of_those_left(score))
    for k in range(len(ordered)):
        own = [ordered[i] / np.sqrt(np.mean(ordered[i:] ** 2)) for i in range(k + 1)]
        assert found[k] == pytest.approx(max(own), rel=1e-9)


def test_a_group_without_small_units_loses_none_first():
    uneven, even = np.array([0.1, 0.2, 5.0, 6.0]), np.array([1.0, 1.1, 1.2, 1.3])
    assert np.sort(of_those_left(uneven))[1] < of_those_left(even).min()


def test_what_is_infinite_stays_and_zeros_are_no_error():
    found = of_those_left(np.array([1.0, np.inf, 0.5]))
    assert np.isinf(found[1]) and found[2] < found[0] < np.inf
    assert (of_those_left(np.zeros(3)) == 0).all()

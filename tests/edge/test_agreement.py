"""Outputs are compared in steps of their grid, and by what they choose."""

import numpy as np
import pytest

from edgewise.edge.agreement import outputs_agree


def test_top1_counts_ties_as_equal():
    want = np.array([[1.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    have = np.array([[0.9, 1.0, 0.0], [2.0, 1.0, 1.0]])
    assert outputs_agree([want], [have], source="data").top1 == 0.5


def test_steps_are_the_grids_or_parts_of_the_range():
    want = np.array([[0.0, 51.0], [255.0, 0.0]])
    have = want + np.array([[0, 3], [0, 0]])
    found = outputs_agree([want], [have], source="data")
    assert (found.max_steps, found.mean_steps, found.max_abs, found.n) == (3.0, 0.75, 3.0, 2)
    assert outputs_agree([want], [have], source="data", steps=[0.5]).max_steps == 6.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_differs_without_bound(bad):
    found = outputs_agree([np.zeros((1, 2))], [np.array([[0.0, bad]])], source="data")
    assert found.mean_steps == np.inf

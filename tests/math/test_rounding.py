from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewise.math.rounding import DENOMINATORS, without_ties

multipliers = st.floats(1e-6, 8.0)


@given(st.lists(multipliers, min_size=1, max_size=20))
def test_the_fractions_are_just_above_the_multipliers(wanted):
    found = without_ties(np.array(wanted))
    assert found.shape == (len(wanted),)
    assert np.all(found >= np.array(wanted) * (1 - 1e-12))
    assert np.all(found <= np.array(wanted) * 1.008)


@given(multipliers, st.integers(-(2**24), 2**24))
def test_no_integer_comes_near_a_half(wanted, accumulator):
    (found,) = without_ties(np.array([wanted]))
    largest = max(DENOMINATORS[-1], 1 / found)
    exact = Fraction(float(found)).limit_denominator(int(largest) + 1)
    assert exact.denominator % 2 == 1
    assert abs(float(exact) - found) < 1e-12 * found
    steps = exact * accumulator
    assert abs(steps - (steps.__floor__() + Fraction(1, 2))) >= Fraction(1, 2 * exact.denominator)


@given(multipliers, st.integers(-(2**20), 2**20))
def test_float32_rounds_as_exact_arithmetic_does(wanted, accumulator):
    (found,) = without_ties(np.array([wanted]))
    steps = float(found) * accumulator
    if abs(steps) > 256:
        return  # clamped to the grid's end by every runtime
    for single in (
        np.float32(found) * np.float32(accumulator),
        np.float32(accumulator) * (np.float32(found * 0.37) / np.float32(0.37)),
        np.float32(accumulator) / np.float32(1 / found),
    ):
        assert np.rint(single) == np.rint(steps)

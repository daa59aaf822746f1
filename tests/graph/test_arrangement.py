"""Permutes and reshapes as bookkeeping, against numpy doing them."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.graph.arrangement import Arrangement, joined, size_of, steps, unified


def fixed(shape):
    return [(s, s) for s in shape]


def sizes(axes):
    return [size_of(axis)[0] for axis in axes]


def moved(array, held, target):
    """The tensor that holds a value, brought into these axes."""
    for kind, to in steps(held.stored, target):
        array = array.transpose(to) if kind == "permute" else array.reshape(sizes(to))
    return array


@st.composite
def shapes(draw, numbers):
    """Another shape of so many numbers."""
    shape, left = [], numbers
    while left > 1:
        shape.append(draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0])))
        left //= shape[-1]
    return shape or [1]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_chain_of_moves_is_what_numpy_does(data):
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    tensor = want = np.arange(math.prod(shape)).reshape(shape)
    held = Arrangement.plain(fixed(shape))
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(want.ndim)))
            want, held = want.transpose(order), held.permuted(order)
        else:
            new = data.draw(shapes(want.size))
            found = held.reshaped(fixed(new))
            if found is not None:
                want, held = want.reshape(new), found
    assert sizes(held.axes) == list(want.shape)
    np.testing.assert_array_equal(moved(tensor, held, held.axes), want)
    assert sum(kind == "permute" for kind, _ in steps(held.stored, held.axes)) <= 1


def test_a_reshape_is_kept_in_mind_only_where_axes_factor():
    held = Arrangement.plain(fixed([4, 6]))
    assert held.reshaped(fixed([3, 8])) is None
    assert sizes(held.reshaped(fixed([2, 1, 12])).axes) == [2, 1, 12]
    assert held.reshaped(fixed([5])) is None


def test_a_batch_is_no_fixed_size():
    held = Arrangement.plain([(2, 3), (4, 4)])
    assert held.reshaped([(2, 2), (4, 6)]) is None
    assert held.reshaped([(8, 12)]).reshaped([(2, 3), (2, 2), (2, 2)]) is not None


def test_an_axis_is_found_where_it_lies():
    held = Arrangement.plain(fixed([2, 5, 1, 3])).permuted([0, 3, 2, 1])
    assert [held.along(axis) for axis in (0, 1, 2, -1)] == [0, 3, 2, 1]
    assert held.reshaped(fixed([2, 15])).along(1) is None


def test_values_that_broadcast_are_written_with_the_same_atoms():
    image = Arrangement.plain(fixed([2, 4, 3, 3])).permuted([0, 2, 3, 1]).reshaped(fixed([2, 36]))
    vector = Arrangement.plain(fixed([36]))
    one, other = unified([image, vector])
    assert one.axes[1] == other.axes[1]
    assert other.axes[0] == ()
    assert sizes(other.axes) == [1, 36]
    assert unified([Arrangement.plain(fixed([6])), Arrangement.plain(fixed([4]))]) is None


def test_values_to_be_joined_differ_along_one_axis_only():
    parts = [Arrangement.plain(fixed([2, c, 4])).permuted([0, 2, 1]) for c in (1, 5)]
    one, other = joined(parts, -1)
    assert one.stored == other.stored
    assert (sizes(one.axes), sizes(other.axes)) == ([2, 4, 1], [2, 4, 5])
    assert joined([p.reshaped([(2, 2), (p_size, p_size)])
                   for p, p_size in zip(parts, (4, 20), strict=True)], 1) is None  # fmt: skip

"""Properties: strides that describe a reshape or permutation give what numpy gives."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewise.lowering.strides import (
    axes_of,
    channels_last,
    complete,
    frame_of,
    held_shape,
    minor,
    natural,
    reorder,
    reshape,
)

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def read(memory, axes, shape):
    """The value whose axes lie so in this memory."""
    index = np.zeros((1,), int)
    for axis in axes:
        for size, stride in axis:
            index = np.add.outer(index, np.arange(size) * stride)
    return memory[index.reshape(-1)].reshape(shape)


@st.composite
def factored(draw):
    """Two shapes with as many elements, the second grouping and splitting the first's factors."""
    factors = draw(st.lists(st.sampled_from([1, 2, 2, 3, 5]), min_size=1, max_size=5))
    cuts = [draw(st.sets(st.integers(1, 4))) for _ in range(2)]
    return [
        tuple(
            math.prod(factors[a:b]) for a, b in zip([0, *sorted(c)], [*sorted(c), 5], strict=True)
        )
        for c in cuts
    ]


@given(shapes, st.randoms(use_true_random=False))
def test_a_frame_tells_where_axes_lie(shape, random):
    frame = list(range(len(shape))) + [None] * random.randrange(3)
    random.shuffle(frame)
    axes = axes_of(shape, tuple(frame))
    value = np.arange(math.prod(shape)).reshape(shape)
    order = [k for k in frame if k is not None]
    memory = value.transpose(order).reshape(-1)
    assert np.array_equal(read(memory, axes, shape), value)
    held = held_shape(shape, tuple(frame))
    found = frame_of(axes, held)
    assert held_shape(shape, found) == held
    assert axes_of(shape, found) == axes


@given(factored(), st.randoms(use_true_random=False))
def test_reshape_and_permutation_are_arithmetic(shapes, random):
    shape, other = shapes
    order = list(range(len(shape)))
    random.shuffle(order)
    memory = np.arange(math.prod(shape))
    axes = axes_of(shape, tuple(order))
    value = read(memory, axes, shape)
    changed = reshape(axes, other)
    if changed is not None:
        assert np.array_equal(read(memory, changed, other), value.reshape(other))
        turned = list(range(len(other)))
        random.shuffle(turned)
        permuted = tuple(changed[k] for k in turned)
        shape = tuple(other[k] for k in turned)
        assert np.array_equal(read(memory, permuted, shape), value.reshape(other).transpose(turned))
        # Bringing it into a plain order is one transposition of memory read as another shape.
        read_as, moves = reorder(permuted, tuple(range(len(shape))))
        plain = memory.reshape(read_as).transpose(moves).reshape(shape)
        assert np.array_equal(plain, read(memory, permuted, shape))
        assert sorted(natural(permuted)) == list(range(len(shape)))


def test_reshape_that_strides_cannot_say_is_none():
    assert reshape(axes_of((6, 4), (0, 1)), (4, 6)) == (((4, 6),), ((6, 1),))
    assert reshape(axes_of((6, 4), (1, 0)), (4, 6)) is None


def test_flattening_channels_last_keeps_memory_and_minor_tells_the_shuffle():
    axes = reshape(axes_of((2, 3, 4, 5), channels_last(4)), (2, 60))
    assert minor(axes, 1) == ((3, 20), (1, 0))
    assert minor(axes, 0) is None


def test_complete_names_every_axis():
    assert complete((0, None, 2, 1), 3) == (0, 2, 1)
    assert complete((2, 3, 1), 4) == (0, 2, 3, 1)
    assert complete((0, 2), 3) == (0, 1, 2)
    assert complete((), 2) == (0, 1)

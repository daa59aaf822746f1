"""Merged operators compute what the pairs computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.lowering.merge import merge
from edgewise.lowering.program import NO_CLAMP, Program

from . import reference
from .programs import NETWORKS, Sketch


def same(case):
    """The Program merged, after checking that its outputs are the same."""
    program = case.program
    merged = Program(program.inputs, program.outputs, tuple(merge(program.ops)))
    for a, b in zip(
        reference.run(program, *case.inputs), reference.run(merged, *case.inputs), strict=True
    ):
        assert np.array_equal(a, b)
    return merged


def readers(program, kind):
    """The kinds that read what operators of this kind give."""
    names = {op.output.name for op in program.ops if op.kind == kind}
    return {op.kind for op in program.ops for t in op.inputs if t is not None and t.name in names}


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_networks_compute_the_same(case):
    same(case)


pairs = st.tuples(st.integers(0, 2), st.integers(0, 2))


@given(outer=st.tuples(pairs, pairs), inner=st.tuples(pairs, pairs), quantized=st.booleans())
def test_zeros_around_an_image_become_the_padding_of_the_convolution(outer, inner, quantized):
    s = Sketch(0, quantized)
    x = s.op(
        "pad", s.input(1, 2, 5, 6), padding=((0, 0), (0, 0), *outer), mode="constant", value=0.0
    )
    window = {"stride": (2, 1), "padding": inner, "dilation": (1, 1), "groups": 1}
    y = s.op("conv", x, s.weight(3, 2, 3, 3), s.parameter(3), **window, clamp=NO_CLAMP)
    assert "conv" not in readers(same(s.close("padded", y)), "pad")


@pytest.mark.parametrize(
    ("padding", "mode", "value"),
    [
        (((0, 0), (1, 0), (0, 0), (0, 0)), "constant", 0.0),
        (((0, 0), (0, 0), (1, 1), (0, 0)), "constant", 1.0),
        (((0, 0), (0, 0), (1, 1), (0, 0)), "edge", 0.0),
    ],
)
def test_other_padding_stays(padding, mode, value):
    s = Sketch()
    x = s.op("pad", s.input(1, 2, 5, 6), padding=padding, mode=mode, value=value)
    assert "conv" in readers(same(s.close("padded", s.conv(x, 3))), "pad")


@st.composite
def cuts(draw, sizes):
    """start, stop and step for axes of these sizes; at least one element is left."""
    start, stop, step = [], [], []
    for size in sizes:
        start.append(draw(st.integers(0, size - 1)))
        stop.append(draw(st.integers(start[-1] + 1, size)))
        step.append(draw(st.integers(1, 3)))
    return {"start": tuple(start), "stop": tuple(stop), "step": tuple(step)}


@given(data=st.data())
def test_slices_of_slices_are_slices_of_the_first(data):
    s = Sketch()
    x = y = s.input(3, 7, 12)
    for _ in range(3):
        y = s.op("slice", y, **data.draw(cuts(y.shape)))
    assert {op.inputs[0].name for op in same(s.close("slices", y)).ops} == {x.name}

"""Narrow weights as LiteRT files: the numbers of the Program, all of it inside XNNPACK."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise.errors import UnsupportedOperator
from edgewise.lowering.program import NO_CLAMP, Dynamic, Op, Program, Tensor

from . import reference
from .narrow import cases
from .programs import Case
from .test_litert import check, flattened, lowered, operators, partitions, run, sketch

TOKEN = Dynamic(-128, 127, -1)


@pytest.mark.parametrize("number", range(7))
def test_int8_weights_compute_what_the_program_says(number):
    case = cases(8)[number]
    check(case, run(case))
    assert partitions(lowered(case)[0]) == 1


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("number", range(5))
def test_inputs_rounded_at_run_time_to_one_step(bits, number):
    case = cases(bits, None, TOKEN, batch=2)[number]
    (want,), (have,) = reference.run(case.program, *case.inputs), run(case)
    assert partitions(lowered(case)[0]) == 1
    # Now and then XNNPACK rounds a zero point to the other side.
    assert np.abs(have - want).mean() <= 1e-3 * np.ptp(want)
    assert np.abs(have - want).max() <= 1e-2 * np.ptp(want)


@pytest.mark.parametrize(("bits", "dynamic"), [(8, None), (8, TOKEN), (4, TOKEN)])
def test_the_file_holds_the_weights_narrow(bits, dynamic):
    case = cases(bits, None, dynamic)[4]
    numbers = sum(op.inputs[1].data.size for op in case.program.ops if op.kind == "linear")
    assert len(lowered(case)[0]) < numbers * bits / 8 + 6000


@pytest.mark.parametrize(
    ("bits", "group", "dynamic"),
    [
        (4, 32, TOKEN),
        (8, None, Dynamic(-128, 127, 0)),
        (8, None, Dynamic(-127, 127, -1, 32)),
    ],
)
def test_what_has_no_kernel_is_refused(bits, group, dynamic):
    with pytest.raises(UnsupportedOperator, match="the way in which layer 'layer0' is quantized"):
        lowered(cases(bits, group, dynamic)[1])


def test_half_halves_large_constants_and_leaves_what_would_overflow():
    case = sketch(False, flattened)
    sizes = [len(lowered(case, half)[0]) for half in (True, False)]
    assert sizes[0] < 0.75 * sizes[1]
    huge = Tensor("w", (16, 16), data=np.full((16, 16), 1e6, np.float32))
    x, y = Tensor("x", (1, 16)), Tensor("y", (1, 16))
    op = Op("linear", (x, huge, None), y, {"clamp": NO_CLAMP})
    data, _ = lowered(Case("huge", Program((x,), (y,), (op,)), (), False), half=True)
    assert operators(data) == ["FULLY_CONNECTED"]

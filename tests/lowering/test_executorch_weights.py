"""Linears with narrow weights as ExecuTorch files: the numbers of the Program, inside XNNPACK."""

import numpy as np
import pytest

pytest.importorskip("executorch", reason="ExecuTorch is not installed")

from edgewise.edge import runners
from edgewise.errors import UnsupportedOperator
from edgewise.lowering.executorch import to_pte
from edgewise.lowering.program import Dynamic

from . import reference
from .narrow import cases
from .test_executorch import delegates, kernels

TOKEN = Dynamic(-128, 127, -1)


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32)])
@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_computes_what_the_program_says_inside_xnnpack(bits, group, number, tmp_path):
    case = cases(bits, group, TOKEN, batch=2)[number]
    manager = to_pte(case.program)
    assert not kernels(manager)
    assert delegates(manager) == 1
    path = tmp_path / "m.pte"
    path.write_bytes(manager.buffer)
    have = runners.open_file("executorch", path, 1).run(*case.inputs)[0]
    (want,) = reference.run(case.program, *case.inputs)
    # Now and then XNNPACK rounds a zero point to the other side.
    assert np.abs(have - want).mean() <= 1e-3 * np.ptp(want)
    assert np.abs(have - want).max() <= 1e-2 * np.ptp(want)


def test_the_file_holds_the_weights_narrow():
    eight, four = (cases(bits, group, TOKEN)[4].program for bits, group in ((8, None), (4, 32)))
    numbers = sum(op.inputs[1].data.size for op in eight.ops if op.kind == "linear")
    assert len(to_pte(eight).buffer) < numbers + 8000
    assert len(to_pte(four).buffer) < numbers / 2 + 8000


@pytest.mark.parametrize(
    ("bits", "group", "dynamic"),
    [(8, None, None), (4, 32, None), (4, None, TOKEN), (4, 16, TOKEN), (8, 32, TOKEN),
     (8, None, Dynamic(-128, 127, 0)), (8, None, Dynamic(-127, 127, -1, 32))],
)  # fmt: skip
def test_what_xnnpack_would_run_as_float_is_refused(bits, group, dynamic):
    with pytest.raises(UnsupportedOperator, match="the way in which layer 'layer0' is quantized"):
        to_pte(cases(bits, group, dynamic)[1].program)

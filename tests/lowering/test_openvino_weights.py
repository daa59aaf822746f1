"""Narrow weights as OpenVINO IR: the numbers that the Program says, weights narrow in memory."""

import platform

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")

from edgewise.edge.runners import openvino as runner
from edgewise.errors import UnsupportedOperator
from edgewise.lowering.openvino import to_openvino
from edgewise.lowering.program import Dynamic

from . import reference
from .narrow import cases

GROUPS = Dynamic(-127, 127, -1, 32)
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 kernels")


def saved(case, path):
    runner.sdk().save_model(to_openvino(case.program), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize(
    ("bits", "group"), [(8, None), (4, None), (4, 16), (4, 32), (4, 8), (8, 32)]
)
@pytest.mark.parametrize("number", range(7))
def test_narrow_weights_compute_what_the_program_says(bits, group, number, tmp_path):
    case = cases(bits, group)[number]
    have = runner.open(saved(case, tmp_path / "m.xml"), 1).run(*case.inputs)
    (want,) = reference.run(case.program, *case.inputs)
    assert np.abs(have[0] - want).max() <= 1e-5 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize(("number", "group"), [(0, 16), (1, 32), (2, 8), (4, 32)])
def test_zero_points_are_kept(number, group, tmp_path):
    case = cases(4, group, affine=True)[number]
    path = saved(case, tmp_path / "m.xml")
    (want,) = reference.run(case.program, *case.inputs)
    have = runner.open(path, 1).run(*case.inputs)
    assert np.abs(have[0] - want).max() <= 1e-5 * max(1.0, np.abs(want).max())
    assert 'element_type="u4"' in path.read_text()


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32), (8, 32)])
@pytest.mark.parametrize("number", range(5))
def test_inputs_rounded_at_run_time_to_one_step(bits, group, number, tmp_path):
    case = cases(bits, group, GROUPS)[number]
    have = runner.open(saved(case, tmp_path / "m.xml"), 1).run(*case.inputs)
    (want,) = reference.run(case.program, *case.inputs)
    assert np.abs(have[0] - want).mean() <= 1e-4 * np.ptp(want)
    assert np.abs(have[0] - want).max() <= 3e-2 * np.ptp(want)


@x86
@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32)])
def test_the_file_and_the_plugin_keep_the_weights_narrow(bits, group, tmp_path):
    case = cases(bits, group, GROUPS)[4]
    path = saved(case, tmp_path / "m.xml")
    numbers = sum(op.inputs[1].data.size for op in case.program.ops if op.kind == "linear")
    assert path.with_suffix(".bin").stat().st_size < numbers * bits / 8 * 1.6 + 2000
    core = runner.sdk().Core()
    compiled = core.compile_model(core.read_model(path), "CPU", runner.settings(1))
    inputs = [
        str(port.get_source_output().get_node().get_rt_info()["outputPrecisions"].astype(str))
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"
        for port in node.inputs()[1:2]
    ]
    assert inputs == [f"i{bits}"] * 4


@pytest.mark.parametrize(
    "dynamic", [Dynamic(-128, 127, -1), Dynamic(-128, 127, 0), Dynamic(-127, 127, -1)]
)
def test_other_ways_to_round_at_run_time_are_refused(dynamic):
    with pytest.raises(UnsupportedOperator, match="layer 'layer0' is quantized at run time"):
        to_openvino(cases(8, None, dynamic)[1].program)

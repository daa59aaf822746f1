"""OpenVINO IR: it computes what the Program says, in int8 kernels, the same bytes each time."""

import math
import platform
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("openvino", reason="OpenVINO is not installed")

from edgewise.edge.runners import openvino as runner
from edgewise.errors import ModelError, UnsupportedOperator
from edgewise.graph.fold import fold
from edgewise.loading import load
from edgewise.lowering.openvino import to_openvino, write
from edgewise.lowering.openvino_ops import OPERATORS
from edgewise.lowering.program import KINDS, NO_CLAMP, Op, Program, Quant, Tensor

from .. import nets
from . import reference
from .programs import CASES, NETWORKS, RELU, Case, Sketch

BY_NAME = {str(case): case for case in CASES}
# The kernels of other processors are chosen otherwise.
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 kernels")


def save(program, path, half=False):
    runner.sdk().save_model(to_openvino(program), path, compress_to_fp16=half)
    return path


def check(case: Case, have: tuple[np.ndarray, ...], steps: float = 1.01, share: float = 0.01):
    """Integers within one step and nearly all equal, floats to float32's precision."""
    want = reference.run(case.program, *case.inputs)
    for h, w, tensor in zip(have, want, case.program.outputs, strict=True):
        assert h.shape == w.shape
        assert h.dtype == w.dtype
        difference = np.abs(h.astype(np.float64) - w)
        step = reference.output_step(case.program, tensor)
        if step is None:
            assert difference.max(initial=0) <= 1e-5 * max(1.0, np.abs(w).max(initial=0))
        else:
            assert difference.max() <= steps * step
            assert (difference > step / 2).mean() <= share


def kernels(program: Program) -> list[tuple[str, str, str]]:
    """What the plugin runs: type, numeric format and the names that were fused, of every node."""
    ov = runner.sdk()
    compiled = ov.Core().compile_model(to_openvino(program), "CPU", runner.settings(1))
    keys = ("layerType", "runtimePrecision", "originalLayersNames")
    nodes = compiled.get_runtime_model().get_ordered_ops()
    infos = [node.get_rt_info() for node in nodes]
    return [tuple(info[key].astype(str) for key in keys) for info in infos]


def test_there_is_an_operator_for_every_kind():
    assert OPERATORS.keys() == KINDS.keys()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_the_program_says(case, tmp_path):
    opened = runner.open(save(case.program, tmp_path / "net.xml"), 1)
    assert [s.name for s in opened.signature.inputs] == [t.name for t in case.program.inputs]
    assert [s.name for s in opened.signature.outputs] == [t.name for t in case.program.outputs]
    check(case, opened.run(*case.inputs))


@x86
@pytest.mark.parametrize(
    "case",
    # Its integer kernels take no weights with a zero point: those layers run as floats.
    [c for c in NETWORKS if c.quantized and c.name != "net_zero_points-int8"],
    ids=str,
)
def test_layers_with_weights_run_in_integers(case):
    heavy = [k for k in kernels(case.program) if k[0] in ("Convolution", "FullyConnected")]
    assert len(heavy) == sum(op.kind in ("conv", "linear") for op in case.program.ops)
    assert {numbers for _, numbers, _ in heavy} <= {"u8", "i8"}


def block(summed: int, seed: int) -> Case:
    """Convolutions, each summed into what came in, as in a ResNet."""
    s = Sketch(seed, quantized=True)
    x = s.conv(s.input(1, 8, 10, 10), 16, clamp=RELU)
    for _ in range(summed):
        x = s.op("add", s.conv(s.conv(x, 16, clamp=RELU), 16), x, clamp=RELU)
    return s.close(f"block{summed}", s.conv(x, 16))


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_a_residual_sum_adds_what_was_rounded(seed):
    """The plugin alone would not round before the sum: one in five values would be another."""
    case = block(4, seed)
    compiled = runner.sdk().compile_model(to_openvino(case.program), "CPU", runner.settings(1))
    (have,) = compiled(list(case.inputs)).values()
    check(case, (have,), share=0.001)


@x86
def test_a_residual_sum_stays_inside_the_convolution():
    nodes = kernels(block(2, 0).program)
    assert not [names for kind, _, names in nodes if kind in ("Eltwise", "Subgraph", "Math")][1:]
    fused = [names for kind, _, names in nodes if kind == "Convolution" and "/add" in names]
    assert len(fused) == 2


def test_a_layers_nodes_carry_its_name():
    case = BY_NAME["net_residual-int8"]
    layers = {op.layer for op in case.program.ops} | {t.name for t in case.program.inputs}
    outputs = {t.name for t in case.program.outputs}
    names = [node.get_friendly_name() for node in to_openvino(case.program).get_ordered_ops()]
    assert len(set(names)) == len(names)
    assert {name.split("/")[0] for name in names} <= layers | outputs


@pytest.mark.parametrize("name", [str(net) for net in NETWORKS])
def test_the_same_program_gives_the_same_bytes(name, tmp_path):
    program = BY_NAME[name].program
    first, second = (save(program, tmp_path / f"{n}.xml") for n in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".bin").read_bytes() == second.with_suffix(".bin").read_bytes()


def test_half_stores_weights_in_half_the_bytes(tmp_path):
    case = BY_NAME["net_inverted_residual-float"]
    whole, half = (save(case.program, tmp_path / f"{h}.xml", half=h) for h in (False, True))
    sizes = [path.with_suffix(".bin").stat().st_size for path in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    (want,), (have,) = (runner.open(path, 1).run(*case.inputs) for path in (whole, half))
    assert np.abs(have - want).max() <= 0.01 * np.abs(want).max()


def test_half_leaves_integers_and_their_scales_alone(tmp_path):
    case = BY_NAME["net_residual-int8"]
    paths = [save(case.program, tmp_path / f"{half}.xml", half=half) for half in (False, True)]
    weights = [path.with_suffix(".bin").read_bytes() for path in paths]
    assert weights[0] == weights[1]
    check(case, runner.open(paths[1], 1).run(*case.inputs))


@settings(max_examples=10)
@given(
    st.floats(-3, 0.5),
    st.floats(0.6, 4),
    st.floats(0.01, 0.2),
    st.integers(-128, 127),
    st.booleans(),
)
def test_any_clamp_meets_any_grid(low, high, scale, zero_point, one_sided):
    """Bounds between two steps of the grid, outside it, and on its ends."""
    quant = Quant(np.float32(scale), np.int32(zero_point))
    s = Sketch(0, quantized=True)
    bounds = (low, math.inf) if one_sided else (low, high)
    y = s.op("add", s.input(1, 4, 3, 3), s.input(1, 4, 3, 3), quant=quant, clamp=bounds)
    case = s.close("clamp", y)
    compiled = runner.sdk().compile_model(to_openvino(case.program), "CPU", runner.settings(1))
    (have,) = compiled(list(case.inputs)).values()
    check(case, (have,), share=0.06)  # sums of two grids meet halves of a third


@pytest.mark.parametrize(("at", "dtype"), [(0, "int4"), (0, "int16"), (1, "int16")])
def test_another_width_is_refused_by_name(at, dtype):
    case = BY_NAME["conv_relu-int8"]
    quantize, conv, dequantize = case.program.ops
    inputs = list(conv.inputs)
    inputs[at] = replace(inputs[at], quant=replace(inputs[at].quant, dtype=dtype))
    conv = replace(conv, inputs=tuple(inputs), layer="stem")
    with pytest.raises(UnsupportedOperator, match=rf"openvino .*{dtype} at conv 'stem'"):
        to_openvino(replace(case.program, ops=(quantize, conv, dequantize)))


def test_what_openvino_refuses_is_refused_by_name():
    x, y = Tensor("x", (1, 2, 4, 4)), Tensor("y", (1, 2, 4))
    op = Op("reshape", (x,), y, {"shape": (1, 2, 4)}, "neck")
    with pytest.raises(UnsupportedOperator, match="openvino does not take reshape 'neck'"):
        to_openvino(Program((x,), (y,), (op,)))


def test_a_kind_that_it_lacks_is_refused_by_name():
    x, y = Tensor("x", (1, 2)), Tensor("y", (1, 2))
    with pytest.raises(UnsupportedOperator, match="openvino has no operator for fft at 'head'"):
        to_openvino(Program((x,), (y,), (Op("fft", (x,), y, {}, "head"),)))


def test_a_model_becomes_a_file_that_computes_the_same(tmp_path):
    net, inputs = nets.make("residual")
    model = load(net, example=inputs[:1])
    path = tmp_path / "net.xml"
    assert write(fold(model.module()), model.signature, 2, path) == {}
    batch = inputs[:2].numpy()
    (have,) = runner.open(path, 1).run(batch)
    assert np.abs(have - net(inputs[:2]).detach().numpy()).max() < 1e-5


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    net, inputs = nets.make("perceptron")
    model = load(net, example=inputs[:1])
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"file.net\.xml cannot be written"):
        write(fold(model.module()), model.signature, 1, tmp_path / "file" / "net.xml")


def test_a_clamp_without_bounds_is_no_node():
    x, y = Tensor("x", (1, 2)), Tensor("y", (1, 2))
    model = to_openvino(Program((x,), (y,), (Op("add", (x, x), y, {"clamp": NO_CLAMP}),)))
    assert [op.get_type_name() for op in model.get_ordered_ops()] == ["Parameter", "Add", "Result"]

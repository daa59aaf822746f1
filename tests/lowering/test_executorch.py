"""ExecuTorch files: they compute what the Program says, in one call of XNNPACK."""

import builtins
import logging
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("executorch", reason="ExecuTorch is not installed")

from edgewise.compress.quantize import Quantize
from edgewise.edge import runners
from edgewise.edge.runners.executorch import sdk
from edgewise.errors import InputError, MissingExtra, UnsupportedOperator
from edgewise.graph.fold import fold
from edgewise.loading import load
from edgewise.lowering import executorch, lower
from edgewise.lowering.build import build
from edgewise.lowering.executorch import to_pte
from edgewise.lowering.executorch_ops import OPS
from edgewise.lowering.executorch_simplify import simplify
from edgewise.lowering.program import KINDS, NO_CLAMP, Op, Program, Quant, Tensor

from ..nets import NETS, loaded, make
from ..nets import quantized as int8_of
from . import reference
from .programs import CASES, NETWORKS, Case, Sketch

# What XNNPACK's partitioner leaves to the portable kernels.
PORTABLE = {
    "aten::_log_softmax", "aten::add", "aten::amax", "aten::amin", "aten::embedding", "aten::erf",
    "aten::native_layer_norm", "aten::pow", "aten::sum", "aten::upsample_nearest2d",
    "dim_order_ops::_to_dim_order_copy",
}  # fmt: skip
# Reflected and repeated edges are decomposed into indices, which are computed anew at each run.
INDICES = {"aten::abs", "aten::arange", "aten::clamp", "aten::index", "aten::sub"}


def kernels(manager) -> set[str]:
    """The portable kernels that a program calls."""
    (plan,) = manager.executorch_program.execution_plan
    calls = (i.instr_args for chain in plan.chains for i in chain.instructions)
    return {plan.operators[c.op_index].name for c in calls if type(c).__name__ == "KernelCall"}


def delegates(manager) -> int:
    """How often a program calls XNNPACK."""
    (plan,) = manager.executorch_program.execution_plan
    calls = (i.instr_args for chain in plan.chains for i in chain.instructions)
    return sum(type(call).__name__ == "DelegateCall" for call in calls)


def check(manager, cases: Iterable[Case], path) -> None:
    """Compare a program with the reference: integers within one step and nearly all equal."""
    with path.open("wb") as file:
        manager.write_to_file(file)
    inputs = [array for case in cases for array in case.inputs]
    have = iter(runners.open_file("executorch", path, 1).run(*inputs))
    for case in cases:
        for tensor, want in zip(
            case.program.outputs, reference.run(case.program, *case.inputs), strict=True
        ):
            found = next(have)
            assert (found.shape, found.dtype) == (want.shape, want.dtype), case
            step = reference.output_step(case.program, tensor)
            if step is None:
                assert np.allclose(found, want, rtol=2e-5, atol=2e-6), case
            else:
                steps = np.rint((found - want) / step)
                assert np.abs(steps).max() <= 1, case
                assert np.mean(steps != 0) < 0.02, case


def together(cases: list[Case]) -> Program:
    """One Program of many, side by side: lowering takes as long for ten as for one."""

    def renamed(tensor: Tensor | None, prefix: str) -> Tensor | None:
        return tensor and replace(tensor, name=prefix + tensor.name)

    programs = []
    for i, case in enumerate(cases):
        known = {None: None}
        prefix = f"{i}_"

        def own(tensor, known=known, prefix=prefix):
            name = tensor and tensor.name
            return known.setdefault(name, renamed(tensor, prefix))

        p = case.program
        programs.append(
            Program(
                tuple(map(own, p.inputs)),
                tuple(map(own, p.outputs)),
                tuple(
                    Op(op.kind, tuple(map(own, op.inputs)), own(op.output), op.attrs, op.layer)
                    for op in p.ops
                ),
            )
        )
    parts = ([getattr(p, part) for p in programs] for part in ("inputs", "outputs", "ops"))
    return Program(*(tuple(x for sequence in part for x in sequence) for part in parts))


def test_every_kind_has_a_row():
    assert set(OPS) == set(KINDS) - {"quantize", "dequantize"}


@pytest.mark.parametrize("case", NETWORKS, ids=str)
def test_networks_are_one_call(case, tmp_path):
    manager = to_pte(case.program)
    check(manager, [case], tmp_path / "net.pte")
    if "layer_norm" not in case.kinds:
        assert (delegates(manager), kernels(manager)) == (1, set())


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
def test_every_kind_computes_what_the_program_says(quantized, tmp_path):
    cases = [c for c in CASES if c.quantized == quantized and c not in NETWORKS]
    manager = to_pte(together(cases))
    check(manager, cases, tmp_path / "all.pte")
    assert kernels(manager) <= (INDICES if quantized else PORTABLE | INDICES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_agrees_with_the_model(name, tmp_path):
    model, x = loaded(name)
    agreement = lower(model, "executorch", tmp_path / "float.pte", data=x.numpy()).agreement
    assert agreement.top1 == 1.0
    assert agreement.max_steps < 0.05


def test_an_average_that_falls_on_ties_is_near(tmp_path):
    """The others' integers are exact (test_exact.py)."""
    model, x = int8_of("branches")
    agreement = lower(model, "executorch", tmp_path / "int8.pte", data=x.numpy()).agreement
    assert agreement.mean_steps < 0.5


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "int8"])
def test_a_models_batch_is_fixed(quantized, tmp_path):
    model, x = loaded("residual")
    if quantized:
        model = Quantize("int8")(model, {"calibration": x.numpy()})
    manager = to_pte(build(fold(model.module()), model.signature, 3))
    assert (delegates(manager), kernels(manager)) == (1, set())
    with (tmp_path / "net.pte").open("wb") as file:
        manager.write_to_file(file)
    runner = runners.open_file("executorch", tmp_path / "net.pte", 2)
    assert runner.signature.inputs[0].shape == (3, 3, 16, 16)
    (found,) = runner.run(x[:3].numpy())
    assert np.allclose(found, model(x[:3].numpy()), atol=0.05)


def test_weights_that_xnnpack_does_not_take_as_integers(tmp_path):
    """A transposed convolution in groups, scales along its channels."""
    s = Sketch(quantized=True)
    x, weight = s.input(1, 8, 5, 5), s.weight(8, 3, 2, 2, axis=1)
    two, none = (2, 2), ((0, 0), (0, 0))
    y = s.op(
        "conv_transpose", x, weight, s.parameter(6), stride=two, padding=none,
        output_padding=(0, 0), dilation=(1, 1), groups=2, clamp=NO_CLAMP,
    )  # fmt: skip
    case = s.close("grouped", y)
    check(to_pte(case.program), [case], tmp_path / "net.pte")


def test_constants_shared_across_a_portable_kernel(tmp_path):
    s = Sketch()
    x, weight = s.input(1, 4, 5, 5), s.weight(4, 4, 3, 3)
    attrs = {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}
    y = s.op("conv", x, weight, None, **attrs, clamp=NO_CLAMP)
    y = s.op("conv", s.op("erf", y), weight, None, **attrs, clamp=NO_CLAMP)
    case = s.close("shared", y)
    manager = to_pte(case.program)
    check(manager, [case], tmp_path / "net.pte")
    assert (delegates(manager), kernels(manager)) == (2, {"aten::erf"})


def _gaps(s: Sketch) -> Tensor:
    attrs = {"kernel": (2, 2), "padding": ((0, 0),) * 2, "dilation": (1, 1)}
    return s.op("max_pool", s.input(1, 3, 9, 9), stride=(3, 3), **attrs)


def _ceiling(s: Sketch) -> Tensor:
    attrs = {"kernel": (3, 3), "stride": (2, 2), "padding": ((0, 1), (0, 1))}
    return s.op("max_pool", s.input(1, 3, 9, 9), **attrs, dilation=(1, 1))


def _uneven_average(s: Sketch) -> Tensor:
    attrs = {"kernel": (3, 3), "stride": (2, 2), "padding": ((1, 2), (0, 1))}
    return s.op("avg_pool", s.input(1, 3, 7, 7), **attrs, count_include_pad=False)


def _computed_matrix(s: Sketch) -> Tensor:
    x, weight = s.input(2, 5, 8), s.input(4, 8)
    return s.op("linear", x, weight, s.parameter(4), clamp=(0.0, 6.0))


def _computed_signal(s: Sketch) -> Tensor:
    attrs = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    return s.op("conv", s.input(1, 3, 6), s.input(4, 3, 3), None, **attrs, clamp=NO_CLAMP)


def _broadcast_matrices(s: Sketch) -> Tensor:
    return s.op("matmul", s.input(2, 3, 5, 8), s.input(3, 8, 4))


def test_what_xnnpack_refuses_is_computed_all_the_same(tmp_path):
    cases = []
    for quantized in (False, True):
        for write in (_gaps, _ceiling, _uneven_average):
            s = Sketch(quantized=quantized)
            cases.append(s.close(f"{write.__name__}-{quantized}", write(s)))
    for write in (_computed_matrix, _computed_signal, _broadcast_matrices):
        s = Sketch()
        cases.append(s.close(write.__name__, write(s)))
    manager = to_pte(together(cases))
    check(manager, cases, tmp_path / "net.pte")
    assert kernels(manager) == {
        "aten::convolution", "aten::expand_copy", "aten::max_pool2d_with_indices", "aten::mm",
    }  # fmt: skip


# --- said differently, with equal results -------------------------------------------------------


def same(case: Case) -> Program:
    """The Program simplified, after checking that its outputs are the same."""
    program = case.program
    simple = Program(program.inputs, program.outputs, simplify(program))
    for a, b in zip(
        reference.run(program, *case.inputs), reference.run(simple, *case.inputs), strict=True
    ):
        assert np.allclose(a, b, rtol=1e-12)
    return simple


@given(
    start=st.tuples(*[st.integers(0, 2)] * 2),
    step=st.tuples(*[st.integers(1, 3)] * 2),
    short=st.tuples(*[st.integers(0, 2)] * 2),
    zeros=st.tuples(*[st.integers(0, 2)] * 2),
    quantized=st.booleans(),
)
def test_every_nth_pixel(start, step, short, zeros, quantized):
    s = Sketch(quantized=quantized)
    x = s.input(2, 3, 7, 8)
    stop = (2, 3, 7 - short[0], 8 - short[1])
    y = s.op("slice", x, start=(0, 0, *start), stop=stop, step=(1, 1, *step))
    if any(zeros):
        padding = ((0, 0), zeros, (0, 0), (0, 0))
        y = s.op("pad", y, padding=padding, mode="constant", value=0.0)
    simple = same(s.close("pixels", y))
    assert all(op.attrs.get("step", (1, 1, 1, 1)) == (1, 1, 1, 1) for op in simple.ops)


@given(length=st.integers(4, 9), kernel=st.integers(1, 4), quantized=st.booleans())
def test_signals_become_images_without_detours(length, kernel, quantized):
    s = Sketch(quantized=quantized)
    x = s.input(2, 3, length)
    attrs = {"stride": (1,), "padding": ((kernel // 2,) * 2,)}
    y = s.op(
        "conv", x, s.weight(4, 3, kernel), s.parameter(4), **attrs, dilation=(1,), groups=1,
        clamp=(0.0, math.inf),
    )  # fmt: skip
    y = s.op("max_pool", y, kernel=(2,), stride=(2,), padding=((0, 0),), dilation=(1,))
    y = s.op("mean", y, axes=(2,), keepdim=False)
    simple = same(s.close("signal", y))
    assert [op.kind for op in simple.ops if op.kind not in ("quantize", "dequantize")] == [
        "reshape", "conv", "max_pool", "mean", "reshape",
    ]  # fmt: skip


@given(
    bounds=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(sorted),
    scale=st.floats(0.001, 0.1),
    zero_point=st.integers(-128, 127),
)
def test_clamps_that_the_grid_implies_are_left_out(bounds, scale, zero_point):
    quant = Quant(np.float32(scale), np.int32(zero_point))
    x = np.linspace(-15, 15, 999)
    left = executorch._clamp_left(tuple(bounds), quant)
    want = reference.to_integers(np.clip(x, *bounds), quant)
    assert np.array_equal(reference.to_integers(np.clip(x, *left), quant), want)


def test_relu6_on_its_own_grid_costs_nothing():
    quant = Quant(np.float32(6 / 255), np.int32(-128))
    assert executorch._clamp_left((0.0, 6.0), quant) == NO_CLAMP
    assert executorch._clamp_left((0.0, 5.0), quant) == (-math.inf, 5.0)


# --- what cannot be lowered ---------------------------------------------------------------------


def test_float16_is_refused_with_the_reason(tmp_path):
    net, x = make("perceptron")
    with pytest.raises(InputError, match="without half"):
        lower(load(net, x[:1]), "executorch", tmp_path / "net.pte", half=True)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_is_refused_with_its_layer():
    x, y = Tensor("x", (1, 2, 4, 4, 4)), Tensor("y", (1, 2, 4, 4, 4))
    weight = Tensor("w", (2, 2, 1, 1, 1), data=np.ones((2, 2, 1, 1, 1), np.float32))
    three = (1,) * 3
    attrs = {"stride": three, "padding": ((0, 0),) * 3, "dilation": three, "groups": 1}
    conv = Op("conv", (x, weight, None), y, {**attrs, "clamp": NO_CLAMP}, "block.3")
    with pytest.raises(UnsupportedOperator, match=r"conv at layer 'block\.3'.*ExecuTorch"):
        to_pte(Program((x,), (y,), (conv,)))


def test_a_kernel_that_is_missing_is_named_with_its_layer(monkeypatch):
    x, y, z = (Tensor(name, (1, 4)) for name in "xyz")
    ops = Op("exp", (x,), y, layer="first"), Op("erf", (y,), z, layer="block.7")
    names = [name for name in sdk()._get_operator_names() if not name.startswith("aten::erf")]
    monkeypatch.setattr(sdk(), "_get_operator_names", lambda: names)
    with pytest.raises(UnsupportedOperator, match=r"aten::erf at layer 'block\.7'"):
        to_pte(Program((x,), (z,), ops))


def test_the_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("executorch"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"edgewise\[executorch\]"):
        to_pte(NETWORKS[0].program)


# --- manners ------------------------------------------------------------------------------------


def test_equal_programs_give_equal_bytes():
    case = NETWORKS[0]
    assert to_pte(case.program).buffer == to_pte(case.program).buffer


def test_logging_is_left_as_it_was():
    logging.disable(logging.NOTSET)
    before = logging.root.handlers[:], logging.root.level
    executorch._compiler()
    assert (logging.root.handlers, logging.root.level) == before
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.slow
def test_nothing_is_printed():
    code = """
import numpy as np
from edgewise.lowering.executorch import to_pte
from edgewise.lowering.program import Op, Program, Tensor
x, y = Tensor("x", (1, 4)), Tensor("y", (1, 4))
to_pte(Program((x,), (y,), (Op("exp", (x,), y),)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

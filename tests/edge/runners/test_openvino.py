"""The OpenVINO runner: names, shapes and dtypes of a file, true float32, and no telemetry."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")

from edgewise.edge.runners import open_file, openvino
from edgewise.errors import MissingExtra, ModelError, RuntimeFailure
from edgewise.lowering.openvino import to_openvino
from edgewise.lowering.program import NO_CLAMP, Op, Program, Tensor
from edgewise.record import Signature, TensorSpec

A, B = TensorSpec("zeta", (1, 4)), TensorSpec("alpha", (1, 4))
SUM, DIFFERENCE = TensorSpec("total", (1, 4)), TensorSpec("apart", (1, 4))


def save(program, path):
    openvino.sdk().save_model(to_openvino(program), path, compress_to_fp16=False)
    return path


@pytest.fixture
def path(tmp_path):
    """Two inputs and two outputs whose names are not in alphabetical order."""
    a, b, plus, minus = (Tensor(spec.name, spec.shape) for spec in (A, B, SUM, DIFFERENCE))
    attrs = {"clamp": NO_CLAMP}
    ops = (Op("add", (a, b), plus, attrs), Op("sub", (a, b), minus, attrs))
    return save(Program((a, b), (plus, minus), ops), tmp_path / "two.xml")


def test_the_signature_is_the_files_own_in_its_order(path):
    runner = open_file("openvino", path, 1)
    assert runner.signature == Signature((A, B), (SUM, DIFFERENCE))
    assert runner.version == openvino.probe()


def test_each_output_has_its_own_name_where_values_are_the_same(tmp_path):
    x = Tensor("x", (2, 3))
    y, z = Tensor("y", (2, 3)), Tensor("a", (2, 3))
    ops = (Op("clamp", (x,), y, {"clamp": NO_CLAMP}), Op("clamp", (x,), z, {"clamp": NO_CLAMP}))
    runner = openvino.open(save(Program((x,), (y, z, x), ops), tmp_path / "same.xml"), 1)
    assert [spec.name for spec in runner.signature.outputs] == ["y", "a", "x"]
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert all(np.array_equal(result, array) for result in runner.run(array))


def test_outputs_stay_valid_after_the_next_run(path):
    runner = openvino.open(path, 2)
    one, two = np.ones((1, 4), np.float32), np.full((1, 4), 2, np.float32)
    total, apart = runner.run(one, two)
    runner.run(two, two)
    assert np.array_equal(total, one + two)
    assert np.array_equal(apart, one - two)


def test_takes_arrays_that_cannot_be_shared(path):
    """Strided ones and those that numpy may not write to are copied, and the copies kept alive."""
    runner = openvino.open(path, 1)
    big = np.random.default_rng(0).normal(size=(4, 100)).astype(np.float32)
    big.flags.writeable = False
    for i in range(50):
        strided, read_only = big.T[i : i + 1], big[:1, i : i + 4]
        total, _ = runner.run(strided, read_only)
        assert np.array_equal(total, strided + read_only)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64", "float32"])
def test_every_dtype_passes(tmp_path, dtype):
    x, y = Tensor("x", (2,), dtype), Tensor("y", (2,), dtype)
    program = Program((x,), (y,), (Op("reshape", (x,), y, {"shape": (2,)}),))
    runner = openvino.open(save(program, tmp_path / "same.xml"), 1)
    (result,) = runner.run(np.array([0, 1], dtype))
    assert runner.signature.inputs == (TensorSpec("x", (2,), dtype),)
    assert result.dtype == dtype
    assert result.tolist() == [0, 1]


def test_float32_is_computed_in_float32(tmp_path):
    """Also where the processor has bfloat16, in which 1 + 2**-12 is 1."""
    random = np.random.default_rng(0)
    weight = random.integers(-3, 4, (64, 64)).astype(np.float32)
    x, y = Tensor("x", (1, 64)), Tensor("y", (1, 64))
    w = Tensor("w", (64, 64), data=weight)
    program = Program((x,), (y,), (Op("linear", (x, w, None), y, {"clamp": NO_CLAMP}),))
    given = (1 + 2.0**-12 * random.integers(0, 2, (1, 64))).astype(np.float32)
    (result,) = openvino.open(save(program, tmp_path / "f32.xml"), 1).run(given)
    assert np.array_equal(result, given @ weight.T)


def test_a_size_that_the_file_leaves_open_is_none(tmp_path):
    ov = openvino.sdk()
    x = ov.opset15.parameter(ov.PartialShape([-1, 3]), np.float32, name="x")
    ov.save_model(ov.Model([ov.opset15.relu(x)], [x], "open"), tmp_path / "open.xml")
    runner = openvino.open(tmp_path / "open.xml", 1)
    assert runner.signature.inputs[0].shape == (None, 3)
    for n in (2, 5):
        (result,) = runner.run(np.full((n, 3), -1, np.float32))
        assert np.array_equal(result, np.zeros((n, 3)))


def test_a_wrong_input_is_a_failure_with_its_reason(path):
    with pytest.raises(RuntimeFailure, match=r"two\.xml"):
        openvino.open(path, 1).run(np.ones((1, 5), np.float32), np.ones((1, 4), np.float32))


def garbage(path):
    path.write_bytes(b"hello" * 100)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:1000])


def without_weights(path):
    path.with_suffix(".bin").unlink()


def with_short_weights(path):
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])


def missing(path):
    path.unlink()


def with_an_unknown_operator(path):
    path.write_bytes(path.read_bytes().replace(b'type="MatMul"', b'type="Frobnicate"'))


@pytest.mark.parametrize(
    "damage",
    [garbage, cut_short, without_weights, with_short_weights, missing, with_an_unknown_operator],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, damage):
    x, y = Tensor("x", (1, 64)), Tensor("y", (1, 64))
    w = Tensor("w", (64, 64), data=np.ones((64, 64), np.float32))
    program = Program((x,), (y,), (Op("linear", (x, w, None), y, {"clamp": NO_CLAMP}),))
    path = save(program, tmp_path / "net.xml")
    damage(path)
    with pytest.raises(ModelError, match=r"net\.xml") as refusal:
        openvino.open(path, 1)
    assert "\n" not in str(refusal.value)


def test_nothing_is_reported_and_nothing_written_at_home(path, tmp_path):
    """`import openvino` alone sends an event and writes a client id into ~/intel."""
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import pathlib, sys
from edgewise.edge.runners import openvino
openvino.open(pathlib.Path({str(path)!r}), 1)
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("error", "refusal", "message"),
    [
        (ModuleNotFoundError("openvino"), MissingExtra, r"edgewise\[openvino\]"),
        (ImportError("GLIBC_2.35 not found"), RuntimeFailure, "GLIBC_2.35 not found"),
    ],
)
def test_an_openvino_that_cannot_be_imported_is_named(monkeypatch, error, refusal, message):
    class Finder:
        @staticmethod
        def find_spec(name, *_):
            if name == "openvino":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "openvino")
    with pytest.raises(refusal, match=message):
        openvino.probe()
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is not None

"""The LiteRT runner: names, shapes and dtypes of a file, and one sentence for what is none."""

import builtins
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise.edge.runners import litert, open_file
from edgewise.errors import MissingExtra, ModelError, RuntimeFailure
from edgewise.lowering.litert import to_tflite
from edgewise.lowering.program import NO_CLAMP, Op, Program, Tensor
from edgewise.record import Signature, TensorSpec

A, B = TensorSpec("zeta", (1, 4)), TensorSpec("alpha", (1, 4))
SUM, DIFFERENCE = TensorSpec("total", (1, 4)), TensorSpec("apart", (1, 4))


@pytest.fixture
def path(tmp_path):
    """Two inputs and two outputs whose names are not in alphabetical order."""
    a, b, plus, minus = (Tensor(name, (1, 4)) for name in ("a", "b", "plus", "minus"))
    attrs = {"clamp": NO_CLAMP}
    ops = (Op("add", (a, b), plus, attrs), Op("sub", (a, b), minus, attrs))
    signature = Signature((A, B), (SUM, DIFFERENCE))
    data, _ = to_tflite(Program((a, b), (plus, minus), ops), signature)
    path = tmp_path / "two.tflite"
    path.write_bytes(data)
    return path


def test_the_signature_is_the_files_own_in_its_order(path):
    runner = open_file("litert", path, 1)
    assert runner.signature == Signature((A, B), (SUM, DIFFERENCE))
    assert runner.version == litert.probe()


def test_outputs_stay_valid_after_the_next_run(path):
    runner = litert.open(path, 2)
    one, two = np.ones((1, 4), np.float32), np.full((1, 4), 2, np.float32)
    total, apart = runner.run(one, two)
    runner.run(two, two)
    assert np.array_equal(total, one + two)
    assert np.array_equal(apart, one - two)


def test_a_wrong_input_is_a_failure_with_its_reason(path):
    with pytest.raises(RuntimeFailure, match=r"two\.tflite"):
        litert.open(path, 1).run(np.ones((1, 5), np.float32), np.ones((1, 4), np.float32))


def test_nothing_is_printed(path):
    code = f"""
import pathlib, sys
from edgewise.edge.runners import litert
litert.open(pathlib.Path({str(path)!r}), 2)
print("after", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "after\n")


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"no model at all, just text", b"\x1c\0\0\0TFL3" + bytes(200)]
)
def test_what_is_no_file_of_litert_gets_one_sentence(tmp_path, content):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.tflite") as caught:
        litert.open(path, 1)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_get_one_sentence(tmp_path):
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            litert.open(path, 1)


def test_a_truncated_file_is_refused(path):
    data = path.read_bytes()
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ModelError, match="LiteRT cannot open"):
            litert.open(path, 1)


def test_a_damaged_file_does_not_bring_the_process_down(path):
    """All in one process: a crash would end it before it says that it is alive."""
    code = """
import sys, pathlib, random
from edgewise.edge.runners import litert
from edgewise.errors import EdgewiseError
path = pathlib.Path(sys.argv[1])
data, dice = path.read_bytes(), random.Random(7)
for _ in range(60):
    bad = bytearray(data)
    for _ in range(3):
        bad[dice.randrange(len(bad))] = dice.randrange(256)
    path.write_bytes(bytes(bad))
    try:
        litert.open(path, 1)
    except EdgewiseError as error:
        assert "\\n" not in str(error), error
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout == "alive\n", done.stderr[-500:]


def test_the_missing_package_is_named(monkeypatch, path):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"edgewise\[litert\]"):
        litert.probe()

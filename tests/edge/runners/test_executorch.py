"""The ExecuTorch runner: a file's shapes and dtypes, its threads, and one sentence for errors."""

import builtins
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("executorch", reason="ExecuTorch is not installed")

from edgewise.edge.runners import executorch, open_file
from edgewise.errors import MissingExtra, ModelError, RuntimeFailure
from edgewise.lowering.executorch import to_pte
from edgewise.lowering.program import NO_CLAMP, Op, Program, Tensor
from edgewise.record import Signature, TensorSpec


@pytest.fixture(scope="module")
def content():
    """Two inputs, two outputs."""
    a, b, plus, minus = (Tensor(name, (1, 4)) for name in ("a", "b", "plus", "minus"))
    attrs = {"clamp": NO_CLAMP}
    ops = (Op("add", (a, b), plus, attrs), Op("sub", (a, b), minus, attrs))
    return to_pte(Program((a, b), (plus, minus), ops)).buffer


@pytest.fixture
def path(content, tmp_path):
    path = tmp_path / "two.pte"
    path.write_bytes(content)
    return path


def test_the_signature_is_the_files_own_in_its_order(path):
    runner = open_file("executorch", path, 1)
    assert runner.signature == Signature(
        (TensorSpec("x0", (1, 4)), TensorSpec("x1", (1, 4))),
        (TensorSpec("y0", (1, 4)), TensorSpec("y1", (1, 4))),
    )
    assert runner.version == executorch.probe()


def test_outputs_stay_valid_after_the_next_run(path):
    runner = executorch.open(path, 1)
    one, two = np.ones((1, 4), np.float32), np.full((1, 4), 2, np.float32)
    total, apart = runner.run(one, two)
    runner.run(two, two)
    assert np.array_equal(total, one + two)
    assert np.array_equal(apart, one - two)


def test_inputs_may_lie_in_any_order_and_be_read_only(path):
    wide = np.arange(8, dtype=np.float32).reshape(4, 2)
    strided = wide.T[:1]
    strided.flags.writeable = False
    total, _ = executorch.open(path, 1).run(strided, np.zeros((1, 4), np.float32))
    assert np.array_equal(total, strided)


def test_a_wrong_input_is_a_failure_with_its_reason(path):
    with pytest.raises(RuntimeFailure, match=r"two\.pte"):
        executorch.open(path, 1).run(np.ones((1, 5), np.float32), np.ones((1, 4), np.float32))


def test_runners_with_other_numbers_of_threads_live_side_by_side(path):
    """In a process of its own: a method whose threads have ended would bring it down."""
    code = f"""
import pathlib, sys
import numpy as np
from edgewise.edge.runners import executorch
path, x = pathlib.Path({str(path)!r}), np.ones((1, 4), np.float32)
open_runners = [executorch.open(path, threads) for threads in (1, 2, 3, 1)]
for runner in (*open_runners, *open_runners[::-1]):
    assert (runner.run(x, x)[0] == 2).all()
    assert executorch.sdk()._threadpool_get_thread_count() == runner._threads
assert "executorch.exir" not in sys.modules
print("alive", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "alive\n")  # and nothing else is printed


@pytest.mark.parametrize("damage", ["empty", "text", "identifier", "header"])
def test_what_is_no_program_gets_one_sentence(content, tmp_path, damage):
    broken = {
        "empty": b"",
        "text": b"not a program, but long enough to be looked at for one",
        "identifier": content[:4] + b"XX12" + content[8:],
        "header": content[:8] + bytes(200),
    }[damage]
    path = tmp_path / "bad.pte"
    path.write_bytes(broken)
    with pytest.raises(ModelError, match=r"bad\.pte") as caught:
        open_file("executorch", path, 1)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(content, path):
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match=r"ExecuTorch cannot open .* size"):
            executorch.open(path, 1)


def test_a_missing_file_and_a_folder_get_one_sentence(tmp_path):
    for path in (tmp_path / "none.pte", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            executorch.open(path, 1)


def test_the_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("executorch"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtra, match=r"edgewise\[executorch\]"):
        executorch.probe()

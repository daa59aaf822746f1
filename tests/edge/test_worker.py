"""Workers are real processes; those that must die are killed, stopped or left behind."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgewise.edge import machine
from edgewise.edge.artifact import Artifact
from edgewise.edge.place import RemoteRunner
from edgewise.edge.wire import pack, unpack
from edgewise.edge.worker import LOCAL, Worker, peak_bytes, reset_peak
from edgewise.errors import MissingExtra, ModelError, RuntimeFailure

from .tiny import write_onnx

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("onnx", reason="needs onnx to write a file")

PATIENCE = 60.0  # seconds: a busy machine imports slowly


def probing(code: str) -> tuple[str, ...]:
    """The command of a worker in which probing a runtime runs this code."""
    script = (
        "import os, signal, sys, time\n"
        "from edgewise.edge import runners, worker\n"
        f"def probe(name):\n    {code}\n    return '1.0'\n"
        "runners.probe = probe\n"
        "worker.main()\n"
    )
    return (sys.executable, "-c", script)


@pytest.fixture
def tiny(tmp_path):
    return write_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def opened(tiny, tmp_path):
    with Worker("onnxruntime", tiny.name, timeout=PATIENCE) as worker:
        worker.ask(open=str(tiny), threads=1)
        np.savez(tmp_path / "x.npz", **{"0": np.ones((2, 1, 4), np.float32)})
        assert worker.ask(feed=str(tmp_path / "x.npz")) == {"bytes": 32}
        yield worker


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    """Whether the process ends while we wait for it."""
    for _ in range(600):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    return False


def test_opens_and_runs(tiny):
    with Worker("onnxruntime", tiny.name, timeout=PATIENCE) as worker:
        opened = worker.ask(open=str(tiny), threads=3)
    assert opened["threads"] == 3
    assert opened["signature"]["inputs"][0]["shape"] == [1, 4]
    assert opened["load_ns"] > 0
    assert opened["peak_bytes"] >= opened["before_bytes"] > 0


def test_times_as_many_runs_as_asked(opened):
    ns = opened.ask(run=7, skip=3)["ns"]
    assert len(ns) == 7
    assert min(ns) > 0
    assert len(opened.ask(warm=0.0)["ns"]) == 1


def test_arrays_travel_over_the_pipe(tiny):
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    with Worker("onnxruntime", tiny.name, timeout=PATIENCE) as worker:
        runner = RemoteRunner(worker, str(tiny), threads=1)
        there = Artifact.open(tiny).run_on(runner, x[:, 0])
    assert runner.signature.inputs[0].shape == (1, 4)
    np.testing.assert_array_equal(there, Artifact.open(tiny).run(x[:, 0]))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int64", "bool"])
def test_an_array_comes_back_as_it_was(dtype):
    array = np.arange(6).reshape(3, 2).astype(dtype).T  # not contiguous
    back = unpack(json.loads(json.dumps(pack(array))))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_tells_of_its_machine_and_of_files(tiny):
    with Worker("onnxruntime", timeout=PATIENCE) as worker:
        found = worker.ask(describe="onnxruntime")
        assert found == {"machine": found["machine"], "versions": machine.versions()}
        assert {"cpu", "cores", "architecture"} <= set(found["machine"])
        assert set(worker.ask(state=None)) <= set(found["machine"])
        digest = worker.ask(digest=str(tiny))
    assert digest == {
        "sha256": hashlib.sha256(tiny.read_bytes()).hexdigest(),
        "bytes": tiny.stat().st_size,
    }


def test_a_shell_may_greet_before_the_worker_speaks():
    command = ("sh", "-c", f"echo Welcome; echo; exec {shlex.join(LOCAL)}")
    with Worker("litert", timeout=PATIENCE, command=command) as worker:
        assert set(worker.ask(state=None)) <= {*machine.describe()}


def test_a_shells_code_for_a_signal_is_that_signal():
    """As over ssh, where a shell waits for the worker."""
    with (
        Worker("litert", timeout=PATIENCE, command=("sh", "-c", "exit 132")) as worker,
        pytest.raises(RuntimeFailure, match="killed by SIGILL while being imported"),
    ):
        worker.ask(probe="litert")


@pytest.mark.parametrize("killer", [signal.SIGILL, signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_death_by_a_signal_names_runtime_signal_and_file(opened, killer):
    os.kill(opened.pid, killer)
    with pytest.raises(RuntimeFailure, match=f"onnxruntime.*{killer.name}.*running tiny.onnx"):
        opened.ask(run=10, skip=0)


def test_death_during_the_runs(opened):
    killed = subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep(1); os.kill({opened.pid}, 4)"]
    )
    with pytest.raises(RuntimeFailure, match="SIGILL"):
        opened.ask(warm=PATIENCE / 2)
    assert killed.wait() == 0


def test_a_hang_ends_in_an_error_and_the_process_is_gone(opened):
    os.kill(opened.pid, signal.SIGSTOP)
    opened.timeout = 0.3
    with pytest.raises(RuntimeFailure, match=r"onnxruntime did not answer for 0\.3 s"):
        opened.ask(run=10, skip=0)
    assert ends(opened.pid)


def test_an_exit_gives_the_last_line_it_said():
    command = probing("print('no such library', file=sys.stderr, flush=True); os._exit(3)")
    with (
        Worker("litert", timeout=PATIENCE, command=command) as worker,
        pytest.raises(RuntimeFailure, match="ended with code 3 while being imported: no such lib"),
    ):
        worker.ask(probe="litert")


def test_errors_of_the_worker_come_back_as_they_are(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with Worker("onnxruntime", "bad.onnx", timeout=PATIENCE) as worker:
        with pytest.raises(ModelError, match=r"bad\.onnx"):
            worker.ask(open=str(tmp_path / "bad.onnx"), threads=1)
        assert worker.ask(probe="onnxruntime")["version"]  # and it goes on


def test_a_missing_runtime_comes_back_with_its_pip_line():
    script = "import sys; sys.modules['onnxruntime'] = None\n"
    script += "from edgewise.edge.worker import main; main()"
    command = (sys.executable, "-c", script)
    with (
        Worker("onnxruntime", timeout=PATIENCE, command=command) as worker,
        pytest.raises(MissingExtra, match=r"pip install 'edgewise\[onnxruntime\]'") as caught,
    ):
        worker.ask(probe="onnxruntime")
    assert caught.value.extra == "onnxruntime"


def test_a_failure_inside_the_runtime_is_one_sentence(opened, tmp_path):
    np.savez(tmp_path / "wide.npz", **{"0": np.ones((1, 1, 9), np.float32)})
    opened.ask(feed=str(tmp_path / "wide.npz"))
    with pytest.raises(RuntimeFailure, match="onnxruntime failed while running") as caught:
        opened.ask(run=1, skip=0)
    assert "\n" not in str(caught.value)


def test_what_a_runtime_prints_does_not_disturb_the_answers():
    command = probing(r"os.write(1, b'{\"noise\": 1}\n'); print('more noise', flush=True)")
    with Worker("litert", timeout=PATIENCE, command=command) as worker:
        assert worker.ask(probe="litert") == {"version": "1.0"}


PARENT = """
import sys
from edgewise.edge.worker import Worker
worker = Worker("litert", timeout=2, command={command!r})
if {asks}:
    worker._process.stdin.write(b'{{"probe": "litert", "limit": 2}}\\n')
print(worker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("command", "asks"),
    [
        pytest.param(LOCAL, False, id="idle"),
        pytest.param(probing("time.sleep(1e6)"), True, id="hanging"),
    ],
)
def test_a_worker_does_not_outlive_its_parent(command, asks):
    code = PARENT.format(command=command, asks=asks)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.communicate()
    assert ends(pid)


def test_closing_ends_a_worker_that_does_not_listen():
    with Worker("litert", timeout=PATIENCE, command=probing("pass")) as worker:
        worker.ask(probe="litert")
        os.kill(worker.pid, signal.SIGSTOP)
    assert ends(worker.pid)


def test_the_peak_is_of_physical_memory_since_the_reset():
    before = reset_peak()
    block = np.ones(8 << 20)  # 64 MiB, touched
    assert peak_bytes() - before >= block.nbytes
    del block
    reset_peak()
    if Path("/proc/self/clear_refs").exists():
        assert peak_bytes() - before < 32 << 20

"""Each probe is a real process, also those that die."""

import functools
import sys

import pytest

from edgewise.edge import doctor
from edgewise.edge.runners import RUNTIMES
from edgewise.edge.worker import Worker


def prepared(code: str) -> functools.partial:
    """Workers that first run this code."""
    script = f"import os, signal, sys, time\n{code}\nfrom edgewise.edge.worker import main; main()"
    return functools.partial(Worker, command=(sys.executable, "-c", script))


def test_tells_what_works_here():
    (probe,) = doctor.examine(["onnxruntime"])
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    assert (probe.runtime, probe.state, probe.problem) == ("onnxruntime", "works", None)
    assert probe.version.count(".") == 2


def test_tells_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "Worker", prepared("sys.modules['onnxruntime'] = None"))
    (probe,) = doctor.examine(["onnxruntime"])
    assert (probe.state, probe.version) == ("missing", None)
    assert "pip install" in probe.problem


@pytest.mark.parametrize("killer", ["SIGILL", "SIGSEGV"])
def test_survives_a_runtime_that_kills_its_process(monkeypatch, killer):
    code = (
        "from edgewise.edge import runners\n"
        f"runners.probe = lambda name: os.kill(os.getpid(), signal.{killer})"
    )
    monkeypatch.setattr(doctor, "Worker", prepared(code))
    probes = doctor.examine()
    assert [probe.runtime for probe in probes] == list(RUNTIMES)
    for probe in probes:
        assert probe.state == "broken"
        assert f"{probe.runtime} was killed by {killer} while being imported" in probe.problem


def test_survives_a_runtime_that_hangs(monkeypatch):
    code = "from edgewise.edge import runners\nrunners.probe = lambda name: time.sleep(1e6)"
    monkeypatch.setattr(doctor, "Worker", prepared(code))
    (probe,) = doctor.examine(["litert"], timeout=0.3)
    assert probe.state == "broken"
    assert "did not answer" in probe.problem

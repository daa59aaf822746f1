"""Each probe is a real process, also those that die."""

import sys

import pytest

from edgewise.edge import doctor
from edgewise.edge.place import HERE
from edgewise.edge.runners import RUNTIMES


class Prepared(type(HERE)):
    """This machine, with workers that first run this code."""

    def __init__(self, code: str):
        self.code = code

    def command(self, runtime):
        script = f"import os, signal, sys, time\n{self.code}\n"
        return (sys.executable, "-c", script + "from edgewise.edge.worker import main; main()")


def test_tells_what_works_here():
    (probe,) = doctor.examine(["onnxruntime"])
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    assert (probe.runtime, probe.state, probe.problem) == ("onnxruntime", "works", None)
    assert probe.version.count(".") == 2


def test_tells_what_is_missing():
    (probe,) = doctor.examine(["onnxruntime"], place=Prepared("sys.modules['onnxruntime'] = None"))
    assert (probe.state, probe.version) == ("missing", None)
    assert "pip install" in probe.problem


@pytest.mark.parametrize("killer", ["SIGILL", "SIGSEGV"])
def test_survives_a_runtime_that_kills_its_process(killer):
    code = (
        "from edgewise.edge import runners\n"
        f"runners.probe = lambda name: os.kill(os.getpid(), signal.{killer})"
    )
    probes = doctor.examine(place=Prepared(code))
    assert [probe.runtime for probe in probes] == list(RUNTIMES)
    for probe in probes:
        assert probe.state == "broken"
        assert f"{probe.runtime} was killed by {killer} while being imported" in probe.problem


def test_survives_a_runtime_that_hangs():
    code = "from edgewise.edge import runners\nrunners.probe = lambda name: time.sleep(1e6)"
    (probe,) = doctor.examine(["litert"], timeout=0.3, place=Prepared(code))
    assert probe.state == "broken"
    assert "did not answer" in probe.problem


def test_a_runtime_that_computes_something_else_is_broken():
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    code = "from edgewise.edge import specimen\nspecimen.INTEGERS = (0, 1, 2, 3)"
    (probe,) = doctor.examine(["onnxruntime"], place=Prepared(code))
    assert probe.state == "broken"
    assert "wrong numbers" in probe.problem


def test_a_runtime_that_dies_of_its_kernels_is_broken():
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    code = (
        "from edgewise.edge import specimen\n"
        "specimen.try_out = lambda *arguments: os.kill(os.getpid(), signal.SIGILL)"
    )
    (probe,) = doctor.examine(["onnxruntime"], place=Prepared(code))
    assert probe.state == "broken"
    assert "SIGILL while running a small int8 net" in probe.problem

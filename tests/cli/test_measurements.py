"""measure, report and doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import edgewise as ew
from edgewise.edge import doctor
from edgewise.edge.doctor import Probe
from edgewise.reporting.report import FILE, read

DATA = ("--data", "floats.npz")


def test_measure_gives_one_measurement(folder, run):
    done = run("measure", "int8.onnx", *DATA, "--runs", 70, "--threads", 1, "--json")
    assert done.code == 0, done.err
    found = done.json
    assert {"metric", "value", "n", "ci95", "latency_ms", "memory_bytes", "size_bytes", "load_ms",
            "agreement", "runtime", "device", "machine", "versions"} <= set(found)  # fmt: skip
    assert found["latency_ms"]["runs"] >= 70
    assert found["latency_ms"]["threads"] == 1
    assert "p90" in found["latency_ms"] and "p99" not in found["latency_ms"]
    artifact, data = ew.Artifact.open("int8.onnx"), ew.load_data("floats.npz")
    inputs, targets = data.evaluation.take(1000)
    right = artifact.run(*(x.transpose(0, 3, 1, 2) for x in inputs)).argmax(1) == targets
    assert found["value"] == right.mean()
    assert found["n"] == len(targets)


def test_several_are_measured_together_and_reported(folder, run):
    ew.lower(ew.load("float.pt2"), "onnxruntime", "float.onnx")
    done = run("measure", "float.onnx", "int8.onnx", "float.pt2", *DATA, "--runs", 10, "-o", FILE,
               "--json")  # fmt: skip
    assert done.code == 0, done.err
    first, _, model = done.json["measurements"]
    assert model["runtime"] == "torch"
    assert "latency_ms" not in model
    assert first["value"] == model["value"]
    ratio = done.json["differences"][1]
    assert ratio["to"] == "float.onnx"
    assert ratio["latency_ci95"][0] <= ratio["latency"] <= ratio["latency_ci95"][1]
    kept = read(folder)
    assert [row.measurement.subject for row in kept.rows] == [
        "float.onnx", "int8.onnx", "float.pt2",
    ]  # fmt: skip
    assert kept.rows[1].origin.precision == "int8"

    done = run("report", ".", "--title", "Two files")
    assert done.code == 0, done.err
    assert "int8" in done.out
    page = (folder / "report.html").read_text()
    assert "<h1>Two files</h1>" in page
    assert "int8.onnx" in page
    assert json.loads(run("report", FILE, "-o", "other.html", "--json").out)["title"]
    assert (folder / "other.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("measure", "gone.onnx"), "gone.onnx does not exist"),
        (("measure", "floats.npz"), "is not an artifact"),
        (("measure", "float.pt2"), "give data"),
        (("measure", "int8.onnx", "--device", "mars"), "unknown device 'mars'"),
        (("measure", "int8.onnx", "--input", "3,8,8"), "package.module:factory"),
        (("measure", "int8.onnx", "--metric", "beauty", *DATA), "there is no metric 'beauty'"),
        (("measure", "int8.onnx", "--data", "pixels.npz"), "0 to 255"),
        (("measure", "int8.onnx", *DATA, "-o", "gone/m.json"), "gone does not exist"),
        (("measure", "int8.onnx", *DATA, "-o", "int8.onnx"), "is an input"),
        (("report", "gone"), "does not exist"),
        (("report", "."), "measurements.json does not exist"),
        (("report", "int8.onnx"), "not a valid Report"),
        (("report", "int8.onnx.json", "-o", "int8.onnx.json"), "is an input"),
    ],
)
def test_wrong_input_gets_a_sentence(arguments, says, folder, run):
    before = sorted(os.listdir())
    done = run(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.startswith("error: ") and len(done.err.splitlines()) == 1
    assert says in done.err
    assert sorted(os.listdir()) == before


WITHOUT_TORCH = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
from edgewise.cli import main
main()
"""
LOUD = """
import os

def data():
    print("hello")
    os.system("echo from a child")
    return "floats.npz"
"""


def test_on_a_device_without_torch_json_is_one_object_though_the_users_code_prints(folder):
    (folder / "loud.py").write_text(LOUD)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "measure", "int8.onnx", "--data", "loud:data",
         "--runs", "1", "--json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metric"] == "accuracy"
    assert "hello" in done.stderr
    assert "from a child" in done.stderr


def test_a_file_that_was_changed_is_refused(folder, run):
    (folder / "int8.onnx").write_bytes(b"other")
    done = run("measure", "int8.onnx")
    assert done.code == 2
    assert "sha256" in done.err


PROBES = {
    "works": Probe("onnxruntime", "works", version="1.2.3"),
    "missing": Probe("litert", "missing", problem="litert is not installed: run  pip install x"),
    "broken": Probe("openvino", "broken", problem="ended by SIGILL"),
}


@pytest.mark.parametrize(
    ("states", "code"),
    [(["works"], 0), (["works", "missing"], 0), (["missing"], 1), (["works", "broken"], 1)],
)
def test_doctor_says_what_works(states, code, run, monkeypatch):
    probes = tuple(PROBES[state] for state in states)
    monkeypatch.setattr(doctor, "examine", lambda place: probes)
    done = run("doctor")
    assert done.code == code
    for probe in probes:
        assert probe.state in done.out
        assert (probe.version or probe.problem) in done.out
    found = run("doctor", "--json").json
    assert [p["state"] for p in found["runtimes"]] == states
    assert found["machine"]["cores"] == os.cpu_count()
    assert "profile" not in found


def test_doctor_says_how_a_known_board_is_sold(run, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda place: (PROBES["works"],))
    monkeypatch.setattr(doctor, "describe", lambda place: {"board": "Raspberry Pi 4 Model B"})
    assert "Raspberry Pi 4 B: 4 x Cortex-A72 of 1800 MHz" in run("doctor").out
    assert run("doctor", "--json").json["profile"]["emulated"] == "emulated:cortex-a72"


def test_explain_says_where_the_time_goes(folder, run):
    done = run("explain", "int8.onnx", "--runs", 3, "--json")
    assert done.code == 0, done.err
    assert {"operators", "findings", "latency_ms", "runtime", "version"} <= set(done.json)
    assert "QLinearConv" in {o["kind"] for o in done.json["operators"]}
    done = run("explain", "int8.onnx", "--runs", 3, "--operators", 2)
    assert "QLinearConv" in done.out and "more" in done.out and "an inference takes" in done.out
    assert run("explain", "floats.npz").code == 2

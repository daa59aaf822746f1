"""A wrong call or input: one sentence, exit code 2, and no file left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from edgewise.cli import main

from .conftest import SHAPE, Result

SMALL = ("nets:small", *SHAPE)
FLOAT = "float.pt2"
ONNX = ("--runtime", "onnxruntime", "-o", "new.onnx")
NEW = ("-o", "new.pt2")


def arrays(name: str, **made: np.ndarray) -> None:
    np.savez(name, **made)


@pytest.fixture
def inputs(folder):
    """Every bad input of the table below."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (40, 3, 8, 8)).astype(np.float32), np.arange(40) % 5
    arrays("small.npz", x=x[:, :, :4], y=y)
    arrays("words.npz", x=np.array(["a", "b"]), y=y[:2])
    hole = x.copy()
    hole[3, 0, 0, 0] = np.nan
    arrays("nan.npz", x=hole, y=y)
    arrays("inf.npz", x=np.where(x > 0.999, np.inf, x).astype(np.float32), y=y)
    arrays("empty.npz", x=x[:0], y=y[:0])
    arrays("uneven.npz", x=x, y=y[:7])
    whole = (folder / "float.pt2").read_bytes()
    (folder / "truncated.pt2").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pt2").write_text("this is no model")
    (folder / "text.onnx").write_text("this is no model")
    (folder / "text.bin").write_text("this is no model")
    (folder / "text.npz").write_text("these are no data")
    (folder / "sub").mkdir()
    return folder


# command line, what the sentence says
WRONG = {
    "no such model": (("inspect", "nothing.pt2"), "nothing.pt2 does not exist"),
    "no model": (("inspect", "text.pt2"), "text.pt2"),
    "no suffix that is known": (("inspect", "text.bin"), "text.bin cannot be loaded"),
    "no ONNX": (("inspect", "text.onnx"), "text.onnx is not an ONNX file"),
    "truncated": (("lower", "truncated.pt2", *ONNX), "truncated.pt2"),
    "no such module": (("inspect", "nowhere:net"), "nowhere"),
    "no such factory": (("inspect", "nets:nothing"), "nothing"),
    "no factory": (("inspect", "nets:number"), "number"),
    "factory fails": (("inspect", "nets:fails"), "no such checkpoint"),
    "no example": (("inspect", "nets:small"), "--input 3,32,32"),
    "example no shape": (("inspect", "nets:small", "--input", "3,x"), "--input takes sizes"),
    "example not fitting": (("inspect", "nets:small", "--input", "4,8,8"), "exported"),
    "no such weights": (("inspect", *SMALL, "--weights", "w.pt"), "w.pt does not exist"),
    "weights no weights": (("inspect", *SMALL, "--weights", "text.pt2"), "text.pt2"),
    "NaN in weights": (("inspect", "nets:broken", *SHAPE), "NaN"),
    "no data": (("quantize", FLOAT, *NEW), "calibration"),
    "no such data": (("quantize", FLOAT, "--data", "d.npz", *NEW), "d.npz does not exist"),
    "data no data": (("quantize", FLOAT, "--data", "text.npz", *NEW), "text.npz"),
    "shape": (("quantize", FLOAT, "--data", "small.npz", *NEW), "(batch, 3, 8, 8)"),
    "dtype": (("quantize", FLOAT, "--data", "words.npz", *NEW), "words.npz"),
    "value range": (("quantize", FLOAT, "--data", "pixels.npz", *NEW), "0 to 255"),
    "NaN": (("quantize", FLOAT, "--data", "nan.npz", *NEW), "NaN"),
    "infinity": (("quantize", FLOAT, "--data", "inf.npz", *NEW), "infinity"),
    "empty": (("quantize", FLOAT, "--data", "empty.npz", *NEW), "empty.npz"),
    "uneven": (("quantize", FLOAT, "--data", "uneven.npz", *NEW), "uneven.npz"),
    "mean alone": (
        ("quantize", FLOAT, "--data", "pixels.npz", "--mean", "0", *NEW),
        "--mean and --std",
    ),
    "mean no number": (
        ("quantize", FLOAT, "--data", "pixels.npz", "--mean", "a", "--std", "1", *NEW),
        "--mean takes a number",
    ),
    "mean without data": (
        ("lower", FLOAT, "--mean", "0", "--std", "1", *ONNX),
        "--uint8-input",
    ),
    "scale no number": (
        ("quantize", FLOAT, "--data", "pixels.npz", "--scale", "1/0", *NEW),
        "--scale takes a number",
    ),
    "unknown scheme": (
        ("quantize", FLOAT, "--data", "floats.npz", "--scheme", "int3", *NEW),
        "unknown scheme 'int3'",
    ),
    "no samples": (
        ("quantize", FLOAT, "--data", "floats.npz", "--samples", "0", *NEW),
        "samples",
    ),
    "no such layer": (
        ("quantize", FLOAT, "--data", "floats.npz", "--keep-float", "layer9", *NEW),
        "keep_float 'layer9' matches nothing",
    ),
    "wrong suffix": (("quantize", FLOAT, "--data", "floats.npz", "-o", "new.onnx"), ".pt2"),
    "no such folder": (
        ("quantize", FLOAT, "--data", "floats.npz", "-o", "gone/new.pt2"),
        "gone does not exist",
    ),
    "output is a folder": (("lower", FLOAT, "--runtime", "litert", "-o", "sub"), "is a folder"),
    "output cannot be written": (
        ("quantize", FLOAT, "--data", "floats.npz", "-o", "/proc/new.pt2"),
        "/proc/new.pt2 cannot be written",
    ),
    "output is the input": (
        ("quantize", "text.pt2", "--data", "floats.npz", "-o", "text.pt2"),
        "is an input",
    ),
    "unknown runtime": (("lower", FLOAT, "--runtime", "tensorrt"), "choose one of onnxruntime"),
    "runtime's suffix": (
        ("lower", FLOAT, "--runtime", "litert", "-o", "new.onnx"),
        "litert files end in .tflite",
    ),
    "batch": (("lower", FLOAT, *ONNX, "--batch", "0"), "batch must be at least 1"),
    "operator that the runtime lacks": (("lower", "nets:strange", *SHAPE, *ONNX), "qr"),
}  # fmt: skip


def check(done: Result, says: str) -> None:
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert says in done.err


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_a_sentence(case, inputs, run):
    arguments, says = WRONG[case]
    before = sorted(os.listdir())
    done = run(*arguments)
    check(done, says)
    assert [f for f in sorted(os.listdir()) if f != "__pycache__"] == [
        f for f in before if f != "__pycache__"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",), ("inspect",), ("inspect", "a.pt2", "--nonsense"),
        ("lower", "a.pt2"), ("quantize", "a.pt2", "--data", "d.npz"),
        ("lower", "a.pt2", "--runtime", "litert", "--batch", "two"),
    ],
)  # fmt: skip
def test_wrong_usage_is_code_2(arguments, run):
    done = run(*arguments)
    assert done.code == 2
    assert "Usage: edgewise" in done.out + done.err


WITHOUT = """
from importlib.machinery import PathFinder

import edgewise.cli

find, absent = PathFinder.find_spec, {"onnxruntime", "ai_edge_litert", "openvino", "executorch"}
PathFinder.find_spec = lambda name, *rest: None if name in absent else find(name, *rest)
for runtime in ("onnxruntime", "litert", "openvino", "executorch"):
    try:
        edgewise.cli.main(["lower", "float.pt2", "--runtime", runtime])
    except SystemExit as end:
        print(end.code)
"""


def test_a_runtime_that_is_not_installed_gives_its_pip_line(inputs):
    before = sorted(os.listdir())
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.stdout.split() == ["2"] * 4
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for line, extra in zip(lines, ("onnxruntime", "litert", "openvino", "executorch"), strict=True):
        assert line.startswith("error: ")
        assert f"pip install 'edgewise[{extra}]'" in line
    assert sorted(os.listdir()) == before


def test_a_fault_of_ours_keeps_its_traceback(folder, run, monkeypatch):
    monkeypatch.setattr("edgewise.inspect", lambda *_: 1 / 0, raising=False)
    done = run("inspect", FLOAT)
    assert done.code == 70
    assert "ZeroDivisionError" in done.err
    assert "please report" in done.err


def test_an_interrupt_is_one_line_and_code_130(folder, capfd, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgewise.cli.options.ModelOptions.open", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["inspect", FLOAT])
    assert end.value.code == 130
    assert capfd.readouterr().err == "interrupted\n"

"""inspect, quantize, lower: what they print and what they write."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect

import numpy as np

import edgewise as ew
from edgewise.cli import models

from .conftest import SHAPE


def test_inspect_counts_as_the_verb_does(folder, run):
    done = run("inspect", "nets:small", *SHAPE, "--json")
    assert done.code == 0
    assert done.json["parameters"] == 3 * 8 * 9 + 8 + 16 + 8 * 8 * 9 + 8 + 32 * 5 + 5
    assert [row["operator"] for row in done.json["layers"]] == [
        "conv2d", "batch_norm", "conv2d", "linear",
    ]  # fmt: skip


def test_inspect_prints_every_layer(folder, run):
    done = run("inspect", "int8.pt2")
    assert done.code == 0
    found = ew.inspect(ew.load("int8.pt2"))
    for row in found.layers:
        assert f"{row.macs:,}" in done.out
    assert "int8" in done.out


def test_quantize_writes_the_model_and_its_plan(folder, run):
    done = run(
        "quantize", "nets:small", *SHAPE, "--data", "pixels.npz", "--mean", "0.5", "--std", "1/4",
        "--keep-float", "7", "--samples", 20, "-o", "q.pt2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["sha256"] == hashlib.sha256((folder / "q.pt2").read_bytes()).hexdigest()
    assert done.json["size_bytes"] == (folder / "q.pt2").stat().st_size
    assert done.json["plan"]["skipped"] == {"7": "kept float as asked"}
    assert done.json["plan"]["params"]["samples"] == 20
    model = ew.load(folder / "q.pt2")
    assert model.quantized
    assert model.lineage[-1].step == "quantize"


def test_uint8_input_puts_the_normalisation_into_the_model(folder, run):
    options = ("--data", "pixels.npz", "--mean", ".5,.4,.3", "--std", ".2,.2,.3")
    run("quantize", "nets:small", *SHAPE, *options, "-o", "outside.pt2")
    done = run("quantize", "nets:small", *SHAPE, *options, "--uint8-input", "-o", "inside.pt2")
    assert done.code == 0, done.err
    outside, inside = ew.load("outside.pt2"), ew.load("inside.pt2")
    assert outside.signature.inputs[0].dtype == "float32"
    assert inside.signature.inputs[0].dtype == "uint8"
    pixels = np.load("pixels.npz")["x"].transpose(0, 3, 1, 2)
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.2, 0.3]))
    real = ((pixels / np.float32(255) - mean) / std).astype(np.float32)
    step = np.ptp(outside(real)) / 255
    assert np.abs(outside(real) - inside(pixels)).mean() < 3 * step


def test_the_options_of_quantize_are_its_fields():
    options = inspect.signature(models.quantize).parameters
    for field in dataclasses.fields(ew.Quantize):
        name = "runtime" if field.name == "target" else field.name
        assert options[name].default == (field.default or None)


def test_lower_writes_beside_the_model_and_reports_agreement(folder, run):
    (folder / "int8.onnx").unlink()
    done = run("lower", "int8.pt2", "--runtime", "onnxruntime", "--json")
    assert done.code == 0, done.err
    artifact = ew.Artifact.open("int8.onnx")
    assert done.json["sha256"] == artifact.sha256
    assert done.json["agreement"]["top1"] == artifact.agreement.top1
    assert done.json["precision"] == "int8"


def test_lower_compares_on_the_data_that_are_given(folder, run):
    done = run(
        "lower", "int8.pt2", "--runtime", "onnxruntime", "--data", "floats.npz", "-o", "a.onnx",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["agreement"]["source"] == "data"


CLIMB = ("quantize", "nets:small", *SHAPE, "--data", "pixels.npz", "--mean", "0.5", "--std", "1/4")


def test_quantize_climbs_until_the_drop_holds(folder, run):
    done = run(*CLIMB, "--max-drop", "100", "-o", "held.pt2")
    assert done.code == 0, done.err
    assert "min-max ranges" in done.out and "kept" in done.out
    done = run(*CLIMB, "--max-drop", "0", "--weight-bits", "2", "-o", "few.pt2", "--json")
    rungs = done.json["plan"]["params"]["rungs"]
    assert done.code == (0 if min(rung["drop"] for rung in rungs) <= 0 else 1)
    assert (folder / "few.pt2").exists()


def test_the_ladder_chooses_ranges_itself(folder, run):
    done = run(*CLIMB, "--max-drop", "1", "--ranges", "mse", "-o", "no.pt2")
    assert done.code == 2 and "--ranges" in done.err
    assert not (folder / "no.pt2").exists()


def test_lower_does_not_write_over_the_model_it_reads(folder, run):
    done = run("lower", "float.pt2", "--runtime", "litert")
    assert done.code == 0, done.err
    before = (folder / "float.tflite").read_bytes()
    done = run("lower", "float.tflite", "--runtime", "litert")
    assert done.code == 2 and "float.tflite" in done.err
    assert (folder / "float.tflite").read_bytes() == before
    done = run("inspect", "float.tflite", "--signature", "nothing")
    assert done.code == 2 and "nothing" in done.err

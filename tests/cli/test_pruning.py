"""prune: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

import edgewise as ew
from edgewise.cli import pruning

from .conftest import SHAPE


def test_the_plan_comes_first_and_the_model_is_smaller(folder, run):
    done = run("prune", "nets:small", *SHAPE, "--amount", "0.5", "-o", "p.pt2", "--json")
    assert done.code == 0, done.err
    assert "8 -> 4" in done.err and "MACs" in done.err
    assert done.json["plan"]["params"]["amount"] == 0.5
    assert done.json["plan"]["skipped"] == {"7": "it is an output of the model"}
    small = ew.load(folder / "p.pt2")
    assert small.lineage[-1].step == "prune"
    assert small(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 5)
    assert sum(p.numel() for p in small.graph.parameters()) < 400


def test_shares_by_group_and_reconstruction(folder, run):
    done = run(
        "prune", "nets:small", *SHAPE, "--amount", "4=0.25", "--reconstruct", "--data",
        "floats.npz", "-o", "p.pt2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "8 -> 6" in done.err and "8 -> 4" not in done.err
    assert done.json["plan"]["params"]["amount"] == {"4": 0.25}


def test_rounds_train_in_between(folder, run):
    options = ("--data", "floats.npz", "--rounds", "2", "--epochs", "1", "--max-drop", "100")
    done = run("prune", "nets:small", *SHAPE, "--amount", "0.5", *options, "-o", "p.pt2")
    assert done.code == 0, done.err
    assert done.err.count("after training") == 2 and not (folder / "p.training").exists()
    steps = [event.step for event in ew.load(folder / "p.pt2").lineage]
    assert steps == ["load", "prune", "distill", "prune", "distill"]
    done = run("prune", "nets:small", *SHAPE, "--rounds", "2", "-o", "p.pt2")
    assert done.code == 2 and "give --data" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--amount", "1.5"), "[0, 1)"),
        (("--amount", "much"), "--amount takes a number"),
        (("--amount", "0.1", "--amount", "0.2"), "GROUP=SHARE"),
        (("--amount", "7.x=0.2"), "matches nothing"),
        (("--criterion", "l3"), "l1"),
        (("--criterion", "taylor"), "calibration"),
        (("--keep", "nothing"), "matches nothing"),
        (("--of", "latency"), "belong together"),
        (("--of", "latency", "--runtime", "onnx"), "onnxruntime"),
    ],
)
def test_a_bad_call_is_one_sentence(folder, run, options, said):
    done = run("prune", "nets:small", *SHAPE, *options, "-o", "new.pt2")
    assert done.code == 2
    assert done.err.startswith("error: ") and said in done.err
    assert not (folder / "new.pt2").exists()


def test_a_quantized_model_is_refused(folder, run):
    done = run("prune", "int8.pt2", "-o", "new.pt2")
    assert done.code == 2 and "prune the float model" in done.err


def test_inspect_lists_the_groups(folder, run):
    done = run("inspect", "nets:small", *SHAPE, "--runtime", "onnxruntime", "--json")
    assert [(g["group"], g["units"]) for g in done.json["groups"]] == [("0", 8), ("4", 8)]
    assert done.json["uncut"] == {"7": "it is an output of the model"}
    text = run("inspect", "nets:small", *SHAPE, "--runtime", "onnxruntime").out
    assert "cut with them" in text and "cannot be cut" in text


def test_sensitivity_is_shown_kept_and_reported(folder, run):
    options = ("--data", "floats.npz", "--amount", "0.25", "--amount", "0.5")
    done = run("sensitivity", "nets:small", *SHAPE, *options, "-o", "run", "--json")
    assert done.code == 0, done.err
    rows = [(row["group"], row["amount"]) for row in done.json["rows"]]
    assert rows == [("0", 0.25), ("0", 0.5), ("4", 0.25), ("4", 0.5)]
    assert done.json["metric"] == "accuracy"
    text = run("sensitivity", "nets:small", *SHAPE, *options, "-o", "run").out
    assert "25 %" in text and "accuracy lost" in text
    assert len(list((folder / "run").iterdir())) == 1
    done = run("report", "run")
    assert done.code == 0, done.err
    page = (folder / "run" / "report.html").read_text()
    assert page.count("<polyline") == 2 and "What cutting each group alone costs" in page


def test_shorten_leaves_blocks_out(folder, run):
    options = ("--data", "floats.npz", "-o", "s.pt2")
    done = run("shorten", "nets:residual", *SHAPE, *options, "--json")
    assert done.code == 0, done.err
    assert ".conv  (outputs move by" in done.err and done.json["plan"]["step"] == "shorten"
    done = run("shorten", "nets:residual", *SHAPE, "--blocks", "*.conv", "-o", "s.pt2")
    assert done.code == 0, done.err
    assert "-> 960 MACs" in done.err
    assert len(list(ew.load(folder / "s.pt2").graph.parameters())) == 2
    done = run("shorten", "nets:small", *SHAPE, *options)
    assert done.code == 2 and "no block" in done.err


def test_sensitivity_needs_samples(folder, run):
    done = run("sensitivity", "nets:small", *SHAPE)
    assert done.code == 2 and "give --data" in done.err


def test_the_options_are_the_fields():
    options = inspect.signature(pruning.prune).parameters
    for field in dataclasses.fields(ew.Prune):
        default = 0.3 if field.name == "amount" else options[field.name].default or field.default
        assert default == field.default

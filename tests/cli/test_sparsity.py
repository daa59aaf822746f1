"""sparsify, cluster, condense, factorize: what they print, what they write, what they refuse."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import edgewise as ew
from edgewise.cli import sparsity

from .conftest import SHAPE


def test_the_plan_comes_first_and_weights_are_zero(folder, run):
    done = run(
        "sparsify", "nets:small", *SHAPE, "--criterion", "sparsegpt", "--data", "floats.npz",
        "-o", "s.pt2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "weights are zero (50.0%)" in done.err
    assert done.json["plan"]["params"] == {"criterion": "sparsegpt"}
    small = ew.load(folder / "s.pt2")
    weight = dict(small.graph.named_parameters())["4.weight"]
    assert int((weight == 0).sum()) == 288


def test_a_sparse_file_is_said_to_be_no_faster(folder, run):
    pytest.importorskip("onnxruntime", reason="the file is written for ONNX Runtime")
    run("sparsify", "nets:small", *SHAPE, "-o", "sparse.pt2")
    lowered = ["--runtime", "onnxruntime", "-o", "sparse.onnx"]
    done = run("lower", "sparse.pt2", *lowered)
    assert done.code == 0, done.err
    assert "50.00 % of its weights are zero" in done.out and "only the file shrinks" in done.out
    assert run("lower", "sparse.pt2", *lowered, "--json").json["zeros"] == 0.5
    assert "zeros" not in run("lower", "nets:small", *SHAPE, *lowered, "--json").json


def test_weights_share_values(folder, run):
    done = run(
        "cluster", "nets:small", *SHAPE, "--bits", "3", "--reconstruct", "--data", "floats.npz",
        "-o", "c.pt2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "576 weights share 8 values" in done.err
    assert done.json["plan"]["params"] == {"bits": 3, "reconstruct": True}
    assert ew.load(folder / "c.pt2").clustered
    refused = run("cluster", "nets:small", *SHAPE, "--bits", "9", "-o", "new.pt2")
    assert refused.code == 2 and refused.err.startswith("error: bits must be 1 to 8")


def test_weights_take_fewer_bits(folder, run):
    done = run(
        "condense", "nets:small", *SHAPE, "--bits", "3", "--data", "floats.npz", "-o", "c.pt2",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "952 weights of" in done.err and done.json["plan"]["params"] == {"bits": 3.0}
    shown = run("inspect", "c.pt2", "--runtime", "onnxruntime")
    assert "once entropy-coded" in shown.out


def test_layers_become_products(folder, run):
    done = run(
        "factorize", "nets:small", *SHAPE, "--error", "0.6", "--data", "floats.npz", "-o", "f.pt2",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "rank" in done.err and done.json["plan"]["params"] == {"error": 0.6}
    names = [name for name, _ in ew.load(folder / "f.pt2").graph.named_parameters()]
    assert any(name.endswith(".first.weight") for name in names)
    refused = run("factorize", "nets:small", *SHAPE, "--macs", "2", "-o", "new.pt2")
    assert refused.code == 2 and "macs is a share between 0 and 1" in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--amount", "1.5"), "[0, 1)"),
        (("--amount", "9=0.5"), "matches nothing"),
        (("--pattern", "4:2"), "N:M"),
        (("--criterion", "wanda"), "give data="),
        (("--allocation", "fair"), "lamp"),
    ],
)
def test_a_bad_call_is_one_sentence(folder, run, options, said):
    done = run("sparsify", "nets:small", *SHAPE, *options, "-o", "new.pt2")
    assert done.code == 2
    assert done.err.startswith("error: ") and said in done.err
    assert not (folder / "new.pt2").exists()


@pytest.mark.parametrize(
    ("command", "step", "amount"),
    [
        (sparsity.sparsify, ew.Sparsify, 0.5),
        (sparsity.cluster, ew.Cluster, None),
        (sparsity.condense, ew.Condense, None),
        (sparsity.factorize, ew.Factorize, None),
    ],
)
def test_the_options_are_the_fields(command, step, amount):
    options = inspect.signature(command).parameters
    for field in dataclasses.fields(step):
        given = options[field.name].default
        default = amount if field.name == "amount" else field.default if given is None else given
        assert default == field.default

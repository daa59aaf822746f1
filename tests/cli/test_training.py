"""distill and finetune: what they print, write, keep and refuse."""

from __future__ import annotations

import numpy as np
import pytest

import edgewise as ew

QUICK = ("--epochs", "1", "--batch", "8")


def test_a_student_learns_from_a_file(folder, run):
    done = run(
        "distill", "int8.pt2", "--teacher", "float.pt2", "--alpha", "1", "--data", "floats.npz",
        *QUICK, "-o", "taught.pt2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "parameters" in done.err and "scales learn from" in done.err
    assert done.json["plan"]["step"] == "distill"
    assert done.json["plan"]["params"]["alpha"] == 1
    assert ew.load(folder / "taught.pt2").quantized
    assert not (folder / "taught.training").exists()


def test_a_folder_that_is_named_is_kept(folder, run):
    call = ("finetune", "float.pt2", "--data", "floats.npz", *QUICK, "--folder", "kept")
    assert run(*call, "-o", "one.pt2").code == 0
    assert list((folder / "kept").glob("step-*.safetensors"))
    assert list((folder / "kept").glob("events*"))  # TensorBoard's
    assert run(*call, "-o", "two.pt2").code == 0  # goes on where it stood: at the end
    x = np.zeros((2, 3, 8, 8), np.float32)
    one, two = (ew.load(folder / name)(x) for name in ("one.pt2", "two.pt2"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("distill", ("--teacher", "float.pt2", "--temperature", "0"), "above 0"),
        ("distill", ("--teacher", "float.pt2", "--alpha", "2"), "[0, 1]"),
        ("distill", ("--teacher", "nowhere.pt2"), "nowhere.pt2"),
        ("finetune", ("--average", "often"), "--average takes a decay or swa"),
        ("finetune", ("--augment", "wash"), "unknown augmentation 'wash'"),
        ("finetune", ("--optimizer", "magic"), "unknown optimizer 'magic'"),
        ("finetune", ("--rate", "1e30", *QUICK), "the loss became"),
    ],
)
def test_a_bad_call_is_one_sentence(folder, run, command, options, said):
    done = run(command, "float.pt2", "--data", "floats.npz", *options, "-o", "new.pt2")
    assert done.code == 2
    assert said in done.err.splitlines()[-1] and "error: " in done.err
    assert not (folder / "new.pt2").exists()

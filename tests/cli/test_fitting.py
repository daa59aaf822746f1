"""`edgewise fit`: what it prints, how it ends, and that nothing stops it for good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from edgewise.cli import main
from edgewise.fitting import Fitted

from ..fitting.conftest import images, net, stripes

pytest.importorskip("onnxruntime")

__all__ = ["net", "stripes"]  # fixtures


@pytest.fixture
def files(net, tmp_path, monkeypatch):
    """net.pt2 and data.npz in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    net.save("net.pt2")
    (x, y), (x_test, y_test) = images(400, 1), images(300, 2)
    np.savez("data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return tmp_path


ARGUMENTS = ["fit", "net.pt2", "--data", "data.npz", "--runtime", "onnxruntime", "-o", "run"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main([*ARGUMENTS, *arguments])
    return end.value.code or 0


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_goes_on(files, capfd):
    asked = ["--max-drop", "2", "--trials", "3", "--no-train"]
    command = [sys.executable, "-m", "edgewise", *ARGUMENTS, *asked]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    for line in process.stderr:
        if " 1 trials" in line:  # while the second is made
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run(*asked, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert told["holds"] and told["trials"] >= 3
    found = Fitted.open("run")
    numbers = [t.number for t in found.record.trials]
    assert len(set(numbers)) == len(numbers)
    assert os.path.samefile(told["artifact"], found.artifact.path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_with_the_best_so_far(files, workers):
    asked = ["--max-drop", "2", "--trials", "200", "--no-train", "--workers", workers, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgewise", *ARGUMENTS, *asked],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    said = []
    for line in process.stderr:
        said.append(line)
        if " 2 trials" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all that it started
    out, err = process.communicate()
    assert out, (process.returncode, said, err)
    told = json.loads(out)
    assert process.returncode == 0 and told["holds"] and 2 <= told["trials"] < 200
    assert "interrupted" in told["stopped"] and "goes on" in told["stopped"]
    assert Fitted.open("run").artifact.path.exists()


def test_a_budget_out_of_reach_ends_with_1_and_says_which(files, capfd):
    assert run("--max-size", "10B", "--trials", "1", "--no-train") == 1
    out, err = capfd.readouterr()
    assert "max-size" in out and "missed" in out and "as it is: 1 trials" in err
    found = Fitted.open("run")
    assert not found.holds and found.artifact.size_bytes == found.best.figures.size_bytes > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is nothing to hold: give at least one budget"),
        (("--max-size", "big"), "--max-size takes a number"),
        (("--max-drop", "1", "--time", "never"), "a time is above 0"),
        (("--max-drop", "1", "--objective", "nicest"), "unknown objective 'nicest'"),
        (("--max-drop", "1", "--storage", "nosuch://x"), "the search cannot be kept in"),
    ],
)
def test_what_cannot_be_meant_is_refused(files, capfd, arguments, words):
    assert run(*arguments) == 2
    err = capfd.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("error: ") and words in err

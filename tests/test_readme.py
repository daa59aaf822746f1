"""What the README shows is run as it stands."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from edgewise.cli import main

from .edge.bundle.conftest import write_keys

README = Path(__file__).resolve().parents[1] / "README.md"
LANGUAGES = ("python", "sh")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_every_block_is_of_a_language_that_is_run():
    fences = re.findall(r"```(\w*)\n", README.read_text())
    assert {fence for fence in fences if fence} == set(LANGUAGES)


@pytest.mark.slow
def test_the_blocks_run(tmp_path, monkeypatch, capfd):
    pytest.importorskip("ai_edge_litert", reason="the README's example lowers for LiteRT")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), scope)
    assert scope["artifact"].agreement.top1 == 1.0
    # What the shell block takes for given.
    scope["model"].save("net.pt2")
    x, y = scope["data"]
    np.savez("data.npz", x=x, y=y)
    private, public = write_keys(tmp_path)
    private.rename("private.pem")
    public.rename("public.pem")
    for block in blocks("sh"):
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "edgewise"
            with pytest.raises(SystemExit) as end:  # in this process: torch is imported once
                main(arguments)
            assert not end.value.code, f"{line}\n{capfd.readouterr().err}"
    assert {p.name for p in tmp_path.iterdir()} >= {
        "small.pt2",
        "small.tflite",
        "small.tflite.json",
    }

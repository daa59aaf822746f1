"""What docs/bundles.md shows is run as it stands, but for openssl and unzip."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgewise as ew
from edgewise.cli import main

from ..edge.bundle.conftest import write_keys
from ..nets import make

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bundles.md"


def test_the_page_runs(tmp_path, monkeypatch, capfd):
    pytest.importorskip("ai_edge_litert", reason="the page's artifact is of LiteRT")
    pytest.importorskip("cryptography", reason="signs and checks signatures")
    monkeypatch.chdir(tmp_path)
    net, x = make("residual")
    model = ew.load(net, x[:1])
    ew.lower(model, "litert", "small.tflite")
    ew.lower(model, "litert", "new.tflite")
    np.savez("data.npz", x=x.numpy(), y=np.zeros(len(x), np.int64))
    private, public = write_keys(tmp_path)
    private.rename("private.pem")
    public.rename("public.pem")
    from ..edge.bundle.authority import MIDDLE, ROOT, SIGNER, signing_file

    signing_file(tmp_path / "certified.pem", SIGNER, MIDDLE)
    (tmp_path / "roots.pem").write_bytes(ROOT.pem)
    ran = 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if language == "python":
            shutil.rmtree("model")
            exec(compile(block, str(PAGE), "exec"), {"ew": ew})
            continue
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line)
            if program == "edgewise":
                with pytest.raises(SystemExit) as end:
                    main(arguments)
                assert not end.value.code, f"{line}\n{capfd.readouterr().err}"
                ran += 1
    assert ran == 7
    assert Path("new/model.tflite").read_bytes() == Path("new.tflite").read_bytes()

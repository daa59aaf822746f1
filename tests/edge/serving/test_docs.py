"""The Python in docs/serving.md is run as it stands."""

import re
import shutil
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "serving.md"


@pytest.mark.slow
def test_its_blocks_run(tmp_path, monkeypatch, serving):
    pytest.importorskip("ai_edge_litert", reason="the document serves a LiteRT file")
    pytest.importorskip("tritonclient.http", reason="the document's client")
    torch = pytest.importorskip("torch", reason="makes the file")
    import edgewise as ew

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 10))
    model = ew.load(net.eval(), example=torch.zeros(1, 1, 8, 8))
    ew.lower(model, "litert", tmp_path / "digits.tflite")
    served = tmp_path / "served"
    served.mkdir()
    for file in tmp_path.glob("digits.tflite*"):
        shutil.copy(file, served)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    with serving(served) as running:
        scope = {"ADDRESS": running.address}
        for block in blocks:
            exec(compile(block, str(DOCUMENT), "exec"), scope)
    assert len(blocks) == 2 and scope["stream"].real_time_factor

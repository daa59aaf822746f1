"""What docs/training.md shows is run as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="the page lowers for LiteRT")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scope: dict = {}
    exec(compile(block, str(PAGE), "exec"), scope)
    assert (tmp_path / "ready.tflite").exists()
    assert scope["ready"].quantized

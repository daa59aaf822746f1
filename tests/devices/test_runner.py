"""The single file that devices get: reproducible, and free of all but numpy and the runtime."""

import json
import subprocess
import sys

import pytest

from edgewise.devices.runner import NAME, runner
from edgewise.edge.worker import Worker

FOREIGN = ("torch", "msgspec", "typer", "rich", "scipy", "onnx")


@pytest.fixture
def pyz(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(runner())
    return path


def test_the_same_sources_give_the_same_bytes():
    first = runner()
    runner.cache_clear()
    assert runner() == first


def test_it_is_a_worker(pyz):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    with Worker("onnxruntime", timeout=60, command=(sys.executable, "-I", str(pyz))) as worker:
        assert worker.ask(probe="onnxruntime")["version"].count(".") == 2


def test_it_needs_nothing_but_numpy_and_the_runtime(pyz):
    """Even where the rest is installed it is not imported."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    code = (
        f"import sys, json; sys.path.insert(0, {str(pyz)!r})\n"
        f"sys.modules.update(dict.fromkeys({FOREIGN!r}))\n"  # importing them fails
        "from edgewise.edge import worker, runners\n"
        "runners.probe('onnxruntime'); print(json.dumps([worker.__file__]))"
    )
    done = subprocess.run(
        (sys.executable, "-I", "-c", code), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [f"{pyz}/edgewise/edge/worker.py"]

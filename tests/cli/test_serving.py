"""The command becomes the server's process, so it is run as one."""

import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..edge.tiny import write_onnx

pytest.importorskip("uvloop", reason="the server needs the extra 'serve'")
pytest.importorskip("onnxruntime", reason="serves an ONNX file")


@contextmanager
def serve(*arguments):
    command = [sys.executable, "-m", "edgewise", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_it_serves_until_it_is_told_to_end(tmp_path):
    file, socket = write_onnx(tmp_path / "tiny.onnx"), tmp_path / "s"
    with serve(file, "--port", 0, "--socket", socket) as process:
        address = process.stderr.readline().strip()
        assert process.stderr.readline().strip() == f"unix:{socket}"
        with urllib.request.urlopen(f"{address}/v2/models/tiny/ready") as answer:
            assert answer.status == 200
        maps = Path(f"/proc/{process.pid}/maps")
        if maps.exists():  # what reads the command line is not kept in memory
            assert "pydantic" not in maps.read_text() and "torch" not in maps.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    assert not socket.exists()


def test_what_is_wrong_is_said_in_a_line(tmp_path):
    with serve(tmp_path / "none") as process:
        assert process.wait(20) == 2
        error = process.stderr.read()
    assert error.startswith("error: ") and "does not exist" in error and error.count("\n") == 1

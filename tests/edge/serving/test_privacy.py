"""What a server leaves behind and whom it talks to, seen from outside of its process."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ..tiny import write_onnx

ASK = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 77123]}]}
LOOPBACK = {"0100007F", "00000000", "0" * 32}  # as /proc/net/tcp writes them


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="reads Linux's /proc")
def test_nothing_is_written_and_nobody_is_called(tmp_path, models):
    home = tmp_path / "home"
    home.mkdir()
    file = write_onnx(tmp_path / "tiny.onnx")
    command = [sys.executable, "-m", "edgewise", "serve", str(file), "--port", "0"]
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    with subprocess.Popen(
        command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stderr.readline().strip()
        folder = Path(f"/proc/{process.pid}")
        before, refused = written(folder), []
        for body in (ASK, {"inputs": [{**ASK["inputs"][0], "shape": [2, 4]}]}) * 20:
            try:
                urllib.request.urlopen(f"{address}/v2/models/tiny/infer", json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                refused.append(error.read())
        assert written(folder) == before
        assert len(refused) == 20 and not any(b"77123" in text for text in refused)
        mine = {os.readlink(fd) for fd in (folder / "fd").iterdir()}
        inodes = {m[1] for link in mine if (m := re.fullmatch(r"socket:\[(\d+)\]", link))}
        peers = [
            row.split()[2].partition(":")[0]
            for kind in ("tcp", "tcp6", "udp", "udp6")
            for row in (folder / "net" / kind).read_text().splitlines()[1:]
            if row.split()[9] in inodes
        ]
        assert peers and set(peers) <= LOOPBACK
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    assert list(home.rglob("*")) == []


def written(folder: Path) -> int:
    """Bytes that a process has had written to storage."""
    return int(re.search(r"^write_bytes: (\d+)", (folder / "io").read_text(), re.MULTILINE)[1])

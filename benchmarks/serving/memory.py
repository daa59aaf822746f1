"""What an idle server with an opened file holds beyond a bare interpreter with numpy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from edgewise.edge.artifact import Artifact

from .pressure import memory_bytes
from .wire import Client, infer_request, inputs_of, serving

__all__ = ["run"]

BARE = "import sys, numpy; print(flush=True); sys.stdin.read()"


def run(path: Path, threads: int) -> dict[str, object]:
    """Megabytes (10^6) of physical memory, before the first request and after a thousand."""
    artifact = Artifact.open(path)
    request = infer_request(path.stem, artifact, inputs_of(artifact))
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        bare = memory_bytes(process.pid)
        process.stdin.close()
    with serving(path, "--threads", str(threads)) as server:
        time.sleep(1)
        idle = memory_bytes(server.process.pid)
        client = Client(server.socket)
        for _ in range(1000):
            client.send(request)
        used = memory_bytes(server.process.pid)
    return {
        "file": str(path),
        "bare_mb": round(bare / 1e6, 1),
        "idle_above_bare_mb": round((idle - bare) / 1e6, 1),
        "used_above_bare_mb": round((used - bare) / 1e6, 1),
    }

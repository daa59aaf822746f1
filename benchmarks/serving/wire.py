"""The thinnest client that HTTP allows, so that what is timed is the server; and how to start one.

Requests go to 127.0.0.1 and to Unix sockets alone.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.edge.artifact import Artifact
from edgewise.edge.serving.protocol import DATATYPES

__all__ = ["Client", "Served", "infer_request", "inputs_of", "serving", "shared_request"]

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Client:
    """One connection that is kept."""

    def __init__(self, address: int | Path):
        if isinstance(address, int):
            self._socket = socket.create_connection(("127.0.0.1", address), timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(60)
            self._socket.connect(str(address))

    def send(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer to a whole request."""
        self._socket.sendall(request)
        data = self._socket.recv(1 << 16)
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the server closed the connection")
            data += more
        head, body = data[:end], data[end + 4 :]
        want = int(LENGTH.search(head)[1])
        while len(body) < want:
            body += self._socket.recv(1 << 20)
        return int(head[9:12]), head, body

    def close(self) -> None:
        self._socket.close()


def infer_request(model: str, artifact: Artifact, arrays: tuple[np.ndarray, ...]) -> bytes:
    """A whole HTTP request that carries the inputs, and asks for the outputs, as bytes."""
    rows = [
        {**row, "parameters": {"binary_data_size": array.nbytes}}
        for row, array in zip(_rows(artifact, arrays), arrays, strict=True)
    ]
    return _post(model, rows, b"".join(array.tobytes() for array in arrays))


def shared_request(
    client: Client,
    model: str,
    artifact: Artifact,
    arrays: tuple[np.ndarray, ...],
    memory: shared_memory.SharedMemory,
) -> bytes:
    """A request whose inputs lie one behind the other in shared memory, which it registers."""
    region = {"key": f"/{memory.name}", "offset": 0, "byte_size": memory.size}
    body = json.dumps(region).encode()
    path = "/v2/systemsharedmemory/region/r/register"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, found = client.send(head.encode() + body)
    assert status == 200, found
    rows, offset = _rows(artifact, arrays), 0
    for row, array in zip(rows, arrays, strict=True):
        row["parameters"] = {
            "shared_memory_region": "r",
            "shared_memory_byte_size": array.nbytes,
            "shared_memory_offset": offset,
        }
        offset += array.nbytes
    return _post(model, rows, b"")


def _rows(artifact: Artifact, arrays: tuple[np.ndarray, ...]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "shape": array.shape, "datatype": DATATYPES[spec.dtype]}
        for spec, array in zip(artifact.signature.inputs, arrays, strict=True)
    ]


def _post(model: str, rows: list[dict[str, Any]], tail: bytes) -> bytes:
    head = json.dumps({"inputs": rows, "parameters": {"binary_data_output": True}}).encode()
    return (
        (
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\n"
            f"Content-Length: {len(head) + len(tail)}\r\n\r\n"
        ).encode()
        + head
        + tail
    )


def inputs_of(artifact: Artifact, seed: int = 0) -> tuple[np.ndarray, ...]:
    """One sample of random numbers."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.normal(size=(1, *spec.shape[1:])).astype(spec.dtype)
        for spec in artifact.signature.inputs
    )


@dataclass(frozen=True)
class Served:
    """A server that runs: its ports, its sockets and its process."""

    port: int
    grpc_port: int | None
    socket: Path
    admin: Path
    process: subprocess.Popen


@contextmanager
def serving(root: Path, *options: str) -> Iterator[Served]:
    """``edgewise serve`` in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        local, admin = Path(folder, "local.sock"), Path(folder, "admin.sock")
        command = [sys.executable, "-m", "edgewise", "serve", str(root), "--port", "0"]
        command += ["--socket", str(local), "--admin", str(admin), *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            line = process.stderr.readline().decode()
            if not line.startswith("http"):
                raise RuntimeError(line + process.stderr.read().decode())
            port, grpc_port = int(line.rsplit(":", 1)[1]), None
            if "--grpc-port" in options:
                grpc_port = int(process.stderr.readline().decode().rsplit(":", 1)[1])
            for _ in (local, admin):  # which it names, too
                process.stderr.readline()
            yield Served(port, grpc_port, local, admin, process)
        finally:
            process.terminate()
            process.wait(20)

"""A server on loopback in a thread, with a small real model."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgewise.edge.serving.limits import Limits
from edgewise.edge.serving.server import Listen, Server, Settings

from ..tiny import write_onnx


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


@dataclass
class Running:
    """A server that runs, and how to talk to it."""

    server: Server
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=20)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one request in a connection of its own."""
        return talk(self.connect(), method, path, body, **headers)

    def admin(self, path: str, method: str = "POST") -> tuple[int, Any]:
        return talk(UnixConnection(self.folder / "admin.sock"), method, path)


def talk(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    text = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, text, fields)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


@contextmanager
def running(root: Path, folder: Path, limits: Limits | None = None, **options: Any):
    """A server, until the block ends; then that it has ended."""
    up = threading.Event()
    listen = Listen(
        port=0,
        socket=folder / "local.sock",
        admin=folder / "admin.sock",
        **{k: options.pop(k) for k in ("token", "certificate", "key", "grpc_port") if k in options},
    )
    settings = Settings(root, listen, limits or Limits(), threads=1, **options)
    server = Server(settings, started=lambda _: up.set())
    failure: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failure.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(30)
    if failure:
        raise failure[0]
    try:
        yield Running(server, folder)
    finally:
        server.stop()
        thread.join(20)
    assert not thread.is_alive() and not failure


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with the model ``tiny``: y = x @ w."""
    pytest.importorskip("uvloop", reason="the server needs the extra 'serve'")
    pytest.importorskip("onnxruntime", reason="the server's tests run ONNX files")
    folder = tmp_path_factory.mktemp("models")
    write_onnx(folder / "tiny.onnx")
    return folder


@pytest.fixture(scope="session")
def server(models, tmp_path_factory) -> Iterator[Running]:
    """One server for all tests that change nothing."""
    limits = Limits(body_bytes=20_000, head_bytes=4096, samples=8, read_seconds=1)
    with running(models, tmp_path_factory.mktemp("sockets"), limits) as found:
        yield found


@pytest.fixture
def serving(tmp_path) -> Callable[..., Any]:
    """Starts a server of its own: `with serving(root, limits, ...) as running`."""
    return lambda root, limits=None, **options: running(root, tmp_path, limits, **options)

"""A repository with releases of a tiny net, and a web server for it."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgewise.bundling import bundle
from edgewise.edge.artifact import Artifact
from edgewise.edge.bundle import open_bundle
from edgewise.edge.serving.repository import find
from edgewise.edge.updating.publishing import Publisher, create

__all__ = ["DATA", "Shop", "served", "serving"]

DATA = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)


class Shop:
    """A repository under `at`, its root, and how to publish the next version."""

    def __init__(self, at: Path):
        from tests.edge.tiny import write_onnx

        at.mkdir(parents=True, exist_ok=True)
        self.folder, self._keys, self.root = at / "repo", at / "keys", at / "root.json"
        shutil.copyfile(create(self.folder, self._keys), self.root)
        self._source, self._at, self.version = write_onnx(at / "net.onnx"), at, 0

    def publish(self) -> int:
        """Publish the next version, and tell which."""
        self.version += 1
        path = self._at / "next.edge"
        made = bundle(self._source, path, data=DATA, version=self.version, name="tiny", golden=1)
        made.close()
        publisher = Publisher(self.folder, [self._keys])
        with open_bundle(path, allow_unsigned=True) as opened:
            publisher.add(opened, {"*": 10_000})
        publisher.write()
        return self.version


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files; counts requests and the bytes of whole answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *text: object) -> None:
        """Nothing."""

    def log_request(self, *status: object) -> None:
        with self.server.lock:
            self.server.requests += 1


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """The address of a web server of a folder, and the server with its count `requests`."""
    made = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        server.requests, server.lock, server.daemon_threads = 0, threading.Lock(), True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server
        finally:
            server.shutdown()
            thread.join()


def served(home: Path) -> int | None:
    """The version that a server finds in an agent's folder, its hashes checked as it does."""
    if not (home / "models").is_dir() or not any((home / "models").iterdir()):
        return None
    (entry,) = find(home / "models").values()
    Artifact.open(entry.paths[0])
    return int(entry.version)

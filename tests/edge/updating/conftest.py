"""A repository of static files with releases of a tiny net, and devices that look at it."""

from __future__ import annotations

import functools
import http.server
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edgewise.bundling import bundle
from edgewise.edge.artifact import Artifact
from edgewise.edge.bundle import open_bundle

from ..tiny import write_onnx

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("tuf", reason="needs the extra 'agent'")

from edgewise.edge.updating.agent import Agent, Settings, Watch
from edgewise.edge.updating.fetch import Fetcher
from edgewise.edge.updating.publishing import Publisher, create
from edgewise.edge.updating.trial import Refused

DATA = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files, by HTTP/1.1."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *status):
        self.server.asked.append(self.path)

    def log_message(self, *text):
        pass


@contextmanager
def serving(folder, handler=Handler):
    """The address of a web server of a folder, which counts what it was asked in `asked`."""
    made = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        server.asked = []
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Bundles of the model "tiny" by version, 1 to 4; each has other weights' count."""
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for version in range(1, 5):
        source = write_onnx(folder / f"net{version}.onnx", outputs=version)
        path = folder / f"{version}.edge"
        bundle(source, path, data=DATA, version=version, name="tiny", golden=1).close()
        made[version] = path
    return made


@dataclass
class Shop:
    """A repository, its keys, and the bundles to publish."""

    folder: Path
    keys: Path
    root: Path
    bundles: dict[int, Path]

    @classmethod
    def begin(cls, at, bundles, **options):
        root = at / "root.json"
        at.mkdir(exist_ok=True)
        root.write_bytes(create(at / "repo", at / "keys", **options).read_bytes())
        return cls(at / "repo", at / "keys", root, bundles)

    def publisher(self, **options):
        return Publisher(self.folder, [self.keys], **options)

    def publish(self, version, rollout=None):
        publisher = self.publisher()
        with open_bundle(self.bundles[version], allow_unsigned=True) as opened:
            publisher.add(opened, rollout or {"*": 10_000})
        publisher.write()


@dataclass
class Device:
    """An agent's folder, and what it said."""

    settings: Settings
    said: list[str] = field(default_factory=list)

    def agent(self, disk=None, **options):
        options.setdefault("fetcher", Fetcher(patience=5.0))
        options.setdefault("sleep", lambda seconds: None)
        return Agent(self.settings, disk, say=self.said.append, **options)

    def update(self, disk=None, **options):
        """Start, recover, look once."""
        with self.agent(disk, **options) as agent:
            agent.recover()
            return agent.update()

    @property
    def version(self):
        """Of what is served; None where nothing is. What is served must be whole."""
        with self.agent() as agent:
            slot = agent.slots.current("tiny")
            if slot is None:
                return None
            artifact = agent.slots.artifact("tiny", slot)
            assert artifact.run(DATA).shape == (4, int(slot.split("-")[0]))
            return int(slot.split("-")[0])

    @property
    def state(self):
        with self.agent() as agent:
            return agent.slots.state


@pytest.fixture
def no_children(monkeypatch):
    """Unpack and try in this process: children are most of a test's time."""

    def unpacked(bundle, into, *, base, key, secret):
        with open_bundle(bundle, key, allow_unsigned=key is None, secret=secret) as opened:
            return {a.runtime: a.path for a in opened.extract(into, base)}

    def tried(bundle, files, secret):
        (path,) = files.values()
        with open_bundle(bundle, allow_unsigned=True) as opened:
            check = opened.check(Artifact.open(path))
        if not check.passed:
            raise Refused(f"its outputs differ here by {check.max_abs}")
        return path

    monkeypatch.setattr("edgewise.edge.updating.agent.unpack", unpacked)
    monkeypatch.setattr("edgewise.edge.updating.agent.try_out", tried)


@pytest.fixture
def shop(tmp_path, bundles):
    return Shop.begin(tmp_path, bundles)


@pytest.fixture
def server(shop):
    with serving(shop.folder) as server:
        yield server


@pytest.fixture
def device(tmp_path, shop, server):
    return make_device(tmp_path, shop, server)


def make_device(tmp_path, shop, server, **options):
    watch = Watch(**options.pop("watch", {}))
    folder = tmp_path / "device"
    return Device(Settings(address(server), shop.root, folder, watch=watch, **options))

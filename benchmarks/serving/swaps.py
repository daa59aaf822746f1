"""A hundred new versions while requests run: none may fail, none may mix two versions."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from pathlib import Path

from edgewise.edge import runners
from edgewise.edge.artifact import Artifact

from .wire import Client, infer_request, inputs_of, serving

__all__ = ["run"]

CLIENTS = 4


def run(paths: list[Path], swaps: int) -> dict[str, object]:
    """Swap between files of the same signature in turn; each answer must be its version's own."""
    artifacts = [Artifact.open(path) for path in paths]
    arrays = inputs_of(artifacts[0])
    expected = [
        a.run_batch(runners.open_file(a.runtime, a.path, 1), arrays)[0].tobytes() for a in artifacts
    ]
    assert len(set(expected)) == len(paths), "the files give the same: a mix would not show"
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        root = Path(folder)
        _add(root, paths[1], 1)
        request = infer_request("m", artifacts[0], arrays)
        with serving(root, "--threads", "1") as server:
            stop, seen, failed = threading.Event(), [], []

            def load() -> None:
                client = Client(server.socket)
                while not stop.is_set():
                    try:
                        status, head, body = client.send(request)
                    except OSError as error:
                        failed.append(str(error))
                        return
                    if status != 200:
                        failed.append(body[:200].decode())
                        continue
                    size = int(
                        head.lower().split(b"inference-header-content-length: ")[1].split(b"\r")[0]
                    )
                    version = int(json.loads(body[:size])["model_version"])
                    seen.append((version, body[size:] == expected[version % len(paths)]))

            clients = [threading.Thread(target=load) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            admin = Client(server.admin)
            for version in range(2, swaps + 2):
                _add(root, paths[version % len(paths)], version)
                _remove(root, version - 2)
                status, _, body = admin.send(
                    b"POST /v2/repository/models/m/load HTTP/1.1\r\nHost: x\r\n\r\n"
                )
                assert status == 200, body
            stop.set()
            for client in clients:
                client.join()
    mixed = sum(not right for _, right in seen)
    versions = len({version for version, _ in seen})
    return {
        "swaps": swaps,
        "answers": len(seen),
        "versions_seen": versions,
        "failed": len(failed),
        "mixed": mixed,
        "first_failure": failed[:1],
    }


def _add(root: Path, path: Path, version: int) -> None:
    folder = root / "m" / str(version)
    folder.mkdir(parents=True)
    for file in (path, path.with_name(path.name + ".json")):
        shutil.copy(file, folder / file.name)


def _remove(root: Path, version: int) -> None:
    shutil.rmtree(root / "m" / str(version), ignore_errors=True)

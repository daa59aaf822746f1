import json
import shutil
import threading

import numpy as np
import pytest

from edgewise.edge.serving import lane
from edgewise.edge.serving.repository import Trust, find
from edgewise.errors import InputError

from ..tiny import write_onnx
from .conftest import UnixConnection, talk

GOOD = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}


SUMS = np.add.outer(np.arange(4), np.arange(3)).sum(0).astype(float)


@pytest.fixture
def add(tmp_path, models):
    """Adds a version of the model ``m`` to a folder: version v gives v times the sums."""
    from onnx import load, numpy_helper, save

    def make(version: int):
        made = tmp_path / "versions" / "m" / str(version)
        made.mkdir(parents=True)
        net = load(write_onnx(tmp_path / "made.onnx"))
        weight = numpy_helper.to_array(net.graph.initializer[0]) * np.float32(version)
        net.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
        save(net, made / "net.onnx")
        return tmp_path / "versions"

    return make


def test_swaps_under_load_lose_and_mix_nothing(add, serving):
    with serving(add(1)) as running:
        stop, answers, failures = threading.Event(), [], []

        def load(path: str) -> None:
            connection = running.connect()
            while not stop.is_set():
                connection.request("POST", path, json.dumps(GOOD))
                answer = connection.getresponse()
                found = json.loads(answer.read())
                if answer.status != 200:
                    failures.append(found)
                    return
                answers.append((int(found["model_version"]), found["outputs"][0]["data"]))

        clients = [threading.Thread(target=load, args=("/v2/models/m/infer",)) for _ in range(2)]
        for client in clients:
            client.start()
        for version in range(2, 8):
            add(version)
            assert running.admin("/v2/repository/models/m/load") == (
                200, {"name": "m", "version": str(version)}
            )  # fmt: skip
        assert running.ask("POST", "/v2/models/m/infer", GOOD)[1]["model_version"] == "7"
        stop.set()
        for client in clients:
            client.join(20)
    assert not failures
    for version, sums in answers:
        np.testing.assert_allclose(sums, version * SUMS)


@pytest.mark.parametrize("inline", [0.0, 1.0])
def test_a_request_or_stream_that_was_coming_meets_the_new_version(
    add, serving, monkeypatch, inline
):
    monkeypatch.setattr(lane, "INLINE_SECONDS", inline)
    body = json.dumps(GOOD).encode()
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    stream = b"POST /v2/models/m/stream?hop=4 HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n"
    window = np.ones(4, "<f4").tobytes()
    with serving(add(1)) as running, running.raw() as slow, running.raw() as endless:
        slow.sendall(head % len(body) + body[:20])
        endless.sendall(stream + window)
        while b'"at":4' not in endless.recv(65536):
            pass
        add(2)
        assert running.admin("/v2/repository/models/m/load")[0] == 200
        slow.sendall(body[20:])
        assert b'"model_version":"2"' in slow.recv(65536)
        endless.sendall(window)
        found = b""
        while b'"frames":8' not in found:
            found += endless.recv(65536)
        assert json.dumps((2 * SUMS).tolist()).replace(" ", "").encode() in found


def test_a_version_that_cannot_be_served_changes_nothing(add, serving):
    root = add(1)
    with serving(root) as running:
        broken = add(2) / "m" / "2" / "net.onnx"
        broken.write_bytes(broken.read_bytes()[:-40])
        status, found = running.admin("/v2/repository/models/m/load")
        assert status == 400 and "net.onnx" in found["error"]
        assert running.ask("POST", "/v2/models/m/infer", GOOD)[1]["model_version"] == "1"


def test_an_empty_folder_waits_for_its_first_model(add, serving, tmp_path):
    root = add(1)
    shutil.move(root / "m", tmp_path / "later")
    with serving(root) as running:
        assert running.ask("GET", "/v2/health/live")[0] == 200
        assert running.ask("GET", "/v2/health/ready")[0] == 503
        shutil.move(tmp_path / "later", root / "m")
        assert running.admin("/v2/repository/models/m/load")[0] == 200
        assert running.ask("GET", "/v2/health/ready")[0] == 200
        assert running.ask("POST", "/v2/models/m/infer", GOOD)[1]["model_version"] == "1"


def test_models_come_and_go(add, serving):
    root = add(1)
    with serving(root) as running:
        assert running.admin("/v2/repository/models/m/unload") == (200, {})
        assert running.ask("POST", "/v2/models/m/infer", GOOD)[0] == 404
        assert running.admin("/v2/repository/index") == (200, [])
        assert running.admin("/v2/repository/models/m/unload")[0] == 404
        assert running.admin("/v2/repository/models/m/load")[0] == 200
        assert running.admin("/v2/repository/models/none/load")[0] == 404
        assert running.admin("/v2/repository/index", "GET")[0] == 405
        assert running.admin("/v2/repository/strange")[0] == 404
        index = [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
        assert running.admin("/v2/repository/index") == (200, index)
        assert running.admin("/v2/models/m", "GET")[1]["versions"] == ["1"]
        # The socket of this device's programs is not the one for administration.
        local = UnixConnection(running.folder / "local.sock")
        assert talk(local, "POST", "/v2/repository/index")[0] == 404


def test_what_is_found(tmp_path, models):
    tiny = models / "tiny.onnx"
    with find(tiny)["tiny"].opened(Trust()) as (version, _):
        assert len(version) == 12  # the beginning of its sha256
    root = tmp_path / "root"
    for version in (2, 10, 9):
        (root / "m" / str(version)).mkdir(parents=True)
        shutil.copy(tiny, root / "m" / str(version) / "net.onnx")
    shutil.copy(tiny, root / "other.onnx")
    (root / "notes.txt").write_text("not a model")
    (root / "empty").mkdir()
    found = find(root)
    assert {name: entry.version for name, entry in found.items()} == {"m": "10", "other": None}


def test_what_cannot_be_served_is_said(tmp_path, models):
    tiny = models / "tiny.onnx"
    with pytest.raises(InputError, match="does not exist"):
        find(tmp_path / "missing")
    with pytest.raises(InputError, match="nothing to serve"):
        find(tmp_path)
    shutil.copy(tiny, tmp_path / "a b.onnx")
    with pytest.raises(InputError, match="cannot be a model's name"):
        find(tmp_path)
    (tmp_path / "a b.onnx").rename(tmp_path / "a.onnx")
    (tmp_path / "a" / "1").mkdir(parents=True)
    with pytest.raises(InputError, match="has no file to serve"):
        find(tmp_path)
    shutil.copy(tiny, tmp_path / "a" / "1" / "a.onnx")
    with pytest.raises(InputError, match="two models of the name"):
        find(tmp_path)
    write_onnx(tmp_path / "a" / "1" / "wide.onnx", inputs=5)
    (tmp_path / "a.onnx").unlink()
    with pytest.raises(InputError, match="take or give different"):
        find(tmp_path)["a"].opened(Trust()).__enter__()

import json

import numpy as np
import pytest

from .conftest import UnixConnection, talk

http = pytest.importorskip("tritonclient.http", reason="tritonclient is the referee")
from tritonclient.utils import InferenceServerException  # noqa: E402

W = np.add.outer(np.arange(4), np.arange(3)).astype(np.float32)


@pytest.fixture
def client(server):
    with http.InferenceServerClient(server.address, concurrency=4) as found:
        yield found


def given(array, *, binary=True):
    tensor = http.InferInput("x", array.shape, "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_the_client_gets_what_the_model_gives(client, n, binary):
    x = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
    asked = [http.InferRequestedOutput("y", binary_data=binary)]
    found = client.infer("tiny", given(x, binary=binary), outputs=asked, request_id="a")
    np.testing.assert_allclose(found.as_numpy("y"), x @ W, rtol=1e-5, atol=1e-5)
    assert found.get_response()["id"] == "a"
    np.testing.assert_array_equal(client.infer("tiny", given(x)).as_numpy("y").shape, (n, 3))


@pytest.mark.parametrize("length", range(8))
def test_bytes_may_begin_anywhere_in_the_body(client, length, monkeypatch):
    # What a runtime reads in place must begin at a multiple of its size: the head's is any.
    from edgewise.edge.runners import onnxruntime

    aligned = []
    run = onnxruntime.Runner.run
    monkeypatch.setattr(
        onnxruntime.Runner,
        "run",
        lambda self, *inputs: [aligned.append(inputs[0].flags.aligned), run(self, *inputs)][1],
    )
    x = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    found = client.infer("tiny", given(x), request_id="i" * length)
    np.testing.assert_allclose(found.as_numpy("y"), x @ W, rtol=1e-5, atol=1e-5)
    assert aligned == [True]


def test_the_client_sees_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert not client.is_model_ready("other")
    about = client.get_model_metadata("tiny")
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert about["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert about["platform"] == "edgewise_onnxruntime"
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    x = np.ones((1, 4), np.float32)
    named = client.infer("tiny", given(x), model_version=about["versions"][0])
    assert named.get_response()["model_version"] == about["versions"][0]


def test_the_client_is_told_what_is_wrong(client):
    x = np.ones((1, 4), np.float32)
    for name, version in (("other", ""), ("tiny", "7"), ("a/b%2F", "")):
        with pytest.raises(InferenceServerException, match=r"no model|served in version|nothing"):
            client.infer(name, given(x), model_version=version)
    with pytest.raises(InferenceServerException, match="takes shape"):
        client.infer("tiny", given(np.ones((1, 5), np.float32)))
    with pytest.raises(InferenceServerException, match="at most 8"):
        client.infer("tiny", given(np.ones((9, 4), np.float32)))
    with pytest.raises(InferenceServerException, match="compressed"):
        client.infer("tiny", given(x), request_compression_algorithm="gzip")


def test_many_requests_at_a_time(client):
    x = [np.full((1, 4), i, np.float32) for i in range(40)]
    for at in range(0, 40, 10):
        asked = [client.async_infer("tiny", given(a)) for a in x[at : at + 10]]
        for a, one in zip(x[at : at + 10], asked, strict=True):
            np.testing.assert_allclose(one.get_result().as_numpy("y"), a @ W)


def test_the_unix_socket_speaks_the_same(server):
    path = server.folder / "local.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    data = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
    status, found = talk(UnixConnection(path), "POST", "/v2/models/tiny/infer", data)
    assert status == 200
    assert found["outputs"][0]["data"] == W.sum(0).tolist()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/tiny/versions/none", 404),
        ("GET", "/v2/models/tiny/infer", 405),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2/models/tiny/strange/1/infer", 404),
        ("POST", "/v2/repository/index", 404),  # not here: on the socket for administration
        ("POST", "/v2/repository/models/tiny/unload", 404),
        ("GET", "/v2/models/%00%ff", 404),
        ("OPTIONS", "/v2", 405),
    ],
)
def test_other_addresses_and_methods(server, method, path, status):
    assert server.ask(method, path)[0] == status


def test_metrics_are_what_prometheus_reads(server, client):
    parser = pytest.importorskip("prometheus_client.parser", reason="Prometheus' own reader")
    client.infer("tiny", given(np.ones((2, 4), np.float32)))
    connection = server.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    families = {f.name: f for f in parser.text_string_to_metric_families(text)}
    rows = {tuple(s.labels.items()): s.value for s in families["edgewise_requests"].samples}
    assert rows[("model", "tiny"), ("status", "200")] >= 1
    buckets = [s for s in families["edgewise_request_seconds"].samples if "le" in s.labels]
    assert buckets[-1].labels["le"] == "+Inf" and buckets[-1].value >= 1
    assert [b.value for b in buckets] == sorted(b.value for b in buckets)
    assert families["edgewise_model_info"].samples[0].labels["version"]


def test_json_answers_are_json(server):
    connection = server.connect()
    connection.request("GET", "/v2/models/none")
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "application/json"
    assert json.loads(answer.read())["error"].startswith("there is no model 'none'")

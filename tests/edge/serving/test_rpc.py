import numpy as np
import pytest

from edgewise.edge.serving.limits import Limits

grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is the referee")
from tritonclient.grpc import service_pb2  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

from edgewise.edge.serving import messages  # noqa: E402

W = np.add.outer(np.arange(4), np.arange(3)).astype(np.float32)


@pytest.fixture(scope="module")
def client(models, tmp_path_factory):
    from .conftest import running

    folder = tmp_path_factory.mktemp("rpc")
    with (
        running(models, folder, Limits(samples=8, body_bytes=20_000), grpc_port=0) as found,
        grpc.InferenceServerClient(f"127.0.0.1:{found.server.grpc_port}") as client,
    ):
        yield client


def given(array):
    tensor = grpc.InferInput("x", array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return [tensor]


@pytest.mark.parametrize("name", messages.MESSAGES)
def test_the_messages_are_those_of_the_protocol(name):
    def fields(descriptor):
        return {(f.name, f.number, f.type, f.is_repeated) for f in descriptor.fields}

    theirs = service_pb2.DESCRIPTOR.pool.FindMessageTypeByName(f"inference.{name}")
    extra = {"double_param", "uint64_param"}  # Triton's own, newer than the protocol
    assert fields(messages.message(name).DESCRIPTOR) == {
        f for f in fields(theirs) if f[0] not in extra
    }


@pytest.mark.parametrize("n", [1, 8])
def test_the_client_gets_what_the_model_gives(client, n):
    x = np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32)
    found = client.infer("tiny", given(x), request_id="a")
    np.testing.assert_allclose(found.as_numpy("y"), x @ W, rtol=1e-5, atol=1e-5)
    assert found.get_response().id == "a"


def test_the_client_sees_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert not client.is_model_ready("other")
    about = client.get_model_metadata("tiny")
    assert [(t.name, t.datatype, list(t.shape)) for t in about.inputs] == [("x", "FP32", [-1, 4])]
    assert client.get_server_metadata().name == "edgewise"


def test_numbers_may_come_one_by_one(client):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    request = service_pb2.ModelInferRequest(model_name="tiny", inputs=[tensor])
    request.inputs[0].contents.fp32_contents.extend([1, 1, 1, 1])
    answer = client._client_stub.ModelInfer(request)
    np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[0], "<f4"), W.sum(0))


@pytest.mark.parametrize(
    ("model", "array", "code", "says"),
    [
        ("other", np.zeros((1, 4), np.float32), "NOT_FOUND", "no model"),
        ("tiny", np.zeros((1, 5), np.float32), "INVALID_ARGUMENT", "takes shape"),
        ("tiny", np.zeros((9, 4), np.float32), "INVALID_ARGUMENT", "at most 8"),
        ("tiny", np.zeros((5000, 4), np.float32), "RESOURCE_EXHAUSTED", "larger than max"),
    ],
)
def test_the_client_is_told_what_is_wrong(client, model, array, code, says):
    with pytest.raises(InferenceServerException, match=says) as caught:
        client.infer(model, given(array))
    assert code in caught.value.status()


def test_raw_contents_must_match_the_inputs(client):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    for raw in ([b"", b""], [b"123"]):
        request = service_pb2.ModelInferRequest(
            model_name="tiny", inputs=[tensor], raw_input_contents=raw
        )
        with pytest.raises(Exception, match=r"raw contents|takes 16 bytes"):
            client._client_stub.ModelInfer(request)

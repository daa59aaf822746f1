"""Requests answered in a second, beside MLServer and LitServe with the same file.

All servers run from the start; short blocks of load alternate between them in an order drawn anew
for each round, and ratios are taken within a round. Each is set the way that is fastest for it:
ours takes bytes over HTTP, MLServer raw contents over gRPC or base64 over HTTP, LitServe base64
over HTTP. Every runtime has one thread, every server `workers` of them.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from edgewise.edge.artifact import Artifact

from .load import as_fast_as_it_answers
from .wire import infer_request, inputs_of, serving

__all__ = ["run"]

CONNECTIONS, BLOCK_SECONDS, START_SECONDS = 8, 1.0, 60.0
ROOT = Path(__file__).resolve().parents[2]


def run(path: Path, peers: Path | None, rounds: int, workers: int) -> dict[str, object]:
    """Medians of requests a second, and how many times as many as each peer ours answers."""
    artifact = Artifact.open(path)
    arrays = inputs_of(artifact)
    arms: dict[str, Callable[[], float]] = {}
    with ExitStack() as stack:
        options = ("--threads", "1", "--instances", str(workers), "--grpc-port", "0")
        ours = stack.enter_context(serving(path, *options))
        request = infer_request(path.stem, artifact, arrays)
        arms["edgewise http"] = lambda: _http(ours.port, request)
        arms["edgewise unix"] = lambda: _http(ours.socket, request)
        if peers is not None:
            ports = [_free_port() for _ in range(3)]
            stack.enter_context(
                _peer(peers, "mlserver_runtime", path, *ports[:2], workers, wait=ports[0])
            )
            stack.enter_context(
                _peer(peers, "litserve_api", path, ports[2], workers, wait=ports[2])
            )
            text = base64.b64encode(arrays[0].tobytes()).decode()
            tensor = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [text]}
            tensor["parameters"] = {"content_type": "base64"}
            asks = {
                "mlserver http": (ports[0], "/v2/models/m/infer", {"inputs": [tensor]}),
                "litserve http": (ports[2], "/predict", {"x": text}),
            }
            for name, (port, address, body) in asks.items():
                whole = _post(address, json.dumps(body).encode())
                arms[name] = lambda port=port, whole=whole: _http(port, whole)
            arms["mlserver grpc"] = _grpc(f"127.0.0.1:{ports[1]}", "m", artifact, arrays)
        arms["edgewise grpc"] = _grpc(f"127.0.0.1:{ours.grpc_port}", path.stem, artifact, arrays)
        for arm in arms.values():  # warm up
            arm()
        found = {name: [] for name in arms}
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for name in rng.permutation(list(arms)):
                found[name].append(arms[name]())
    rates = {name: np.array(row) for name, row in found.items()}
    return {
        "file": str(path),
        "workers": workers,
        "rounds": rounds,
        "per_s": {name: round(float(np.median(row)), 1) for name, row in rates.items()},
        "edgewise_http_by": {
            name: round(float(np.median(rates["edgewise http"] / row)), 2)
            for name, row in rates.items()
            if not name.startswith("edgewise")
        },
    }


def _http(address: int | Path, request: bytes) -> float:
    answers = as_fast_as_it_answers(
        address, request, seconds=BLOCK_SECONDS, connections=CONNECTIONS
    )
    assert answers.good.all(), set(answers.status)
    return len(answers.ms) / answers.seconds


def _grpc(
    address: str, model: str, artifact: Artifact, arrays: tuple[np.ndarray, ...]
) -> Callable[[], float]:
    """As many requests at a time over gRPC, by the plain stub on a message made beforehand."""
    import tritonclient.grpc as client
    from tritonclient.grpc import service_pb2

    connected = client.InferenceServerClient(address)  # its channel closes when it goes
    tensor = {"name": artifact.signature.inputs[0].name, "datatype": "FP32"}
    request = service_pb2.ModelInferRequest(
        model_name=model,
        inputs=[{**tensor, "shape": arrays[0].shape}],
        raw_input_contents=[arrays[0].tobytes()],
    )

    def block() -> float:
        stub, begin, done = connected._client_stub, time.perf_counter(), 0
        waiting = [stub.ModelInfer.future(request) for _ in range(CONNECTIONS)]
        while time.perf_counter() - begin < BLOCK_SECONDS:
            waiting.pop(0).result(timeout=30)
            waiting.append(stub.ModelInfer.future(request))
            done += 1
        for one in waiting:
            one.result(timeout=30)
        return (done + len(waiting)) / (time.perf_counter() - begin)

    return block


@contextmanager
def _peer(python: Path, module: str, path: Path, *arguments: int, wait: int) -> Iterator[None]:
    command = [str(python), "-m", f"benchmarks.peers.{module}", str(path.resolve())]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", wait), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{module} did not start") from None
                time.sleep(0.2)
        time.sleep(2)  # its workers come after its socket
        yield
    finally:
        process.terminate()
        process.wait(20)


def _post(address: str, body: bytes) -> bytes:
    return (
        f"POST {address} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

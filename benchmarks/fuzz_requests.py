"""Requests that are wrong in every way that chance finds, sent to a server on this machine.

Each begins as a right one; its bytes, its header fields or its JSON are then changed, or it is cut
off, sent in pieces or followed by another. Whatever comes back must be an answer of the protocol
and never 500, and right requests in between must get the right answer. Bounded in number, in time,
and to 127.0.0.1.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .serving.pressure import memory_bytes
from .serving.wire import serving

__all__ = ["attack", "run"]

PATIENCE = 0.03  # seconds to wait for an answer that may never come
THREADS = 8
GROWTH_BYTES = 4_000_000
ALLOWED = {100, 200, 400, 401, 404, 405, 408, 413, 415, 429, 431, 503}
VALUES = (0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, "", "x", None, True, [], [[]], {}, "\ud800")
TOKENS = (b"\r\n", b"\0", b"%00", b"..", b"{", b"[", b'"', b"9" * 30, b"\xff", b"HTTP/1.1", b":")
STREAMS = (b"stream?hop=1", b"stream?hop=3&threshold=1&rate=9", b"stream?hop=x", b"stream")
FIELDS = (
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Inference-Header-Content-Length: 0",
    b"Inference-Header-Content-Length: 18446744073709551616",
    b"Inference-Header-Content-Length: -5",
    b"Expect: 100-continue",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Connection: close",
    b"Content-Encoding: gzip",
    b"X: " + b"a" * 9000,
)


def attack(port: int, model: str, inputs: list[dict], count: int, seed: int) -> Counter[str]:
    """Send `count` requests; how often each status came back, and ``"none"`` where none did.

    Args:
        port: of HTTP on 127.0.0.1.
        model: to ask for.
        inputs: of a right request, as its JSON has them.

    Raises:
        AssertionError: an answer that must not be.
    """
    rng, found = random.Random(seed), Counter()
    for _ in range(count):
        status = _send(port, _pieces(rng, _request(rng, model, inputs)))
        assert status is None or status in ALLOWED, status
        found[str(status or "none")] += 1
    return found


def run(count: int, seed: int) -> dict[str, object]:
    """The attack on a server of its own, with what it held before and after."""
    from tests.edge.tiny import write_onnx

    totals, failures, lock = Counter(), [], threading.Lock()
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        file = write_onnx(Path(folder, "tiny.onnx"))
        options = ("--threads", "1", "--max-bytes", "65536", "--max-samples", "8")
        with serving(file, *options) as server:
            said: list[bytes] = []
            listener = threading.Thread(
                target=lambda: said.extend(server.process.stderr), daemon=True
            )
            listener.start()
            inputs = [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1.0] * 8}]
            right = _whole("tiny", {"inputs": inputs})

            def work(number: int, share: int, into: Callable[[Counter], None]) -> None:
                try:
                    for part in range(0, share, 500):
                        size = min(500, share - part)
                        own = seed * 1_000_003 + number * 10_007 + part
                        found = attack(server.port, "tiny", inputs, size, own)
                        status, said = _answer(server.port, [right], patience=20)
                        assert status == 200, f"a right request got {said[:200]!r}"
                        with lock:
                            into(found)
                except Exception as error:
                    failures.append(repr(error))

            def phase(share: int, first: int) -> None:
                threads = [
                    threading.Thread(target=work, args=(first + i, share, totals.update))
                    for i in range(THREADS)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            begin = time.perf_counter()
            phase(max(1, count // 10 // THREADS), 0)
            before = memory_bytes(server.process.pid)
            phase(max(1, (count - count // 10) // THREADS), THREADS)
            after = memory_bytes(server.process.pid)
            alive = server.process.poll() is None
            server.process.terminate()
            listener.join(20)
    if said:
        failures.append(f"the server said: {b''.join(said)[-800:].decode()}")
    if not alive:
        failures.append("the server is gone")
    if after - before > GROWTH_BYTES:
        failures.append(f"memory grew by {(after - before) / 1e6:.1f} MB")
    return {
        "requests": sum(totals.values()),
        "seconds": round(time.perf_counter() - begin, 1),
        "failures": failures[:3],
        "answers": dict(sorted(totals.items())),
        "memory_after_tenth_mb": round(before / 1e6, 1),
        "memory_at_end_mb": round(after / 1e6, 1),
    }


def _request(rng: random.Random, model: str, inputs: list[dict]) -> bytes:
    value = {"inputs": [dict(tensor) for tensor in inputs], "id": "1"}
    kind = rng.randrange(6)
    if kind < 2:
        _change(rng, value)
    whole = _binary(rng, model, value) if kind == 5 else _whole(model, value)
    if kind == 4:
        whole = whole.replace(b"infer", rng.choice(STREAMS), 1)
    elif kind == 2:
        head, _, body = whole.partition(b"\r\n")
        whole = head + b"\r\n" + rng.choice(FIELDS) + b"\r\n" + body
    elif kind == 3:
        whole = whole.replace(
            rng.choice((b"POST", b"infer", b"HTTP/1.1", b"v2", b"/")), rng.choice(TOKENS), 1
        )
    for _ in range(rng.choice((0, 0, 1, 1, 4, 30))):
        whole = _mutate(rng, whole)
    return whole


def _binary(rng: random.Random, model: str, value: dict) -> bytes:
    """The same with the first input's numbers as bytes, and lengths that are mostly right."""
    numbers = struct.pack(f"<{len(value['inputs'][0]['data'])}f", *value["inputs"][0].pop("data"))
    wrong = rng.choice((0, 0, 0, 1, -1, 10**6))
    value["inputs"][0]["parameters"] = {"binary_data_size": len(numbers) + wrong}
    head = json.dumps(value).encode()
    fields = f"Inference-Header-Content-Length: {len(head) + rng.choice((0, 0, 0, 1, -3))}\r\n"
    return _whole(model, head + numbers).replace(b"Host", fields.encode() + b"Host", 1)


def _whole(model: str, value: object) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _change(rng: random.Random, value: dict) -> None:
    """Put something else somewhere in the JSON."""
    places = [(value, "inputs"), (value, "id"), (value, "parameters"), (value, "outputs")]
    for tensor in value["inputs"]:
        places += [(tensor, key) for key in ("name", "shape", "datatype", "data", "parameters")]
    where, key = rng.choice(places)
    new = rng.choice(VALUES)
    if rng.random() < 0.4:
        new = [rng.choice(VALUES) for _ in range(rng.randrange(5))]
    elif rng.random() < 0.3:
        new = {"binary_data_size": rng.choice(VALUES), "binary_data_output": rng.choice(VALUES)}
    elif rng.random() < 0.1:
        for _ in range(rng.choice((10, 200, 5000))):
            new = [new]
    if isinstance(new, list) and rng.random() < 0.1:
        new = new * 2000
    where[key] = new if json_able(new) else None


def json_able(value: object) -> bool:
    """Whether it can be written; nesting beyond what Python's writer takes cannot."""
    try:
        json.dumps(value)
    except RecursionError:
        return False
    return True


def _mutate(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    match rng.randrange(5):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + rng.randrange(1, 20) :]
        case 2:
            return data[:at] + rng.choice(TOKENS) + data[at:]
        case 3:
            return data[:at] + rng.randbytes(rng.choice((1, 8, 300))) + data[at:]
    return data[:at] or b"\r\n"


def _pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """As it is sent: whole, in two, or with another behind it."""
    choice = rng.random()
    if choice < 0.1 and len(data) > 1:
        at = rng.randrange(1, len(data))
        return [data[:at], data[at:]]
    return [data + data] if choice < 0.15 else [data]


def _send(port: int, pieces: list[bytes]) -> int | None:
    return _answer(port, pieces)[0]


def _answer(port: int, pieces: list[bytes], patience: float = PATIENCE) -> tuple[int | None, bytes]:
    """The first answer's status and what came with it; None where none came in time."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.settimeout(patience)
            while b"\r\n" not in data:
                part = connection.recv(65536)
                if not part:
                    break
                data += part
        except (TimeoutError, ConnectionError):
            pass
    if not data:
        return None, data
    assert data.startswith(b"HTTP/1.1 "), data[:80]
    return int(data[9:12]), data

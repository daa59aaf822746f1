import json
import socket
import threading
import time

import numpy as np
import pytest

from edgewise.edge.serving.limits import Limits

HEAD = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\n"
GOOD = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()


def everything(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


def status(found: bytes) -> int:
    return int(found.split(b" ", 2)[1])


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server):
    with server.raw() as connection:
        connection.sendall(HEAD + b"Content-Length: 999999999999\r\n\r\n")
        assert status(connection.recv(65536)) == 413


def test_a_client_that_sends_too_much_anyway_learns_why_and_may_go_on(server):
    with server.raw() as connection:
        connection.sendall(HEAD + b"Content-Length: 30000\r\n\r\n" + b"a" * 30000)
        assert status(connection.recv(65536)) == 413
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
        assert status(connection.recv(65536)) == 200


def test_a_body_in_chunks_is_counted(server):
    with server.raw() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"2000\r\n" + b"a" * 0x2000 + b"\r\n")
        assert status(everything(connection)) == 413
    with server.raw() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD))
        assert status(connection.recv(65536)) == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 5000,  # and it never ends
        b"GET /" + b"a" * 5000,
    ],
)
def test_a_head_over_the_limit_is_refused(server, head):
    with server.raw() as connection:
        connection.sendall(head)
        assert status(everything(connection)) == 431


def test_clients_that_do_not_go_on_are_let_go(server):
    starts = (b"", b"GET / HT", HEAD + b"Content-Length: 10\r\n\r\nabc")
    slow = [server.raw() for _ in starts]
    for connection, start in zip(slow, starts, strict=True):
        connection.sendall(start)
    for connection in slow:
        with connection:
            assert everything(connection)[:13] in (b"", b"HTTP/1.1 408 ")


def test_what_is_no_http_is_refused(server):
    with server.raw() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert status(everything(connection)) == 400


def test_many_requests_in_one_connection_are_answered_in_turn_up_to_a_bound(server):
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.raw() as connection:
        connection.sendall(get * 3 + get.replace(b"Host", b"Connection: close\r\nHost"))
        assert everything(connection).count(b"HTTP/1.1 200") == 4
    with server.raw() as connection:
        connection.sendall(get * 2000)
        assert everything(connection).count(b"HTTP/1.1 200") <= 2000
    assert server.ask("GET", "/v2/health/live")[0] == 200


def test_connections_over_the_limit_are_refused(models, serving):
    with serving(models, Limits(connections=3)) as running:
        held = [running.raw() for _ in range(3)]
        deadline = time.monotonic() + 10
        while running.ask("GET", "/v2/health/live")[0] != 503:
            assert time.monotonic() < deadline
        for connection in held:
            connection.close()
        while running.ask("GET", "/v2/health/live")[0] != 200:
            assert time.monotonic() < deadline


def test_one_request_too_many_is_refused_at_once_and_the_others_are_answered(
    models, serving, monkeypatch
):
    # A model that takes as long as the test wants, in threads of its own.
    from edgewise.edge.serving import lane

    gate, entered = threading.Event(), threading.Event()

    class Slow(lane.Instance):
        def run(self, plan, arrays):
            entered.set()
            assert gate.wait(20)
            return super().run(plan, arrays)

    monkeypatch.setattr(lane, "Instance", Slow)
    monkeypatch.setattr(lane, "INLINE_SECONDS", 0.0)
    with serving(models, Limits(waiting=2)) as running:
        answers: list[int] = []

        def ask() -> None:
            answers.append(running.ask("POST", "/v2/models/tiny/infer", GOOD)[0])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        threads[0].start()
        assert entered.wait(20)
        for thread in threads[1:]:
            thread.start()
        while 'edgewise_waiting{model="tiny"} 2' not in metrics(running):
            time.sleep(0.01)
        code, found = running.ask("POST", "/v2/models/tiny/infer", GOOD)
        assert code == 429 and "2 requests wait" in found["error"]
        assert running.ask("GET", "/v2/health/live")[0] == 200
        gate.set()
        for thread in threads:
            thread.join(20)
        assert answers == [200] * 3


def metrics(running) -> str:
    connection = running.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_a_request_that_waits_too_long_is_given_up(models, serving, monkeypatch):
    from edgewise.edge.serving import lane

    class Slow(lane.Instance):
        def run(self, plan, arrays):
            time.sleep(1.5)
            return super().run(plan, arrays)

    monkeypatch.setattr(lane, "Instance", Slow)
    monkeypatch.setattr(lane, "INLINE_SECONDS", 0.0)
    with serving(models, Limits(run_seconds=0.2)) as running:
        answers: list[int] = []

        def ask() -> None:
            answers.append(running.ask("POST", "/v2/models/tiny/infer", GOOD)[0])

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(answers) == [200, 504]


def test_a_runtime_that_fails_is_an_answer(models, serving, monkeypatch):
    from edgewise.edge.serving import lane
    from edgewise.errors import RuntimeFailure

    class Broken(lane.Instance):
        def run(self, plan, arrays):
            raise RuntimeFailure("the runtime failed")

    monkeypatch.setattr(lane, "Instance", Broken)
    for inline in (0.0, 1.0):
        monkeypatch.setattr(lane, "INLINE_SECONDS", inline)
        with serving(models) as running:
            code, found = running.ask("POST", "/v2/models/tiny/infer", GOOD)
            assert code == 500 and "the runtime failed" in found["error"]
            assert running.ask("GET", "/v2/health/live")[0] == 200


def test_inputs_are_not_in_what_a_failing_server_says(models, serving, monkeypatch, capfd):
    from edgewise.edge.serving import lane

    class Broken(lane.Instance):
        def run(self, plan, arrays):
            raise ValueError(f"cannot run {np.array(arrays)}")

    monkeypatch.setattr(lane, "Instance", Broken)
    secret = GOOD.replace(b"[1, 2, 3, 4]", b"[1, 2, 3, 77123]")
    for inline in (0.0, 1.0):
        monkeypatch.setattr(lane, "INLINE_SECONDS", inline)
        with serving(models) as running:
            code, found = running.ask("POST", "/v2/models/tiny/infer", secret)
            assert code == 500 and "77123" not in json.dumps(found)
        said = capfd.readouterr()
        assert "77123" not in said.out + said.err

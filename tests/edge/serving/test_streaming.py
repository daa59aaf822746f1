import json
import time

import numpy as np
import pytest

W = np.add.outer(np.arange(4), np.arange(3)).astype(np.float32)
HEAD = b"POST /v2/models/tiny/stream?%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def lines(data: bytes) -> list[dict]:
    """The lines of JSON in an answer that came in chunks."""
    text = data.partition(b"\r\n\r\n")[2]
    found = b""
    while text and (size := int(text.split(b"\r\n")[0], 16)):
        start = text.index(b"\r\n") + 2
        found += text[start : start + size]
        text = text[start + size + 2 :]
    return [json.loads(line) for line in found.splitlines()]


def test_a_signal_is_answered_while_it_still_comes(server):
    signal = np.arange(11, dtype="<f4")
    raw = signal.tobytes()
    with server.raw() as connection:
        connection.sendall(HEAD % b"hop=3&threshold=100&release=50&rate=1000")
        data = b""
        for at in range(0, len(raw), 5):  # never a whole frame at a time
            connection.sendall(chunk(raw[at : at + 5]))
            if at == 25:  # the first window is complete: its answer comes now
                while b'"at":4' not in data:
                    data += connection.recv(65536)
        connection.sendall(b"0\r\n\r\n")
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += connection.recv(65536)
    *found, last = lines(data)
    assert [row["at"] for row in found] == [4, 7, 10]
    for row in found:
        sums = signal[row["at"] - 4 : row["at"]] @ W
        np.testing.assert_allclose(row["scores"], sums, rtol=1e-5)
        assert row["active"] == [i for i in range(3) if sums[i] >= 100]
    assert last["frames"] == 11 and last["windows"] == 3 and last["skipped"] == 0
    assert last["real_time_factor"] > 0


def test_more_than_a_body_may_have_goes_through_a_stream(server):
    signal = np.ones(40_000, "<f4")  # 160 kB where 20 kB are taken otherwise
    with server.raw() as connection:
        connection.sendall(HEAD % b"hop=1000")
        for part in np.split(signal, 10):
            connection.sendall(chunk(part.tobytes()))
        connection.sendall(b"0\r\n\r\n")
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += connection.recv(65536)
    *found, last = lines(data)
    assert len(found) == last["windows"] == 40 and last["frames"] == 40_000


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "hop"),
        ("hop=0", "at least 1"),
        ("hop=x", "hop"),
        ("hop=1&other=2", "other"),
        ("hop=1&axis=3", "no axis 3"),
        ("hop=1&release=0.5", "release"),
        ("hop=1&hop=2&" + "a=1&" * 50, "more than"),
    ],
)
def test_a_query_that_does_not_fit_is_refused(server, query, says):
    status, found = server.ask("POST", f"/v2/models/tiny/stream?{query}", b"")
    assert status == 400 and says in found["error"]


def test_a_stream_that_falls_silent_is_ended(server):
    with server.raw() as connection:
        connection.sendall(HEAD % b"hop=1" + chunk(b"\0" * 16))
        begin = time.monotonic()
        while connection.recv(65536):
            assert time.monotonic() - begin < 15
    assert server.ask("GET", "/v2/models/none/stream")[0] == 405
    assert server.ask("POST", "/v2/models/none/stream?hop=1")[0] == 404

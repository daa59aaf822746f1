"""One HTTP connection: uvicorn's, with bounds on what a client may send and how slowly.

uvicorn hands the whole of HTTP to httptools (llhttp) and sets no bound of its own on the request
head, the body, or the time that either takes. Everything here counts; nothing parses.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .limits import Limits, Refused

__all__ = ["Connection", "Intake", "json_answer"]

BODIES = 8  # bodies of full size that all requests together may hold
STREAM = b"/stream"
PIPELINED = 16  # requests that a client may send before it has taken the first one's answer

logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class Intake:
    """What all connections share: the limits, and the bytes of bodies that they hold."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.held = 0

    def room(self, size: int) -> bool:
        """Whether a body of this many bytes still fits."""
        return self.held + size <= BODIES * self.limits.body_bytes


class Outlet:
    """A transport that drops what is written after its client has gone, as asyncio's does.

    uvloop's raises, though the news of the loss may be still on its way to the application.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Any):
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send bytes, if there is somebody."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """A client's connection, counted and timed.

    Attributes:
        since: when the request began that is being received or answered; None between requests.
    """

    def __init__(self, config: Config, state: ServerState, intake: Intake, loop: Any):
        super().__init__(config, state, {}, loop)
        self.intake, self._application = intake, self.app
        self.since: float | None = loop.time()
        self._in_head, self._arrived, self._refused = True, False, False
        self._head, self._body = 0, 0
        self._parts: list[bytes] = []
        self._streams = False  # a body without end, handed on as it comes
        self._held, self._held_now = 0, 0  # by all requests here, and by the one being received
        self._unsent: tuple[int, float] | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(Outlet(transport))

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        super().data_received(data)
        # The parser keeps an unfinished head: what it said of it so far does not count all.
        if self._in_head and self.parser is not None and not self.transport.is_closing():
            self._head += len(data)
            self._check_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._release()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._arrived = True, False
        self._head, self._body, self._held_now, self._parts = 0, 0, 0, []
        if self.since is None:
            self.since = self.loop.time()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._head += len(url)
        self._check_head()
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or one after a body in chunks."""
        self._head += len(name) + len(value) + 4
        self._check_head()
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete: look at what it announces before a byte of it is kept."""
        self._in_head = False
        if self.transport.is_closing():
            return
        if len(self.pipeline) >= PIPELINED:
            self._cut(Refused(429, f"more than {PIPELINED} requests wait in one connection"))
            return
        self._streams = self.url.partition(b"?")[0].endswith(STREAM)
        refused = self._refusal()
        self._refused = refused is not None
        self.app = self._application if refused is None else _refuse(refused)
        # What is refused is read to its end, unkept: a client that is still sending when the
        # connection closes may never see why.
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body: kept whole, up to the limit."""
        if self._refused or self.cycle.response_complete or self.transport.is_closing():
            return
        if self._streams:
            self.since = self.loop.time()  # it may go on for ever, but not be silent
            super().on_body(body)
            return
        self._body += len(body)
        if self._body > self.intake.limits.body_bytes or not self._hold(self._body):
            self._cut(Refused(413, self._too_large()))
            return
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self.cycle is None or self.transport.is_closing():
            return
        self._arrived = True
        # One piece, and no copy where it is the only one: uvicorn hands on `bytes` as they are.
        if not self._streams:
            self.cycle.body = b"".join(self._parts)
            self._parts = []
        super().on_message_complete()
        if self.cycle.response_complete:  # refused before it was here
            self._wait_for_next()

    def on_response_complete(self) -> None:
        """The request is answered."""
        if not self.pipeline:
            self._release()
            if self._arrived:
                self.since = None
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP request, unless something better was said."""
        if not self.transport.is_closing():
            self._cut(Refused(400, "this is not a valid HTTP request"))

    def handle_websocket_upgrade(self) -> None:
        """There are none here."""
        self._cut(Refused(400, "this server does not speak WebSocket"))

    def expire(self, now: float) -> None:
        """End the connection if its client is too slow, to send or to take."""
        limits = self.intake.limits
        allowed = limits.read_seconds + (limits.run_seconds if self._arrived else 0)
        if self.since is not None and now - self.since > allowed:
            self._cut(Refused(408, f"the request took longer than {allowed:g} s"))
            self.transport.abort()
            return
        unsent = self.transport.get_write_buffer_size()
        if not unsent or self._unsent is None or unsent < self._unsent[0]:
            self._unsent = (unsent, now) if unsent else None
        elif now - self._unsent[1] > limits.read_seconds:
            self.transport.abort()

    def _wait_for_next(self) -> None:
        self.since = None
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _refusal(self) -> Refused | None:
        limits = self.intake.limits
        if len(self.connections) > limits.connections:
            return Refused(503, f"more than {limits.connections} connections are open: try later")
        length = next((v for k, v in self.headers if k == b"content-length"), b"0")
        if self._streams:
            return None
        if int(length) > limits.body_bytes:
            return Refused(413, self._too_large())
        if not self._hold(int(length)):
            return Refused(503, "too many large requests at the same time: try later")
        return None

    def _too_large(self) -> str:
        return f"a body may have {self.intake.limits.body_bytes} bytes: send fewer samples at once"

    def _hold(self, size: int) -> bool:
        more = max(0, size - self._held_now)
        if not self.intake.room(more):
            return False
        self.intake.held += more
        self._held += more
        self._held_now += more
        return True

    def _release(self) -> None:
        self.intake.held -= self._held
        self._held = 0

    def _check_head(self) -> None:
        limit = self.intake.limits.head_bytes
        if self._head > limit:
            self._cut(Refused(431, f"the request line and header fields may have {limit} bytes"))

    def _cut(self, refused: Refused) -> None:
        """Answer outside of any request and close: what follows in the stream has no meaning."""
        if self.transport.is_closing():
            return
        if not self.pipeline and (self.cycle is None or not self.cycle.response_started):
            status, headers, body = json_answer(refused.status, {"error": refused.reason})
            lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
            lines += [name + b": " + value for name, value in headers]
            self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", body]))
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()


def json_answer(status: int, value: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, header fields and body of an answer in JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    return status, headers, body


def _refuse(refused: Refused) -> Any:
    """An application that answers every request so."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        status, headers, body = json_answer(refused.status, {"error": refused.reason})
        if refused.status == 503:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application

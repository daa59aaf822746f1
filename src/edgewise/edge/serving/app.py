"""The protocol's addresses over HTTP, as an ASGI application.

Specification: kserve/open-inference-protocol, "inference_rest.md". Inputs are never written,
logged or kept.
"""

from __future__ import annotations

import hmac
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

from ..machine import versions
from .connection import json_answer
from .limits import Limits, Refused
from .models import Models
from .protocol import answer, ask, described
from .regions import Regions
from .streaming import serve_stream

__all__ = ["EXTENSIONS", "Application", "authorized", "metadata", "method", "respond"]

EXTENSIONS = ["binary_tensor_data"]
HEAD_LENGTH = b"inference-header-content-length"
OPEN = ("/v2/health/live", "/v2/health/ready")  # without a token: they say nothing

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Reply = tuple[int, list[tuple[bytes, bytes]], bytes]


class Application:
    """What clients may ask.

    Args:
        models: that are served.
        limits: of the server.
        token: that clients must show; None where none is needed.
        regions: of shared memory that inputs may lie in; None where they may not.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits,
        token: bytes | None = None,
        regions: Regions | None = None,
    ):
        self.models, self.limits, self._token, self._regions = models, limits, token, regions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        begin = time.perf_counter()
        parts = scope["raw_path"].decode("ascii", "replace").split("/")
        lane = None
        try:
            if self._token is not None and scope["path"] not in OPEN:
                self._check_token(scope)
            if parts[:3] == ["", "v2", "models"] and parts[-1] == "infer" and len(parts) in (5, 7):
                lane = self._lane(parts)
                method(scope, "POST")
                status, headers, body = await self._infer(parts, scope, receive)
            elif parts[:3] == ["", "v2", "models"] and parts[-1] == "stream" and len(parts) == 5:
                method(scope, "POST")
                await serve_stream(partial(self._lane, parts), scope, receive, send)
                return
            elif parts[:3] == ["", "v2", "systemsharedmemory"] and self._regions is not None:
                found = self._regions.answer(parts[3:], scope["method"], await _body(receive))
                status, headers, body = json_answer(200, found)
            else:
                status, headers, body = self._other(parts, scope)
        except Refused as refused:
            status, headers, body = json_answer(refused.status, {"error": refused.reason})
            if status == 401:
                headers.append((b"www-authenticate", b"Bearer"))
        except Exception as error:
            # A fault of this server: say where, but not the message, which may quote an input.
            print(*traceback.format_tb(error.__traceback__), file=sys.stderr, flush=True)
            fault = f"a fault of the server: {type(error).__name__}"
            status, headers, body = json_answer(500, {"error": fault})
        if lane is not None:
            self.models.metrics.count(lane.name, status, time.perf_counter() - begin)
        await respond(send, (status, headers, body))

    async def _infer(self, parts: list[str], scope: Scope, receive: Receive) -> Reply:
        head_bytes = None
        for name, value in scope["headers"]:
            if name == HEAD_LENGTH:
                head_bytes = _length(value)
            elif name == b"content-encoding" and value != b"identity":
                raise Refused(415, "compressed requests are not taken: send the body as it is")
        raw = await _body(receive)
        lane = self._lane(parts)  # only now: another may have taken its place while the body came
        asked = ask(raw, head_bytes, lane.signature, self.limits.samples, self._regions)
        outputs = await lane.infer(asked.arrays)
        pieces, length = answer(asked, outputs, lane.signature, lane.model)
        body = b"".join(pieces)
        headers = [(b"content-length", b"%d" % len(body))]
        if length is None:
            headers.append((b"content-type", b"application/json"))
        else:
            headers.append((b"content-type", b"application/octet-stream"))
            headers.append((HEAD_LENGTH, b"%d" % length))
        return 200, headers, body

    def _other(self, parts: list[str], scope: Scope) -> Reply:
        match parts:
            case ["", "metrics"]:
                value = self.models.exposition().encode()
                kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
                reply = 200, [kind, (b"content-length", b"%d" % len(value))], value
            case ["", "v2"] | ["", "v2", ""]:
                found = {"name": "edgewise", "version": versions().get("edgewise", "")}
                more = [] if self._regions is None else ["system_shared_memory"]
                reply = json_answer(200, {**found, "extensions": EXTENSIONS + more})
            case ["", "v2", "health", "live"]:
                reply = json_answer(200, {"live": True})
            case ["", "v2", "health", "ready"]:
                reply = json_answer(200 if self.models.ready else 503, {"ready": self.models.ready})
            case ["", "v2", "models", _] | ["", "v2", "models", _, "versions", _]:
                reply = json_answer(200, metadata(self._lane(parts)))
            case ["", "v2", "models", _, "ready"] | ["", "v2", "models", _, "versions", _, "ready"]:
                lane = self._lane(parts)
                reply = json_answer(200, {"name": lane.name, "ready": True})
            case _:
                raise Refused(404, "there is nothing at this address: see /v2 and /v2/models/NAME")
        method(scope, "GET")
        return reply

    def _lane(self, parts: list[str]) -> Any:
        asked = unquote(parts[5]) if len(parts) > 5 and parts[4] == "versions" else ""
        if len(parts) == 7 and parts[4] != "versions":
            raise Refused(404, "there is nothing at this address: see /v2 and /v2/models/NAME")
        return self.models.lane(unquote(parts[3]), asked)

    def _check_token(self, scope: Scope) -> None:
        given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
        if not authorized(given, self._token):
            raise Refused(401, "a token is needed: send it as  Authorization: Bearer TOKEN")


def authorized(given: bytes, token: bytes) -> bool:
    """Whether an authorization field shows the token; takes as long for every wrong one."""
    return hmac.compare_digest(given, b"Bearer " + token)


def metadata(lane: Any) -> dict[str, Any]:
    """What the protocol says of a model."""
    platform = f"edgewise_{lane.runtime}"
    return {
        "name": lane.name,
        "versions": [lane.version],
        "platform": platform,
        **described(lane.signature),
    }


def method(scope: Scope, name: str) -> None:
    """Refuse any other method.

    Raises:
        Refused: 405.
    """
    if scope["method"] != name:
        raise Refused(405, f"this address takes {name}")


async def respond(send: Send, reply: Reply) -> None:
    """Send a whole answer."""
    status, headers, body = reply
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 12:
        raise Refused(400, "Inference-Header-Content-Length is not a number of bytes")
    return int(value)


async def _body(receive: Receive) -> bytes:
    """The whole body; the connection keeps it within the limit."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return message["body"]
    parts = []
    while message["type"] == "http.request":
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise Refused(400, "the client went away before its request was complete")

"""A stream over HTTP: a signal goes up as long as the client likes, what it means comes down.

``POST /v2/models/NAME/stream?hop=1600&smoothing=4&threshold=0.8&rate=16000`` with the signal's
frames as the body, little-endian, of the input's dtype, in pieces of any length. Each window that
is complete is answered by a line of JSON; the last line sums up. Of our own making: the protocol
has no such thing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from ...errors import EdgewiseError, InputError
from ..stream import Decider, Streaming, Windows, only_input, real_time_factor
from .lane import Lane
from .limits import Refused

__all__ = ["serve_stream"]

KIND = (b"content-type", b"application/x-ndjson")
DROP = 429  # what a full queue answers


async def serve_stream(find: Callable[[], Lane], scope: Any, receive: Any, send: Any) -> None:
    """Answer one request for a stream.

    `find` gives the model as it is served now: a stream goes on with a new version. A window that
    finds the model's queue full is skipped, and said to be: a signal does not wait.

    Raises:
        Refused: 400 for a query or a model that does not fit, before anything is answered.
    """
    signature = find().signature
    try:
        streaming = _streaming(scope["query_string"])
        windows = Windows(only_input(signature), streaming.hop, streaming.axis)
    except EdgewiseError as error:
        raise Refused(400, str(error)) from None
    decider, spent, skipped, count = Decider(streaming), 0.0, 0, 0
    frame_bytes = windows.dtype.itemsize * int(np.prod(windows.frame, dtype=int))
    await send({"type": "http.response.start", "status": 200, "headers": [KIND]})
    left, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        more, data = message.get("more_body", False), left + message["body"]
        whole = len(data) - len(data) % frame_bytes
        left = data[whole:]
        frames = np.frombuffer(data[:whole], windows.dtype.newbyteorder("<"))
        signal = frames.astype(windows.dtype).reshape(-1, *windows.frame)
        for at, window in windows.feed(signal):
            begin = time.perf_counter()
            try:
                lane = find()
                if lane.signature != signature:
                    raise Refused(409, "a version that takes or gives other things is served now")
                (output,) = await lane.infer((np.array(window),))
            except Refused as refused:
                if refused.status != DROP:
                    await _line(send, {"at": at, "error": refused.reason})
                    return await _end(send)
                skipped += 1
                await _line(send, {"at": at, "skipped": refused.reason})
                continue
            found = decider.judge(at, output)
            spent += time.perf_counter() - begin
            count += 1
            row = {"at": at, "scores": [round(float(s), 6) for s in found.scores]}
            if streaming.threshold is not None:
                row |= {"active": found.active, "began": found.began, "ended": found.ended}
            await _line(send, row)
    factor = real_time_factor(spent, windows.frames, streaming.rate)
    summary = {"frames": windows.frames, "windows": count, "skipped": skipped}
    if factor is not None:
        summary["real_time_factor"] = round(factor, 6)
    await _line(send, summary)
    await _end(send)


def _streaming(query: bytes) -> Streaming:
    known = {field.name for field in fields(Streaming)}
    try:
        given = dict(parse_qsl(query.decode("ascii", "replace"), max_num_fields=len(known)))
    except ValueError:
        raise InputError(f"the query has more than {len(known)} fields") from None
    if unknown := set(given) - known:
        raise InputError(f"unknown in the query: {sorted(unknown)[0][:40]!r}")
    try:
        return msgspec.convert(given, Streaming, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"the query does not say how to stream: {error}") from None


async def _line(send: Any, row: dict[str, Any]) -> None:
    body = msgspec.json.encode(row) + b"\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _end(send: Any) -> None:
    await send({"type": "http.response.body", "body": b""})

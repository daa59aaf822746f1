"""What a client may ask for, checked before anything is allocated for it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits", "Refused"]


@dataclass(frozen=True)
class Limits:
    """Bounds on memory and time, so that no client can take either from the others.

    Attributes:
        body_bytes: of one request; all requests together may hold eight times as much.
        head_bytes: of the request line and header fields together.
        samples: in one request.
        waiting: requests that may wait for a model; one more is refused at once (429).
        connections: open at the same time; one more is refused at once (503).
        read_seconds: from the first byte of a request to its last, and for its answer to be taken.
        run_seconds: that a request may wait and run.
        idle_seconds: that a connection is kept open between requests.
    """

    body_bytes: int = 16 << 20
    head_bytes: int = 16 << 10
    samples: int = 64
    waiting: int = 16
    connections: int = 256
    read_seconds: float = 10.0
    run_seconds: float = 30.0
    idle_seconds: float = 75.0


class Refused(Exception):
    """A request that is not answered: the HTTP status and the sentence that says why.

    Internal to the server: every one becomes an answer to the client.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason

"""Load on a server on this machine: as fast as it answers, or at a constant rate of arrivals.

At a constant rate latency counts from when a request was due, not from when it could be sent, so
that a slow answer does not hide those behind it (coordinated omission). Bounded in time and in
connections; to 127.0.0.1 and Unix sockets alone.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .wire import Client

__all__ = ["Answers", "as_fast_as_it_answers", "at_a_rate"]

MAX_SECONDS = 120


@dataclass(frozen=True)
class Answers:
    """What came back.

    Attributes:
        due: seconds from the start when each request was due, in the order of their answers.
        ms: from then to the answer.
        status: of each answer; 0 for none.
        seconds: that it all took.
    """

    due: np.ndarray
    ms: np.ndarray
    status: np.ndarray
    seconds: float

    @property
    def good(self) -> np.ndarray:
        """Which were answered with 200."""
        return self.status == 200

    def percentiles(self, which: np.ndarray) -> dict[str, float]:
        """p50 and p99 of some, in milliseconds."""
        if not which.any():
            return {}
        p50, p99 = np.percentile(self.ms[which], [50, 99])
        return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def as_fast_as_it_answers(
    address: int | Path, request: bytes, *, seconds: float, connections: int
) -> Answers:
    """Each connection sends the next request when it has its answer."""
    end = time.perf_counter() + min(seconds, MAX_SECONDS)

    def due(start: float) -> float | None:
        now = time.perf_counter()
        return now - start if now < end else None

    return _run(address, request, connections, due)


def at_a_rate(
    address: int | Path, request: bytes, *, rate: float, seconds: float, connections: int
) -> Answers:
    """`rate` requests a second, whether or not answers come."""
    count = int(rate * min(seconds, MAX_SECONDS))
    numbers, lock = itertools.count(), threading.Lock()

    def due(start: float) -> float | None:
        with lock:
            number = next(numbers)
        if number >= count:
            return None
        when = number / rate
        wait = start + when - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        return when

    return _run(address, request, connections, due)


def _run(
    address: int | Path,
    request: bytes,
    connections: int,
    due: Callable[[float], float | None],
) -> Answers:
    rows: list[list[tuple[float, float, int]]] = [[] for _ in range(connections)]
    start = time.perf_counter() + 0.05

    def work(mine: list[tuple[float, float, int]]) -> None:
        client = Client(address)
        while (when := due(start)) is not None:
            try:
                status = client.send(request)[0]
            except (OSError, ConnectionError):
                status = 0
                client.close()
                client = Client(address)
            mine.append((when, (time.perf_counter() - start - when) * 1e3, status))
        client.close()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_rows = np.array([row for mine in rows for row in mine]).reshape(-1, 3)
    status = all_rows[:, 2].astype(int)
    return Answers(all_rows[:, 0], all_rows[:, 1], status, time.perf_counter() - start)

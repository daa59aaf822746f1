"""What the server counts, in the text format that Prometheus reads.

Specification: "Exposition formats", text format 0.0.4. Numbers only: nothing of any input.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from .lane import Lane

__all__ = ["Metrics"]

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Requests by model and status, and how long those that were answered took."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, model: str, status: int, seconds: float) -> None:
        """One request, which took so long within the server."""
        self.requests[model, status] += 1
        if status == 200:
            self._buckets[model][bisect_left(BOUNDS, seconds)] += 1
            self._seconds[model] += seconds

    def exposition(self, lanes: Iterable[Lane]) -> str:
        """Everything as text."""
        lanes = list(lanes)
        lines = [*_head("requests_total", "counter", "Requests by model and HTTP status.")]
        for (model, status), count in self.requests.items():
            lines.append(_row("requests_total", count, model=model, status=str(status)))
        lines += _head("request_seconds", "histogram", "From the head of a request to its answer.")
        for model, buckets in self._buckets.items():
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), buckets, strict=True):
                total += count
                lines.append(_row("request_seconds_bucket", total, model=model, le=str(bound)))
            lines.append(_row("request_seconds_sum", self._seconds[model], model=model))
            lines.append(_row("request_seconds_count", total, model=model))
        for name, kind, help_text, value in LANE_ROWS:
            lines += _head(name, kind, help_text)
            lines += [_row(name, value(lane), model=lane.name) for lane in lanes]
        lines += _head("model_info", "gauge", "The version that is served.")
        lines += [_row("model_info", 1, model=x.name, version=x.version) for x in lanes]
        lines += _head("resident_memory_bytes", "gauge", "Physical memory of the server.")
        lines.append(_row("resident_memory_bytes", _resident()))
        return "\n".join(lines) + "\n"


LANE_ROWS = (
    ("runs_total", "counter", "Inferences of the version served.", lambda lane: lane.runs),
    ("samples_total", "counter", "Samples in these inferences.", lambda lane: lane.samples),
    ("run_seconds_total", "counter", "Time in the runtime.", lambda lane: lane.seconds),
    ("waiting", "gauge", "Requests that wait for the model.", lambda lane: lane.waiting),
)


def _head(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP edgewise_{name} {help_text}", f"# TYPE edgewise_{name} {kind}"]


def _row(name: str, value: float, **labels: str) -> str:
    inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"edgewise_{name}{{{inside}}} {value}" if inside else f"edgewise_{name} {value}"


def _resident() -> int:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

"""Load that a server can take, and twice as much."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from edgewise.edge.artifact import Artifact

from .load import as_fast_as_it_answers, at_a_rate
from .wire import infer_request, inputs_of, serving

__all__ = ["memory_bytes", "run"]

CONNECTIONS = 64


def run(path: Path, seconds: float, threads: int, waiting: int) -> dict[str, object]:
    """Capacity; latency at 70 % of it; and at twice of it, with what was refused and how fast.

    What is answered waits for at most `waiting` others: that bounds its latency at any load.
    """
    artifact = Artifact.open(path)
    request = infer_request(path.stem, artifact, inputs_of(artifact))
    with serving(path, "--threads", str(threads), "--waiting", str(waiting)) as server:
        address = server.socket
        as_fast_as_it_answers(address, request, seconds=1, connections=4)
        full = as_fast_as_it_answers(address, request, seconds=seconds / 6, connections=waiting + 1)
        capacity = int(full.good.sum()) / full.seconds
        steady = at_a_rate(
            address, request, rate=0.7 * capacity, seconds=seconds / 2, connections=CONNECTIONS
        )
        watched, stop = [], threading.Event()

        def watch() -> None:
            while not stop.wait(0.5):
                watched.append(memory_bytes(server.process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        over = at_a_rate(
            address, request, rate=2 * capacity, seconds=seconds, connections=CONNECTIONS
        )
        stop.set()
        watcher.join()
        time.sleep(0.5)
        after = memory_bytes(server.process.pid)
    early, late = over.due < seconds / 5, over.due > 4 * seconds / 5
    refused = np.isin(over.status, (429, 503))
    return {
        "file": str(path),
        "threads": threads,
        "waiting": waiting,
        "capacity_per_s": round(capacity, 1),
        "at_70_percent": steady.percentiles(steady.good)
        | {"refused": int((~steady.good).sum()), "n": len(steady.ms)},
        "at_200_percent": {
            "seconds": seconds,
            "offered_per_s": round(len(over.ms) / over.seconds, 1),
            "answered_per_s": round(int(over.good.sum()) / over.seconds, 1),
            "answered": over.percentiles(over.good),
            "answered_first_fifth": over.percentiles(over.good & early),
            "answered_last_fifth": over.percentiles(over.good & late),
            "refused": int(refused.sum()),
            "refused_latency": over.percentiles(refused),
            "neither": int((~over.good & ~refused).sum()),
            "memory_mb": [round(watched[0] / 1e6, 1), round(max(watched) / 1e6, 1)],
            "memory_after_mb": round(after / 1e6, 1),
        },
    }


def memory_bytes(pid: int) -> int:
    """Physical memory that a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} is gone")

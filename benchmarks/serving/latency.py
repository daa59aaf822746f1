"""What the server adds to the runtime's own latency, one request at a time.

The arms take turns in short blocks: the runtime alone, called in this process on inputs laid out
as the file has them; and whole requests over loopback TCP, over the Unix socket, and over that with
the input in shared memory (written anew for each), to a server in another process with as many
threads. What is added is the difference of the medians within each
round; reported is the median over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from edgewise.edge import runners
from edgewise.edge.artifact import Artifact

from .wire import Client, infer_request, inputs_of, serving, shared_request

__all__ = ["run"]

BLOCK, SKIP = 20, 5


def run(path: Path, rounds: int, threads: int) -> dict[str, object]:
    """Medians in microseconds, and what each way adds."""
    artifact = Artifact.open(path)
    arrays = inputs_of(artifact)
    runner = runners.open_file(artifact.runtime, path, threads)
    laid = artifact.to_file(arrays)
    request = infer_request(path.stem, artifact, arrays)
    raw = b"".join(array.tobytes() for array in arrays)
    with (
        serving(path, "--threads", str(threads)) as server,
        _shared(len(raw)) as memory,
    ):
        tcp, unix = Client(server.port), Client(server.socket)
        pointing = shared_request(unix, path.stem, artifact, arrays, memory)

        def shared() -> tuple[int, bytes, bytes]:
            memory.buf[: len(raw)] = raw
            return unix.send(pointing)

        arms: dict[str, Callable[[], object]] = {
            "runtime": lambda: runner.run(*laid),
            "http": lambda: tcp.send(request),
            "unix": lambda: unix.send(request),
            "shared": shared,
        }
        expected = artifact.run_batch(runner, arrays)[0].tobytes()
        for send in list(arms.values())[1:]:
            status, _, body = send()
            assert status == 200 and body.endswith(expected), body[:300]
        medians = {name: [] for name in arms}
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for name in rng.permutation(list(arms)):
                medians[name].append(np.median(_block(arms[name])))
    us = {name: np.array(ns) / 1e3 for name, ns in medians.items()}
    return {
        "file": str(path),
        "threads": threads,
        "request_bytes": len(request),
        "rounds": rounds,
        **{f"{name}_us": round(float(np.median(row)), 1) for name, row in us.items()},
        **{
            f"{name}_adds_us": round(float(np.median(us[name] - us["runtime"])), 1)
            for name in ("http", "unix", "shared")
        },
    }


@contextmanager
def _shared(size: int) -> Iterator[shared_memory.SharedMemory]:
    memory = shared_memory.SharedMemory(create=True, size=size)
    try:
        yield memory
    finally:
        memory.close()
        memory.unlink()


def _block(call: Callable[[], object]) -> list[int]:
    ns = []
    for turn in range(SKIP + BLOCK):
        begin = time.perf_counter_ns()
        call()
        if turn >= SKIP:
            ns.append(time.perf_counter_ns() - begin)
    return ns

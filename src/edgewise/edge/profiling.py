"""Where the time of one file goes, taken in a process of its own."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .artifact import Artifact
from .benchmark import Seat, Subject, feeds
from .place import HERE, Place
from .profilers import Operator
from .worker import Worker

__all__ = ["Profile", "profile"]

TIMED = 50  # runs without the profiler
LONGER = 20  # how many times as long as its slowest run an inference may take while it is profiled


@dataclass(frozen=True)
class Profile:
    """What was measured of one file.

    Attributes:
        latency_ms: of one inference without the profiler, the median.
        operators: what each took with the profiler, in the order in which they ran.
        machine: where, as `edgewise.edge.machine.describe` gives it.
        ours: whether a record of edgewise lies beside the file.
    """

    subject: str
    runtime: str
    version: str
    threads: int
    latency_ms: float
    operators: tuple[Operator, ...]
    machine: dict[str, Any]
    ours: bool


def profile(
    subject: Artifact | str | os.PathLike[str],
    *,
    inputs: tuple[np.ndarray, ...] | None = None,
    runs: int = 50,
    threads: int | None = 1,
    warmup: float = 0.1,
    timeout: float = 120.0,
    seed: int = 0,
    place: Place = HERE,
) -> Profile:
    """Profile a file; arguments and errors as of `edgewise.edge.benchmark.benchmark`.

    Raises:
        RuntimeFailure: as there, or the runtime's build has no profiler.
    """
    file = Subject.of(subject)
    with (
        tempfile.TemporaryDirectory(prefix="edgewise-") as folder,
        Worker(
            file.runtime, str(file.path), timeout=timeout, command=place.command(file.runtime)
        ) as worker,
    ):
        seat = Seat(worker, file, threads, place)
        seat.prepare(feeds(seat.artifact, inputs, seed), Path(folder), warmup)
        ns = seat.run(TIMED)
        answer = worker.ask(profile=runs, longer=LONGER * runs * seat.slowest_s)
        machine = worker.ask(describe=file.runtime)["machine"]
    return Profile(
        subject=str(file.path),
        runtime=file.runtime,
        version=seat.opened["version"],
        threads=seat.opened["threads"],
        latency_ms=float(np.median(ns)) / 1e6,
        operators=tuple(
            Operator(**{**o, "inputs": tuple(o["inputs"])}) for o in answer["operators"]
        ),
        machine=place.machine(machine),
        ours=file.artifact is not None,
    )

"""How long one inference takes, how long a file takes to open and how much memory it needs.

Machines drift: clocks change, neighbours come and go. So files are never measured one after the
other. Each is opened in a process of its own (`edgewise.edge.worker`), and short blocks of runs
alternate between them in an order drawn anew for each round, so that whatever the machine does
hits all of them alike; a comparison takes the ratio within each round. Two processes that run the
same file can differ for as long as they live (three of fifty did, by 10 to 20 %), so each file is
opened afresh several times, and an interval counts these sittings and not only the runs.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError
from ..record import Latency, Signature, TensorSpec
from . import runners
from .artifact import Artifact, check_inputs
from .place import HERE, Place, signature_from
from .worker import Worker

__all__ = ["Ratio", "Timing", "benchmark", "compare", "feeds", "percentiles"]

SITTINGS = 5  # processes that each file is opened in, one after the other
BLOCK = 20  # timed runs at a stretch
SKIP = 5  # runs before each block that are not counted: threads and caches wake up
FEEDS = 64  # distinct inputs, which the runs take in turn ...
FEED_BYTES = 16 << 20  # ... unless they take more memory than this
RESAMPLES = 2000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Timing:
    """What was measured of one file.

    Attributes:
        subject: its path.
        runtime, version: what ran it.
        threads, batch: as it ran.
        ns: (sittings, rounds, runs) wall time of each inference in nanoseconds, as they came.
        load_ms: median time to open the file, once the runtime is imported.
        first_ms: median time of the first inference, which often prepares more.
        memory_bytes: the most physical memory that opening and running the file took beyond what
            the process held before; without the inputs that wait their turn.
        process_bytes: the most that the whole process held, with the runtime and Python.
        energy_mj: millijoules that the processor took for one inference (`edgewise.edge.energy`);
            None where it does not say.
        session: the same for files measured in one call of `benchmark`.
        states: `machine.state` there, after each sitting.
    """

    subject: str
    runtime: str
    version: str
    threads: int
    batch: int
    ns: np.ndarray
    load_ms: float
    first_ms: float
    memory_bytes: int
    process_bytes: int
    session: int
    states: tuple[dict[str, Any], ...] = ()
    energy_mj: float | None = None

    @property
    def latency(self) -> Latency:
        """The percentiles that this number of runs allows, in milliseconds."""
        runs = self.ns.size
        return Latency(
            runs=runs, threads=self.threads, batch=self.batch, **percentiles(self.ns / 1e6)
        )


@dataclass(frozen=True)
class Ratio:
    """One file's latency divided by another's: the median over rounds, with its 95 % interval."""

    value: float
    ci95: tuple[float, float]
    rounds: int


@dataclass(frozen=True)
class Subject:
    """A file to measure; `artifact` is None when there is no record beside it."""

    path: Path
    runtime: str
    artifact: Artifact | None

    @classmethod
    def of(cls, given: Artifact | str | os.PathLike[str]) -> Subject:
        """Without opening the file in this process, which its runtime might kill."""
        if isinstance(given, Artifact):
            return cls(given.path, given.runtime, given)
        path = Path(given)
        runtime = runners.runtime_of(path)
        if path.with_name(path.name + ".json").exists():
            return cls(path, runtime, Artifact.open(path))
        if not path.is_file():
            raise ModelError(f"{path} does not exist: give the file that `edgewise lower` wrote")
        return cls(path, runtime, None)


def benchmark(
    subjects: Sequence[Artifact | str | os.PathLike[str]],
    *,
    runs: int = 700,
    threads: int | None = None,
    inputs: Sequence[tuple[np.ndarray, ...] | None] | None = None,
    warmup: float = 0.3,
    timeout: float = 120.0,
    seed: int = 0,
    progress: Progress | None = None,
    place: Place = HERE,
    sittings: int = SITTINGS,
) -> tuple[Timing, ...]:
    """Measure files side by side, each in processes of its own.

    Args:
        subjects: artifacts or their paths; the same file may come twice.
        runs: how many inferences to time for each, rounded up to whole rounds.
        threads: of the runtime; by default as many as there are processors.
        inputs: for each subject real inputs as its signature has them, any number of samples, or
            None for random numbers in the signature's range.
        warmup: seconds that each process runs uncounted at its start.
        timeout: seconds that opening a file or any single inference may take.
        seed: of the order of blocks and of random inputs.
        progress: called with the runs done and the runs in all.
        place: where to measure; by default this machine.
        sittings: the most processes that each file is opened in, one after the other.

    Raises:
        InputError: nothing to measure, or inputs that do not fit.
        MissingExtra, ModelError: a runtime that is not installed, a file that it cannot open.
        RuntimeFailure: a runtime crashed or hung; the others are stopped.
    """
    if not subjects or runs < 1:
        raise InputError(f"nothing to measure: {len(subjects)} files, {runs} runs")
    files = [Subject.of(subject) for subject in subjects]
    given = inputs or [None] * len(files)
    session, rng = time.time_ns(), np.random.default_rng(seed)
    sittings, rounds, block = plan(runs, sittings)
    ns = np.empty((len(files), sittings, rounds, block), np.int64)
    total, done = ns.size, 0
    seats: list[list[Seat]] = []
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        for sitting in range(sittings):
            with ExitStack() as stack:
                seats.append([])
                workers = [  # all begin to start before the first is waited for
                    stack.enter_context(
                        Worker(
                            file.runtime, str(file.path), timeout=timeout,
                            command=place.command(file.runtime),
                        )
                    )
                    for file in files
                ]  # fmt: skip
                for worker, file, own in zip(workers, files, given, strict=True):
                    seat = Seat(worker, file, threads, place)
                    seat.prepare(feeds(seat.artifact, own, seed), Path(folder), warmup)
                    seats[-1].append(seat)
                for turn in range(rounds):
                    for k in rng.permutation(len(files)):
                        ns[k, sitting, turn] = seats[-1][k].run(block)
                        done += block
                        if progress is not None:
                            progress(done, total)
                for seat in seats[-1]:
                    seat.state = place.machine(seat.worker.ask(state=None))
    return tuple(
        _timing(file, [row[k] for row in seats], ns[k], session) for k, file in enumerate(files)
    )


def plan(runs: int, most: int = SITTINGS) -> tuple[int, int, int]:
    """Sittings, rounds in each and runs in each block that come to at least `runs`."""
    block = min(BLOCK, runs)
    blocks = math.ceil(runs / block)
    sittings = min(most, blocks)
    return sittings, math.ceil(blocks / sittings), block


class Seat:
    """One file in one sitting: its worker and what that said."""

    def __init__(self, worker: Worker, file: Subject, threads: int | None, place: Place):
        self.worker, self.place = worker, place
        self.energies: list[float | None] = []
        there = [place.send(part) for part in runners.files(file.runtime, file.path)]
        self.opened = worker.ask(open=there[0], threads=threads)
        signature = signature_from(self.opened["signature"])
        self.artifact = file.artifact or Artifact.bare(file.path, signature)

    def prepare(self, feeds: list[np.ndarray], folder: Path, warmup: float) -> None:
        """Hand over the inputs and warm up."""
        path = folder / "inputs.npz"
        np.savez(path, **{str(i): array for i, array in enumerate(feeds)})
        self.feed_bytes = self.worker.ask(feed=self.place.send(path))["bytes"]
        ns = self.worker.ask(warm=warmup)["ns"]
        self.first_ns, self.slowest_s = ns[0], max(ns) / 1e9

    def run(self, block: int) -> list[int]:
        """Time one block."""
        longer = 10 * (block + SKIP) * self.slowest_s
        answer = self.worker.ask(run=block, skip=SKIP, longer=longer)
        self.peak_bytes = answer["peak_bytes"]
        self.energies.append(answer.get("energy_mj"))  # an older worker on a device counts none
        return answer["ns"]

    @property
    def memory_bytes(self) -> int:
        """What opening and running the file took at most, without the waiting inputs."""
        peak = max(self.opened["peak_bytes"], self.peak_bytes - self.feed_bytes)
        return peak - self.opened["before_bytes"]


def _timing(file: Subject, seats: list[Seat], ns: np.ndarray, session: int) -> Timing:
    opened = seats[0].opened
    energies = [energy for seat in seats for energy in seat.energies]
    return Timing(
        subject=str(file.path),
        runtime=file.runtime,
        version=opened["version"],
        threads=opened["threads"],
        batch=seats[0].artifact.batch,
        ns=ns,
        load_ms=float(np.median([seat.opened["load_ns"] for seat in seats])) / 1e6,
        first_ms=float(np.median([seat.first_ns for seat in seats])) / 1e6,
        memory_bytes=max(seat.memory_bytes for seat in seats),
        process_bytes=max(seat.peak_bytes for seat in seats),
        session=session,
        states=tuple(seat.state for seat in seats),
        energy_mj=None if None in energies else sum(energies) / ns.size,
    )


def percentiles(ms: np.ndarray) -> dict[str, float]:
    """p50, p90 from 64 runs on and p99 from 662 on (see `Latency`)."""
    least = {"p50": 1, "p90": 64, "p99": 662}
    return {
        name: float(np.percentile(ms, float(name[1:])))
        for name, runs in least.items()
        if ms.size >= runs
    }


def compare(a: Timing, b: Timing, *, seed: int = 0) -> Ratio:
    """How many times as long as `b` does `a` take?

    The ratio of the two medians within each round, and of these the median. Its interval is by
    bootstrap in two stages: sittings are drawn with replacement, then rounds within each.

    Raises:
        InputError: the two were not measured in one call, so that drift is not shared.
    """
    if a.session != b.session:
        raise InputError(
            f"{a.subject} and {b.subject} were not measured side by side: give both to one "
            "call of `benchmark`"
        )
    ratios = np.median(a.ns, axis=2) / np.median(b.ns, axis=2)
    sittings, rounds = ratios.shape
    rng = np.random.default_rng(seed)
    first = rng.integers(sittings, size=(RESAMPLES, sittings, 1))
    second = rng.integers(rounds, size=(RESAMPLES, sittings, rounds))
    medians = np.median(ratios[first, second].reshape(RESAMPLES, -1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Ratio(float(np.median(ratios)), (float(low), float(high)), ratios.size)


def feeds(artifact: Artifact, inputs: tuple[np.ndarray, ...] | None, seed: int) -> list[np.ndarray]:
    """Arrays of shape (feeds, *input as the file has it), one an input; random without inputs.

    Raises:
        DataError: inputs that do not fit the signature.
    """
    signature, batch = artifact.signature, artifact.batch
    if inputs is None:
        inputs = random_inputs(signature, _feed_count(signature, batch) * batch, seed)
    else:
        inputs = tuple(np.asarray(array) for array in inputs)
        check_inputs(inputs, signature)
    have = len(inputs[0])
    count = min(_feed_count(signature, batch), max(1, have // batch))
    rows = (np.arange(count * batch) % have).reshape(count, batch)
    chunks = [artifact.to_file(tuple(array[chosen] for array in inputs)) for chosen in rows]
    return [np.stack(arrays) for arrays in zip(*chunks, strict=True)]


def _feed_count(signature: Signature, batch: int) -> int:
    sizes = (math.prod(s.shape[1:]) * np.dtype(s.dtype).itemsize for s in signature.inputs)
    return max(1, min(FEEDS, FEED_BYTES // (batch * sum(sizes))))


def random_inputs(signature: Signature, samples: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Arrays that fit the signature, within the ranges that it gives."""
    rng = np.random.default_rng(seed)
    return tuple(_random_array(spec, samples, rng) for spec in signature.inputs)


def _random_array(spec: TensorSpec, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Within the range where that is known; else N(0, 1), any 8-bit integer, or 0 and 1."""
    shape, dtype = (samples, *spec.shape[1:]), np.dtype(spec.dtype)
    if dtype.kind == "f":
        numbers = rng.uniform(*spec.range, shape) if spec.range else rng.normal(size=shape)
        return numbers.astype(dtype)
    if spec.range:
        low, high = (int(bound) for bound in spec.range)
    elif dtype.itemsize == 1 and dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        low, high = 0, 1
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)

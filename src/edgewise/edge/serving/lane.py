"""A lane: one version of one model, open and ready, and the requests that wait for it.

Where a model runs is chosen by its measured time. Handing a request to another thread and its
answer back costs about as much as a small network itself, so a fast model runs on the event loop's
own thread: one inference, then a look at the sockets, so that others are refused or queued while
it is busy and nobody waits for more than one inference. A slow model, or several instances of one,
have threads of their own.

Requests are joined to a batch only if they wait already (never is one held back to wait for
company), and only if the measured times say that together they take less.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import EdgewiseError
from ...record import Signature
from .. import runners
from ..artifact import Artifact
from .limits import Limits, Refused

__all__ = ["Lane", "Plan", "open_lane"]

INLINE_SECONDS = 0.005
WARM_RUNS = 5

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Plan:
    """Which files to run for each number of samples.

    Attributes:
        batches: the batch of each file.
        seconds: that each file takes, however full its batch is.
        cost: seconds for 0, 1, 2 ... samples.
        first: for 0, 1, 2 ... samples, the file to begin with.
    """

    batches: tuple[int, ...]
    seconds: tuple[float, ...]
    cost: tuple[float, ...]
    first: tuple[int, ...]

    @classmethod
    def of(cls, batches: Sequence[int], seconds: Sequence[float], samples: int) -> Plan:
        """The cheapest cover of every number of samples up to `samples`, by dynamic programming."""
        cost, first = [0.0], [0]
        for n in range(1, samples + 1):
            by_file = [s + cost[max(0, n - b)] for b, s in zip(batches, seconds, strict=True)]
            cost.append(min(by_file))
            first.append(by_file.index(cost[-1]))
        return cls(tuple(batches), tuple(seconds), tuple(cost), tuple(first))

    def pays(self, a: int, b: int) -> bool:
        """Whether `a` samples and `b` more take less together than one after the other."""
        return a + b < len(self.cost) and self.cost[a + b] < 0.999 * (self.cost[a] + self.cost[b])


class Instance:
    """The files of one version, each opened once; to be used by one thread at a time."""

    def __init__(self, artifacts: Sequence[Artifact], threads: int | None):
        self._files = [(a, runners.open_file(a.runtime, a.path, threads)) for a in artifacts]

    def time(self) -> list[float]:
        """Seconds that each file takes: the least of a few runs on zeros, after one."""
        seconds = []
        for artifact, runner in self._files:
            zeros = tuple(
                np.zeros((artifact.batch, *s.shape[1:]), s.dtype) for s in artifact.signature.inputs
            )
            artifact.run_on(runner, *zeros)
            ns = []
            for _ in range(WARM_RUNS):
                begin = time.perf_counter_ns()
                artifact.run_on(runner, *zeros)
                ns.append(time.perf_counter_ns() - begin)
            seconds.append(min(ns) / 1e9)
        return seconds

    def run(self, plan: Plan, arrays: Arrays) -> Arrays:
        """Run any number of samples, by `plan`."""
        n = len(arrays[0])
        artifact, runner = self._files[plan.first[n]]
        if n <= artifact.batch:
            return artifact.run_batch(runner, arrays)
        parts, at = [], 0
        while at < n:
            artifact, runner = self._files[plan.first[n - at]]
            chunk = tuple(array[at : at + artifact.batch] for array in arrays)
            parts.append(artifact.run_batch(runner, chunk))
            at += artifact.batch
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


@dataclass(eq=False)
class Job:
    """A request that waits."""

    arrays: Arrays
    answer: asyncio.Future[Arrays]
    deadline: float  # on the event loop's clock
    samples: int = field(init=False)

    def __post_init__(self) -> None:
        self.samples = len(self.arrays[0])


class Lane:
    """One version of a model, ready to run. `infer` is called on the event loop alone.

    Attributes:
        name, version: of the model.
        signature: what goes in and out.
        runtime: that runs it.
        plan: how many samples run how.
        inline: whether it runs on the event loop's thread.
        runs, samples, seconds: inferences so far, samples in them, and the time that they took.
    """

    def __init__(
        self,
        name: str,
        version: str,
        signature: Signature,
        runtime: str,
        instances: Sequence[Instance],
        plan: Plan,
        limits: Limits,
    ):
        self.name, self.version, self.signature, self.runtime = name, version, signature, runtime
        self.model = {"model_name": name, "model_version": version}
        self.plan = plan
        self.inline = len(instances) == 1 and plan.seconds[0] <= INLINE_SECONDS
        self.runs, self.samples, self.seconds = 0, 0, 0.0
        self._limits, self._instances = limits, instances
        self._queue: deque[Job] = deque()
        self._fresh = True  # nothing ran since the loop last looked at its sockets
        self._closed = False
        self._wake = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take requests from this loop."""
        self._loop = loop
        if not self.inline:
            for instance in self._instances:
                thread = threading.Thread(target=self._serve, args=(instance,), daemon=True)
                thread.start()
                self._threads.append(thread)

    async def infer(self, arrays: Arrays) -> Arrays:
        """Run arrays that fit the signature.

        Raises:
            Refused: 429 when too many wait already, 503 when the lane is closed, 504 when it
                waited too long, 500 when the runtime failed.
        """
        if self._closed:
            raise Refused(503, f"version {self.version} of '{self.name}' is served no more")
        if self.inline and self._fresh and not self._queue:
            self._fresh = False
            self._loop.call_soon(self._turn)
            try:
                return self._run(self._instances[0], arrays)
            except Exception as error:
                raise self._failure(error) from None
        if len(self._queue) >= self._limits.waiting:
            raise Refused(429, f"{len(self._queue)} requests wait for '{self.name}': try later")
        deadline = self._loop.time() + self._limits.run_seconds
        job = Job(arrays, self._loop.create_future(), deadline)
        self._queue.append(job)
        if not self.inline:
            self._wake.release()
        return await job.answer

    def expire(self) -> None:
        """Give up the requests that have waited for too long."""
        now = self._loop.time()
        while self._queue and self._queue[0].deadline < now:
            reason = f"'{self.name}' was busy for {self._limits.run_seconds:g} s"
            _fail(self._queue.popleft(), Refused(504, reason))

    def close(self) -> None:
        """End the threads once nothing waits any more; the last requests are answered."""
        self._closed = True
        for _ in self._threads:
            self._wake.release()

    def _turn(self) -> None:
        """After a look at the sockets: run those that wait longest, or be ready for the next."""
        batch = self._take()
        if not batch:
            self._fresh = True
            return
        self._loop.call_soon(self._turn)
        self._settle(batch, *self._try(self._instances[0], batch))

    def _serve(self, instance: Instance) -> None:
        """What each thread does."""
        while True:
            self._wake.acquire()
            batch = self._take()
            if batch:
                outcome = self._try(instance, batch)
                self._loop.call_soon_threadsafe(self._settle, batch, *outcome)
            elif self._closed and not self._queue:
                return

    def _take(self) -> list[Job]:
        """The job that waits longest, and those behind it that it pays to run with it."""
        batch: list[Job] = []
        samples = 0
        while self._queue:
            try:
                job = self._queue.popleft()
            except IndexError:  # another thread was faster
                break
            if job.answer.cancelled():
                continue
            if batch and not self.plan.pays(samples, job.samples):
                self._queue.appendleft(job)
                break
            batch.append(job)
            samples += job.samples
        return batch

    def _try(self, instance: Instance, batch: list[Job]) -> tuple[Arrays | None, Exception | None]:
        try:
            if len(batch) == 1:
                return self._run(instance, batch[0].arrays), None
            joined = zip(*(job.arrays for job in batch), strict=True)
            return self._run(instance, tuple(np.concatenate(a) for a in joined)), None
        except Exception as error:
            return None, error

    def _run(self, instance: Instance, arrays: Arrays) -> Arrays:
        begin = time.perf_counter()
        outputs = instance.run(self.plan, arrays)
        self.seconds += time.perf_counter() - begin
        self.runs += 1
        self.samples += len(arrays[0])
        return outputs

    def _settle(self, batch: list[Job], outputs: Arrays | None, error: Exception | None) -> None:
        """Answer each job of a batch; on the event loop."""
        at = 0
        for job in batch:
            if error is not None:
                _fail(job, self._failure(error))
            elif not job.answer.done():
                job.answer.set_result(tuple(o[at : at + job.samples] for o in outputs))
            at += job.samples

    def _failure(self, error: Exception) -> Refused:
        """What clients are told; a message that is not ours may quote the input."""
        reason = str(error) if isinstance(error, EdgewiseError) else type(error).__name__
        return Refused(500, f"running '{self.name}' failed: {reason}")


def open_lane(
    name: str,
    version: str,
    artifacts: Sequence[Artifact],
    limits: Limits,
    *,
    threads: int | None = None,
    instances: int = 1,
) -> Lane:
    """Open every file, run each to see that it works and how long it takes.

    Args:
        name, version: under which it will be served.
        artifacts: the same model for different batches.
        limits: of the server.
        threads: of the runtime, for each instance.
        instances: how many inferences may run at the same time.

    Raises:
        MissingExtra, ModelError, RuntimeFailure: a file that cannot be opened or run.
    """
    opened = [Instance(artifacts, threads) for _ in range(instances)]
    seconds = [instance.time() for instance in opened]  # each is tried
    plan = Plan.of([a.batch for a in artifacts], seconds[0], limits.samples)
    first = artifacts[0]
    return Lane(name, version, first.signature, first.runtime, opened, plan, limits)


def _fail(job: Job, refused: Refused) -> None:
    if not job.answer.done():
        job.answer.set_exception(refused)

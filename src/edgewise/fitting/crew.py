"""Crew: who carries out tasks: this process, others on this machine, or a Ray cluster.

All three are asked for futures; a worker that dies loses only its task, which is tried again.
"""

from __future__ import annotations

import pickle
import signal
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import EdgewiseError, InputError, MissingExtra
from ..loading import load
from ..metric import Metric
from ..model import Model
from .cache import Cache
from .making import Made, Maker, Task
from .quiet import Quiet
from .roles import Roles

__all__ = ["Crew", "Orders", "crew_of"]

TRIES = 3  # of a task whose worker dies


class Crew(Protocol):
    """Attributes: size: tasks that are carried out at the same time."""

    size: int

    def submit(self, task: Task) -> Future[Made]:
        """Begin one task."""
        ...

    def close(self) -> None:
        """Stop at once whatever is still being done."""
        ...


@dataclass(frozen=True)
class Orders:
    """All that a worker in another process needs to know.

    Attributes:
        model: the given one, as the bytes of a ``.pt2`` file.
        threads: of torch, for each worker.
        locks: the folder of the machine's locks; None on machines of their own.
    """

    model: bytes
    roles: Roles
    metric: str | Metric
    cache: Path
    threads: int
    locks: Path | None

    def maker(self) -> Maker:
        """The worker's own."""
        torch.set_num_threads(self.threads)
        cache = Cache.at(self.cache)
        return Maker(
            _opened(self.model), self.roles, self.metric, cache, Quiet(self.locks or cache.path)
        )


def crew_of(maker: Maker, workers: int, ray: str | None, metric: str | Metric, locks: Path) -> Crew:
    """The crew that was asked for.

    Args:
        maker: of this process.
        workers: how many work at the same time.
        ray: the address of a cluster, ``"auto"`` for the one that runs here, or None.

    Raises:
        InputError: the data or the metric cannot be sent to another process.
        MissingExtra: pebble or Ray is not installed.
    """
    if workers == 1 and ray is None:
        return Here(maker)
    threads = max(1, maker.threads // workers)
    orders = Orders(_bytes_of(maker.model), maker.roles, metric, maker.cache.path, threads, locks)
    try:
        text = pickle.dumps(orders)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the data or the metric cannot be sent to another process ({error}): use 1 worker, or "
            "functions that a module defines"
        ) from None
    if ray is None:
        return Processes(text, workers)
    return Cluster(text, workers, ray, maker.cache)


class Here:
    """This process, one task after the other."""

    size = 1

    def __init__(self, maker: Maker):
        self.maker = maker

    def submit(self, task: Task) -> Future[Made]:
        future: Future[Made] = Future()
        try:
            future.set_result(self.maker(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        pass


class Processes:
    """Processes on this machine."""

    def __init__(self, orders: bytes, workers: int):
        try:
            from pebble import ProcessPool
        except ImportError:
            raise MissingExtra("pebble, which runs several workers,", "fit") from None
        self.size = workers
        self._pool = ProcessPool(
            max_workers=workers,
            initializer=_begin,
            initargs=(orders,),
            context=get_context("spawn"),
        )

    def submit(self, task: Task) -> Future[Made]:
        from pebble import ProcessExpired

        future: Future[Made] = Future()

        def begin(tries: int) -> None:
            self._pool.schedule(_carry_out, args=(task,)).add_done_callback(
                lambda done: end(done, tries)
            )

        def end(done: Future[Made], tries: int) -> None:
            if done.cancelled():
                future.cancel()
                return
            error = done.exception()
            if isinstance(error, ProcessExpired) and tries < TRIES:
                begin(tries + 1)
            elif isinstance(error, ProcessExpired):
                future.set_exception(_died(TRIES))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        begin(1)
        return future

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


class Cluster:
    """A Ray cluster: tasks go where there is a processor.

    Workers on other machines keep a cache of their own; the file comes back with the answer.
    """

    def __init__(self, orders: bytes, workers: int, address: str, cache: Cache):
        try:
            import ray
        except ImportError:
            raise MissingExtra("Ray, which spreads trials over machines,", "ray") from None
        self._ray, self.size, self._cache = ray, workers, cache
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"no Ray cluster answers at '{address}' ({error}): start one with `ray start "
                    "--head`, or leave --ray out"
                ) from None
        self._orders = ray.put(orders)
        self._home = ray.get_runtime_context().get_node_id()
        self._task = ray.remote(max_retries=TRIES - 1, num_cpus=1)(_on_cluster)

    def submit(self, task: Task) -> Future[Made]:
        future: Future[Made] = Future()

        def end(done: Future[Any]) -> None:
            error = done.exception()
            if isinstance(error, self._ray.exceptions.RayTaskError):
                future.set_exception(getattr(error, "cause", None) or error)
            elif error is not None:
                future.set_exception(_died(TRIES))
            else:
                future.set_result(_received(*done.result(), self._cache))

        self._task.remote(self._orders, task, self._home).future().add_done_callback(end)
        return future

    def close(self) -> None:
        self._ray.shutdown()


def _died(times: int) -> EdgewiseError:
    return EdgewiseError(f"the worker died {times} times over it")


_maker: Maker | None = None  # of this worker process


def _begin(orders: bytes) -> None:
    """Once a worker process. Ctrl-C is for who gave the orders."""
    global _maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _maker = pickle.loads(orders).maker()


def _carry_out(task: Task) -> Made:
    return _maker(task)


def _on_cluster(orders: bytes, task: Task, home: str) -> tuple[Made, dict[str, bytes]]:
    """In a process that Ray started, perhaps on another machine; the file's bytes if so."""
    import ray

    global _maker
    here = ray.get_runtime_context().get_node_id() == home
    if _maker is None:
        told: Orders = pickle.loads(orders)
        _maker = (told if here else replace(told, cache=None, locks=None)).maker()
    made = _maker(task)
    if here:
        return made, {}
    folder = made.artifact.path.parent
    names = [*made.artifact.files, f"{made.artifact.path.name}.json"]
    return made, {name: (folder / name).read_bytes() for name in names}


def _received(made: Made, files: dict[str, bytes], cache: Cache) -> Made:
    """The same with its file on this machine."""
    if not files:
        return made
    with cache.claimed(made.artifact.path.parent.name) as place:
        for name, data in files.items():
            (place / name).write_bytes(data)
    return replace(made, artifact=replace(made.artifact, path=place / made.artifact.path.name))


def _bytes_of(model: Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return model.save(Path(folder) / "model.pt2").read_bytes()


def _opened(data: bytes) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        path.write_bytes(data)
        return load(path)

"""Which runtimes work on a machine, each tried in a process of its own.

A runtime whose build is too new for the processor kills the process that imports it, so that
nothing can be learnt from inside: the process that tries it is not this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, MissingExtra, ModelError, RuntimeFailure
from .place import HERE, Place
from .runners import RUNTIMES, files, lacks_wheels
from .specimen import path_of
from .worker import Worker

__all__ = ["Probe", "describe", "examine"]


@dataclass(frozen=True)
class Probe:
    """What came of importing one runtime and running a small int8 net on it.

    Attributes:
        runtime: its name.
        state: ``"works"``, ``"missing"`` (not installed) or ``"broken"`` (installed, but it fails,
            hangs or kills its process).
        version: where it works.
        problem: where it does not: what happened and what to do.
    """

    runtime: str
    state: str
    version: str | None = None
    problem: str | None = None


def examine(
    names: Iterable[str] = tuple(RUNTIMES), *, timeout: float = 60.0, place: Place = HERE
) -> tuple[Probe, ...]:
    """Try each of these runtimes at this place; `timeout` is in seconds for one of them."""
    return tuple(_examine(name, timeout, place) for name in names)


def describe(place: Place = HERE, *, timeout: float = 60.0) -> dict[str, Any]:
    """The machine there, as `machine.describe`; no runtime is imported for it."""
    name = next(iter(RUNTIMES))
    with Worker(name, timeout=timeout, command=place.command(name)) as worker:
        return place.machine(worker.ask(describe=name)["machine"])


def _examine(name: str, timeout: float, place: Place) -> Probe:
    try:
        command = place.command(name)
    except InputError as error:
        return Probe(name, "missing", problem=str(error))
    with Worker(name, timeout=timeout, command=command) as worker:
        try:
            version = worker.ask(probe=name)["version"]
            there = [place.send(part) for part in files(name, path_of(name))]
            worker.ask(specimen=there[0])
            return Probe(name, "works", version=version)
        except MissingExtra as error:
            return Probe(name, "missing", problem=_lacks(name, worker) or str(error))
        except (ModelError, RuntimeFailure) as error:
            return Probe(name, "broken", problem=str(error))


def _lacks(name: str, worker: Worker) -> str | None:
    """Why pip would find no wheel there; known of Linux only."""
    found = worker.ask(describe=name)["machine"]
    if not found["kernel"].startswith("Linux"):
        return None
    return lacks_wheels(name, found["architecture"], found.get("libc", ""))

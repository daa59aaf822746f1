"""Where the time of an inference goes, by each runtime's own profiler: one file a runtime.

A module has ``profile(path, threads, feeds, runs) -> list of runs``, each of them the operators as
they ran, with the microseconds of each. `profile` puts the runs together.
"""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import runners

__all__ = ["Operator", "profile"]

SLOWEST = 0.25  # of an operator's runs that are left out: what the machine did meanwhile


@dataclass(frozen=True)
class Operator:
    """What one operator of a file took.

    Attributes:
        name: as the file names it; empty where the runtime keeps no names.
        kind: the runtime's own word (``"QLinearConv"``, ``"Convolution (NHWC, QC8) IGEMM"``).
        kernel: what ran it, as far as the runtime says: ``"XNNPACK"``, ``"brgconv_avx512_I8"``.
        us: microseconds of one inference.
        inputs: dtypes of what it reads, where the runtime says.
        fallback: whether the runtime's fast path did not take it.
    """

    name: str
    kind: str
    kernel: str
    us: float
    inputs: tuple[str, ...] = ()
    fallback: bool = False


def profile(
    name: str, path: Path, threads: int, feeds: Iterator[tuple[np.ndarray, ...]], runs: int
) -> tuple[Operator, ...]:
    """Each operator of a file in the order in which they ran, with its mean over the runs.

    The slowest quarter of each operator's runs is left out.

    Args:
        name: of the runtime.
        feeds: inputs as the file takes them, without an end.
        runs: inferences to profile, at least 1, after a few that are not counted.

    Raises:
        MissingExtra: the runtime is not installed.
        ModelError: the runtime cannot read the file.
    """
    module = importlib.import_module(f".{runners.get(name).module}", __name__)
    times: dict[tuple, list[float]] = defaultdict(list)
    first: dict[tuple, Operator] = {}
    for run in module.profile(path, threads, feeds, runs):
        seen: Counter[tuple[str, str]] = Counter()
        for operator in run:
            key = operator.name, operator.kind
            place = (*key, seen[key])  # an operator without a name of its own, by its turn
            seen[key] += 1
            first.setdefault(place, operator)
            times[place].append(operator.us)
    return tuple(replace(first[place], us=_typical(us)) for place, us in times.items())


def _typical(us: Sequence[float]) -> float:
    kept = sorted(us)[: max(1, len(us) - int(len(us) * SLOWEST))]
    return float(np.mean(kept))

"""OpenVINO's performance counters: one for each node of the compiled graph and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..runners import openvino as runner
from . import Operator

__all__ = ["profile"]

WARM = 3  # runs that are not counted
REFERENCE = "ref"  # how the names of kernels begin that are written for no processor


def profile(
    path: Path, threads: int, feeds: Iterator[tuple[np.ndarray, ...]], runs: int
) -> list[list[Operator]]:
    """The nodes of the compiled graph; see `edgewise.edge.profilers.profile`."""
    opened = runner.open(path, threads, counting=True)
    found = []
    for _ in range(WARM + runs):
        opened.run(*next(feeds))
        counters = opened.counters()
        found.append([_operator(c) for c in counters if str(c.status).endswith("EXECUTED")])
    return found[WARM:]


def _operator(counter: Any) -> Operator:
    return Operator(
        name=counter.node_name,
        kind=counter.node_type,
        kernel=counter.exec_type,
        us=counter.real_time.total_seconds() * 1e6,
        fallback=counter.exec_type.startswith(REFERENCE),
    )

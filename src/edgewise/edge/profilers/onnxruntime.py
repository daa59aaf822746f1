"""ONNX Runtime's session profile: a trace of events, one for each node and run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..runners import onnxruntime as runner
from . import Operator

__all__ = ["profile"]

WARM = 3  # runs that are not counted
SUFFIX = "_kernel_time"


def profile(
    path: Path, threads: int, feeds: Iterator[tuple[np.ndarray, ...]], runs: int
) -> list[list[Operator]]:
    """The nodes of the optimized graph; see `edgewise.edge.profilers.profile`."""
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        options = runner.options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = runner.session(path, options)
        names = [value.name for value in session.get_inputs()]
        for _ in range(WARM + runs):
            session.run(None, dict(zip(names, next(feeds), strict=True)))
        events = json.loads(Path(session.end_profiling()).read_text())
    return _runs(events)[WARM:]


def _runs(events: list[dict[str, Any]]) -> list[list[Operator]]:
    """The trace in order of time, cut where a run begins."""
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(SUFFIX)]
    ends = [e["ts"] + e["dur"] for e in events if e["name"] == "model_run"]
    found: list[list[Operator]] = [[] for _ in ends]
    for event in nodes:
        run = sum(end <= event["ts"] for end in ends) if len(ends) > 1 else 0
        if run < len(found):
            found[run].append(_operator(event))
    return found


def _operator(event: dict[str, Any]) -> Operator:
    arguments = event["args"]
    return Operator(
        name=event["name"].removesuffix(SUFFIX),
        kind=arguments["op_name"],
        kernel=arguments["provider"].removesuffix("ExecutionProvider"),
        us=float(event["dur"]),
        inputs=tuple(dtype for value in arguments["input_type_shape"] for dtype in value),
    )

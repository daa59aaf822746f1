"""explain: where the time of an artifact goes, what fell off the fast path, and what to change.

Everything is read off the runtime's own profiler (`edgewise.edge.profilers`), so that files of
other tools are explained as well as those that `edgewise.lower` wrote. Free of torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..devices import connect
from ..edge import profiling
from ..edge.artifact import Artifact
from ..edge.place import Place
from ..errors import InputError
from .findings import Finding, findings
from .trace import Trace

__all__ = ["Explanation", "OperatorTime", "explain"]

# How a lowering of edgewise names what an operator gives: the layer, and what makes it unique.
LAYERS: dict[str, Callable[[str], str]] = {
    "onnxruntime": lambda name: name.partition("/")[0],
    "openvino": lambda name: name.partition("/")[0],
    "litert": lambda name: name.rpartition(";")[0],
}


@dataclass(frozen=True)
class OperatorTime:
    """What one operator takes.

    Attributes:
        layer: the Model's name for it, where the artifact is edgewise's and names survived; else
            the file's name; empty where the runtime keeps none.
        kind: the runtime's word for it.
        kernel: what ran it.
        us: microseconds of one inference.
        share: of what all operators take.
        fallback: whether the runtime's fast path did not take it.
    """

    layer: str
    kind: str
    kernel: str
    us: float
    share: float
    fallback: bool


@dataclass(frozen=True)
class Explanation:
    """Where the time of one file goes.

    Attributes:
        latency_ms: of one inference without the profiler, the median.
        operators: in the order in which they run. Their times are those under the profiler, which
            adds to each; ONNX Runtime and LiteRT count whole microseconds.
        findings: what costs time and what to change, the dearest first.
    """

    subject: str
    runtime: str
    version: str
    threads: int
    runs: int
    device: str
    latency_ms: float
    operators: tuple[OperatorTime, ...]
    findings: tuple[Finding, ...]


def explain(
    subject: Artifact | str | os.PathLike[str],
    *,
    inputs: tuple[np.ndarray, ...] | None = None,
    runs: int = 50,
    threads: int | None = 1,
    timeout: float = 120.0,
    device: str | Place = "local",
) -> Explanation:
    """Profile an artifact on its runtime, in a process of its own, and say what slows it down.

    Args:
        subject: an Artifact, or any ``.onnx``, ``.tflite``, ``.pte`` or ``.xml`` file.
        inputs: real inputs as the signature has them; by default random numbers.
        runs: inferences to profile.
        threads: of the runtime; one tells most about the kernels.
        timeout: seconds that opening the file or a single inference may take.
        device: where to profile, as `edgewise.measure` takes it; not an emulated one.

    Raises:
        InputError: no run, inputs that do not fit, or a device whose clock tells nothing.
        DeviceError: the device cannot be reached.
        MissingExtra, ModelError: the runtime is not installed, or cannot open the file.
        RuntimeFailure: the runtime crashed or hung, or its build has no profiler.
    """
    if runs < 1:
        raise InputError(f"runs must be at least 1, found {runs}")
    with connect(device) as place:
        if not place.timed:
            raise InputError(
                f"{place.name} is emulated, where time means nothing: explain on a real device"
            )
        found = profiling.profile(
            subject, inputs=inputs, runs=runs, threads=threads, timeout=timeout, place=place
        )
    trace = Trace(found.runtime, found.machine, found.operators)
    names = LAYERS.get(found.runtime) if found.ours else None
    return Explanation(
        subject=found.subject,
        runtime=found.runtime,
        version=found.version,
        threads=found.threads,
        runs=runs,
        device=place.name,
        latency_ms=found.latency_ms,
        operators=tuple(
            OperatorTime(
                layer=names(o.name) if names else o.name,
                kind=o.kind,
                kernel=o.kernel,
                us=o.us,
                share=o.us / (trace.us or 1.0),
                fallback=o.fallback,
            )
            for o in trace.operators
        ),
        findings=findings(trace, names or str),
    )

"""Proof: the chosen file measured once more, on samples that chose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..compress.judge import Judge
from ..data import Data
from ..edge.artifact import Artifact
from ..edge.place import Place
from ..errors import EdgewiseError
from ..explaining import Explanation, explain
from ..goals import Budget, Figures
from ..graph.canonical import FAKE_QUANTIZE, layer, recorded_shapes
from ..graph.cost import macs
from ..graph.fold import CONVOLUTIONS, constant, fold
from ..measuring import compare
from ..model import Model
from ..run import Classes, LayerChange, Proof
from .quiet import Quiet
from .roles import Roles

__all__ = ["prove"]

RUNS = 700
MOST_CLASSES = 100  # that a page shows
BATCH = 64


def prove(
    model: Model,
    small: Model,
    files: tuple[Artifact, Artifact],
    figures: Figures,
    budget: Budget,
    roles: Roles,
    *,
    metric: str,
    place: Place,
    threads: int | None,
    quiet: Quiet,
    watch: Callable[[str], None],
) -> Proof:
    """Measure the reference and the chosen file in turns, and judge both on the test samples.

    Args:
        model, small: as given and as chosen.
        files: of both.
        figures: of the chosen one, as the search has them; what is measured here replaces them.

    Raises:
        EdgewiseError: the device or a runtime fails.
    """
    watch(f"testing on {len(roles.test)} samples that chose nothing")
    judge = Judge(model, roles.test, metric)
    tested = judge(files[1].run)
    data = Data(evaluation=roles.test) if roles.labelled else None
    with quiet.measuring():
        found = compare(*files, data=data, metric=metric, runs=RUNS, threads=threads, device=place)
        watch("profiling")
        explained, unexplained = _explained(files, place, threads)
    before, after = found.measurements
    difference = found.differences[1]
    figures = replace(
        figures,
        value=tested.value, drop=tested.drop, drop_ci95=tested.drop_ci95, n=tested.n,
        ratio=difference.latency, ratio_ci95=difference.latency_ci95,
        latency_ms=after.latency_ms and getattr(after.latency_ms, budget.percentile),
        memory_bytes=after.memory_bytes, energy_mj=after.energy_mj,
    )  # fmt: skip
    if not roles.labelled:
        before, after = (
            replace(m, metric=judge.name, value=value, n=tested.n)
            for m, value in ((before, judge.value), (after, tested.value))
        )
    return Proof(
        before,
        after,
        figures,
        budget.verdicts(figures),
        _layers(model, small, explained),
        _classes(model, files[1], roles),
        explained,
        unexplained,
    )


def _explained(
    files: tuple[Artifact, ...], place: Place, threads: int | None
) -> tuple[tuple[Explanation, ...], str]:
    """Of all files; else none, and why: a runtime has no profiler, or time means nothing there."""
    try:
        return tuple(explain(file, threads=threads or 1, device=place) for file in files), ""
    except EdgewiseError as error:
        return (), str(error)


def _layers(
    model: Model, small: Model, explained: tuple[Explanation, ...]
) -> tuple[LayerChange, ...]:
    before, after = _weights(model), _weights(small)
    times = [{o.layer: o.us for o in e.operators} for e in explained] or [{}, {}]
    found = []
    for name, (shape, count, _, _) in before.items():
        now = after.get(name)
        found.append(
            LayerChange(
                name,
                (shape, now and now[0]),
                (count, now[1] if now else 0),
                now[2] if now else 0,
                now[3] if now else 0.0,
                (times[0].get(name), times[-1].get(name) if now else None),
            )
        )
    return tuple(found)


def _weights(model: Model) -> dict[str, tuple[tuple[int, ...], int, int, float]]:
    """Layer -> shape of its weight, multiply-accumulates, bits, share of zeros."""
    module = model.graph if model.quantized else fold(model.module())
    known = recorded_shapes(module, model.signature)
    found = {}
    for node in module.graph.nodes:
        if node.target not in CONVOLUTIONS:
            continue
        source, bits = node.args[1], 32
        weight = constant(module, source)
        if source.target is FAKE_QUANTIZE:
            levels = source.args[4] - source.args[3] + 1
            bits, weight = int(np.ceil(np.log2(levels))), constant(module, source.args[0])
        if weight is None:
            continue
        zeros = float((weight == 0).float().mean())
        count = (macs(node, known.get) or 0) // 3  # recorded at batch 3
        found[layer(node)] = tuple(weight.shape), count, bits, zeros
    return found


def _classes(model: Model, file: Artifact, roles: Roles) -> Classes | None:
    """Which class was taken for which, where targets are classes and not too many."""
    spec = model.signature.outputs[0]
    count = spec.shape[-1] if len(spec.shape) == 2 else None
    if not roles.labelled or not count or not 2 <= count <= MOST_CLASSES:
        return None
    counts = np.zeros((2, count, count), np.int64)
    for inputs, targets in roles.test.batches(BATCH):
        if targets.dtype.kind not in "iu" or targets.ndim != 1:
            return None
        for k, run in enumerate((model, file.run)):
            outputs = run(*inputs)
            first = outputs[0] if isinstance(outputs, tuple) else outputs
            np.add.at(counts[k], (targets, first.argmax(1)), 1)
    labels = model.signature.labels or tuple(map(str, range(count)))
    before, after = (tuple(tuple(map(int, row)) for row in part) for part in counts)
    return Classes(tuple(labels), before, after)

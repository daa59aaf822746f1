"""measure and compare: what models and artifacts are worth, and under which conditions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data import Split, load_data
from .devices import connect
from .devices.opened import Opened
from .edge import benchmark, machine
from .edge.artifact import Artifact
from .edge.benchmark import Progress, Timing
from .edge.place import HERE, Place
from .errors import InputError
from .metric import Metric, Score, Tally, get_metric, paired_drop
from .record import Difference, Measurement

if TYPE_CHECKING:
    from .model import Model

    Subject = Model | Artifact | str | os.PathLike[str]

__all__ = ["Comparison", "compare", "measure"]

BATCH = 64  # samples that are judged at a time
TIMEOUT = 300.0  # seconds to open a file, or for one inference: some devices are slow
BY_SAMPLE = ("accuracy", "top5")  # metrics of one right or wrong for each sample


@dataclass(frozen=True)
class Comparison:
    """Several subjects measured in one run.

    Attributes:
        measurements: one a subject, in the order given.
        differences: likewise; None of a subject that is compared with none.
    """

    measurements: tuple[Measurement, ...]
    differences: tuple[Difference | None, ...]


def measure(
    subject: Subject,
    data: Any = None,
    *,
    metric: str | Metric | Callable[..., Any] = "accuracy",
    runs: int = 700,
    threads: int | None = None,
    device: str | Place = "local",
    progress: Progress | None = None,
) -> Measurement:
    """Latency, memory, load time and size of an artifact, and its metric on real data.

    The metric is taken through the runtime itself. Of a Model only the metric is taken: it does
    not run on a device.

    Args:
        subject: an Artifact, a Model, or the file of either.
        data: `Data` or whatever `load_data` takes; the evaluation split is judged and timed.
            Without data there is no metric, and random inputs are timed.
        metric: as `edgewise.metric.get_metric` takes it.
        runs: inferences to time; a p90 takes 64 and a p99 662 of them.
        threads: of the runtime; by default as many as there are processors.
        device: where to measure: ``"local"`` is this machine; others as
            `edgewise.devices.connect` takes or gives them. There the metric is taken too, and up
            to 200 outputs are compared with those of the same file on this machine. Time on an
            emulated device means nothing: no latency is given.
        progress: called with the work done and in all, as it goes.

    Raises:
        InputError: the subject, the data or an option cannot be used.
        DeviceError: the device cannot be reached or made.
        MissingExtra: the runtime is not installed.
        RuntimeFailure: the runtime crashed or hung.
    """
    return compare(
        subject,
        data=data,
        metric=metric,
        runs=runs,
        threads=threads,
        device=device,
        progress=progress,
    ).measurements[0]


def compare(
    *subjects: Subject,
    data: Any = None,
    against: Sequence[int | None] | None = None,
    metric: str | Metric | Callable[..., Any] = "accuracy",
    runs: int = 700,
    threads: int | None = None,
    device: str | Place = "local",
    progress: Progress | None = None,
) -> Comparison:
    """Measure several subjects in one run, in turns; arguments and errors as of `measure`.

    Machines drift and samples differ in difficulty: the ratio of two latencies that were measured
    in turns, and the difference of two accuracies on the same samples, are known far better than
    two separate measurements would tell.

    Args:
        against: for each subject the position of the one that it is compared with, or None; by
            default all but the first are compared with the first.
    """
    if not subjects:
        raise InputError("nothing to measure: give a Model, an Artifact or a file")
    against = [None] + [0] * (len(subjects) - 1) if against is None else against
    metric = get_metric(metric)
    names, opened = zip(*map(_open, subjects), strict=True)
    splits = _splits(data, opened)
    artifacts = {k: s for k, s in enumerate(opened) if isinstance(s, Artifact)}
    samples = sum(len(split) for split in splits if split)
    total = len(artifacts) * runs + samples

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    with connect(device) as place, ExitStack() as stack:
        if place is not HERE and len(artifacts) < len(opened):
            raise InputError(f"a Model does not run on {place.name}: lower it, measure the file")
        # A runtime first runs in a process of its own, which it may kill, then in this one.
        timings = _time(artifacts, splits, runs if place.timed else 1, threads, report, place)
        there = _there(artifacts, place, threads, stack)
        runs_of = {k: _runs(subject, there.get(k)) for k, subject in enumerate(opened)}
        done, tallies = total - samples, {}
        for k, split in enumerate(splits):
            if split:
                tallies[k] = metric.tally()
                for inputs, targets in split.batches(BATCH):
                    tallies[k].update(runs_of[k](*inputs), targets)
                    done += len(inputs[0])
                    report(done)
            elif k in there:
                there[k].run(*benchmark.random_inputs(opened[k].signature, BATCH))
        conditions = [_conditions(there.get(k), timings.get(k)) for k in range(len(opened))]
        agreements = {k: o.agreement("data" if splits[k] else "random") for k, o in there.items()}
    scores = {k: tally.compute() for k, tally in tallies.items()}
    measurements = tuple(
        Measurement(
            subject=names[k],
            device=place.name,
            **_of_file(subject, timings.get(k), place),
            **_of_score(metric, scores.get(k)),
            device_agreement=agreements.get(k),
            **conditions[k],
        )
        for k, subject in enumerate(opened)
    )
    differences = tuple(
        None
        if other is None
        else Difference(
            to=names[other],
            **(_slower(timings.get(k), timings.get(other)) if place.timed else {}),
            **_worse(metric, tallies, scores, k, other),
        )
        for k, other in enumerate(against)
    )
    return Comparison(measurements, differences)


def _open(subject: Subject) -> tuple[str, Model | Artifact]:
    """What to call the subject, and the subject."""
    if isinstance(subject, Artifact):
        return str(subject.path), subject
    if not isinstance(subject, str | os.PathLike):
        return "model", subject
    if Path(subject).suffix == ".pt2":
        from .loading import load

        return str(subject), load(subject)
    return str(subject), Artifact.open(subject)


def _splits(data: Any, subjects: tuple[Model | Artifact, ...]) -> list[Split | None]:
    """For each subject the samples to judge it on, as its signature has them."""
    if data is not None:
        data = load_data(data, subjects[0].signature)
        return [data.fit(subject.signature).require("evaluation") for subject in subjects]
    if not all(isinstance(subject, Artifact) for subject in subjects):
        raise InputError("a Model is measured by its metric only: give data to judge it on")
    return [None] * len(subjects)


def _time(
    artifacts: dict[int, Artifact],
    splits: list[Split | None],
    runs: int,
    threads: int | None,
    report: Callable[[int], None],
    place: Place,
) -> dict[int, Timing]:
    if not artifacts:
        return {}
    timings = benchmark.benchmark(
        list(artifacts.values()),
        runs=runs,
        threads=threads,
        inputs=[splits[k] and splits[k].take(benchmark.FEEDS)[0] for k in artifacts],
        progress=lambda done, total: report(len(artifacts) * runs * done // total),
        place=place,
        timeout=TIMEOUT,
    )
    return dict(zip(artifacts, timings, strict=True))


def _there(
    artifacts: dict[int, Artifact], place: Place, threads: int | None, stack: ExitStack
) -> dict[int, Opened]:
    """The artifacts opened on the device; none where that is this machine."""
    if place is HERE:
        return {}
    return {k: stack.enter_context(Opened(a, place, threads)) for k, a in artifacts.items()}


def _runs(subject: Model | Artifact, there: Opened | None) -> Callable[..., Any]:
    if there is not None:
        return there.run
    return subject.run if isinstance(subject, Artifact) else subject


def _conditions(there: Opened | None, timing: Timing | None) -> dict[str, Any]:
    """On which machine, how it fared meanwhile, and with which versions."""
    found = there.machine if there else machine.describe()
    if timing is not None and any(timing.states):
        found = {**found, "meanwhile": list(timing.states)}
    return {"machine": found, "versions": there.versions if there else machine.versions()}


def _of_file(subject: Model | Artifact, timing: Timing | None, place: Place) -> dict[str, Any]:
    """The fields of a Measurement that only a file has."""
    if timing is None:
        return {"runtime": "torch"}
    found = {
        "runtime": subject.runtime,
        "memory_bytes": timing.memory_bytes,
        "size_bytes": subject.size_bytes,
        "agreement": subject.agreement,
    }
    if place.timed:
        found |= {"latency_ms": timing.latency, "load_ms": timing.load_ms,
                  "energy_mj": timing.energy_mj}  # fmt: skip
    return found


def _of_score(metric: Metric, score: Score | None) -> dict[str, Any]:
    if score is None:
        return {}
    return {"metric": metric.name, "value": score.value, "n": score.n, "ci95": score.ci95}


def _slower(timing: Timing | None, other: Timing | None) -> dict[str, Any]:
    if timing is None or other is None:
        return {}
    ratio = benchmark.compare(timing, other)
    return {"latency": ratio.value, "latency_ci95": ratio.ci95}


def _worse(
    metric: Metric, tallies: dict[int, Tally], scores: dict[int, Score], k: int, other: int
) -> dict[str, Any]:
    if k not in scores:
        return {}
    if metric.name in BY_SAMPLE:
        drop, ci95 = paired_drop(tallies[other].outcomes(), tallies[k].outcomes())
        return {"drop": drop, "drop_ci95": ci95}
    return {"drop": scores[other].value - scores[k].value}

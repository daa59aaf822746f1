"""Run: what `edgewise.fit` tried, chose and proved, as one record; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError
from .explaining import Explanation
from .goals import Budget, Figures, Verdict
from .record import Agreement, Curves, Measurement, decode

__all__ = [
    "FILE", "Arm", "Classes", "LayerChange", "Proof", "Run", "Samples", "Standing", "Trial",
    "read_run",
]  # fmt: skip

FILE = "run.json"  # in a run's folder


@dataclass(frozen=True)
class Trial:
    """One recipe, lowered to one runtime and measured on the samples that choose.

    Attributes:
        number: counted from 0.
        stage: of the search that asked for it.
        runtime, threads: what it was measured on.
        steps: the recipe, as `edgewise apply` reads it: a name and its fields each.
        figures: None where it failed.
        agreement: of the file with its Model.
        artifact: its file, relative to the run's folder, where it was kept.
        seconds: what it took; steps that had been done before took none.
        reason: why it failed.
    """

    number: int
    stage: str
    runtime: str
    threads: int | None = None
    steps: tuple[dict[str, Any], ...] = ()
    figures: Figures | None = None
    agreement: Agreement | None = None
    artifact: str | None = None
    seconds: float = 0.0
    reason: str = ""

    def __post_init__(self):
        for step in self.steps:
            if len(step) != 1 or not all(isinstance(v, dict) for v in step.values()):
                raise InputError(
                    f"trial {self.number}: a step is one name with its fields, found {step!r:.80}"
                )

    @property
    def name(self) -> str:
        """Its steps and its runtime, in a few words."""
        return f"{' + '.join(map(_told, self.steps)) or 'float'} on {self.runtime}"


@dataclass(frozen=True)
class Samples:
    """How many samples served what.

    Attributes:
        calibration, training: what steps look at and learn from.
        selection: what trials were chosen on.
        test: what the figures of the verdict are from; looked at once, after the choice.
        labelled: whether selection and test have targets; without, the given model's own
            probabilities judge.
    """

    calibration: int
    training: int
    selection: int
    test: int
    labelled: bool


@dataclass(frozen=True)
class Arm:
    """The chosen recipe with one thing changed: what each step gave, and what chance would have.

    Attributes:
        name: ``"without prune"``, ``"random units"``, ``"trained from scratch"`` ...
        trial: of which the figures are; None where it was not run.
        reason: why it was not run, or failed.
    """

    name: str
    trial: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class LayerChange:
    """One layer before and after.

    Attributes:
        layer: its name in the given model.
        shape: of its weight, (before, after); None after where it is gone.
        macs: of one sample, (before, after).
        bits: of its weight in the file, after.
        sparsity: share of zeros in its weight, after.
        us: microseconds on the runtime, (before, after), where its profiler names the layer.
    """

    layer: str
    shape: tuple[tuple[int, ...], tuple[int, ...] | None]
    macs: tuple[int, int]
    bits: int
    sparsity: float
    us: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Classes:
    """Which classes were taken for which, on the test samples.

    Attributes:
        labels: names in the order of the outputs.
        before, after: counts, row = true class, column = predicted class.
    """

    labels: tuple[str, ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        for counts in (self.before, self.after):
            if {len(counts), *map(len, counts)} - {len(self.labels)}:
                raise InputError(
                    f"the counts of {len(self.labels)} classes need as many rows and columns"
                )


@dataclass(frozen=True)
class Proof:
    """What was measured of the chosen file, and of the given model, after the choice.

    Attributes:
        before, after: the given model in float on the reference runtime, and the chosen file,
            measured in turns; their metric is on the test samples.
        figures: of the chosen file.
        verdicts: one for each budget.
        layers: in the order of the graph.
        classes: where the metric is of classes.
        explained: where the time goes on the runtime, (before, after), or nothing.
        unexplained: why that is not known; empty where it is.
    """

    before: Measurement
    after: Measurement
    figures: Figures
    verdicts: tuple[Verdict, ...]
    layers: tuple[LayerChange, ...] = ()
    classes: Classes | None = None
    explained: tuple[Explanation, ...] = ()
    unexplained: str = ""


@dataclass(frozen=True)
class Run:
    """Everything that a fit found.

    Attributes:
        model: what was given, in words.
        created: when it ended, ISO 8601 in UTC.
        budget, objective, seed: as asked.
        samples: how many served what.
        metric: by which accuracy was judged.
        device: where latency was measured.
        trials: in the order in which they were asked for.
        reference: number of the trial that all latencies are compared with: the given model in
            float.
        best: number of the chosen trial; None where none could be run.
        front: numbers of the trials that no other one beats in drop, latency and size at once.
        runners_up: numbers of the next best, whose artifacts are kept.
        proof: of the chosen one.
        arms: ablation and controls.
        curves: how the given model bears the pruning of each group, where that was asked.
        stopped: why the search ended.
        seconds: what all took, over every start of the same run.
        notes: what a reader should know, a sentence each.
        commands: what makes the same again.
    """

    model: str
    created: str
    budget: Budget
    objective: str
    seed: int
    samples: Samples
    metric: str
    device: str
    trials: tuple[Trial, ...]
    reference: int | None = None
    best: int | None = None
    front: tuple[int, ...] = ()
    runners_up: tuple[int, ...] = ()
    proof: Proof | None = None
    arms: tuple[Arm, ...] = ()
    curves: tuple[Curves, ...] = ()
    stopped: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format: int = 1

    def __post_init__(self):
        known = {trial.number for trial in self.trials}
        named = {self.reference, self.best, *self.front, *self.runners_up}
        named |= {arm.trial for arm in self.arms}
        if missing := named - known - {None}:
            raise InputError(f"the run names trial {min(missing)}, which it does not have")

    def trial(self, number: int) -> Trial:
        """The trial of that number."""
        return next(trial for trial in self.trials if trial.number == number)

    @property
    def holds(self) -> bool:
        """Whether every budget holds."""
        return self.proof is not None and all(v.holds for v in self.proof.verdicts)


@dataclass(frozen=True)
class Standing:
    """Where a search stands, to show while it goes on.

    Attributes:
        stage: of the search.
        done, failed: trials that ended with figures, and without.
        limits: the best so far against each budget; empty before the first trial has ended.
        best: its name.
        seconds: since this start; `limit` is what the user gave it, None for no limit.
        doing: what each worker does now.
    """

    stage: str
    done: int = 0
    failed: int = 0
    limits: tuple[Verdict, ...] = ()
    best: str = ""
    seconds: float = 0.0
    limit: float | None = None
    doing: tuple[str, ...] = ()


def read_run(path: Path) -> Run:
    """The record of a run, from its folder or its file.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist: give the folder that `edgewise fit -o` wrote")
    return decode(file.read_bytes(), Run, str(file))


def _told(step: dict[str, Any]) -> str:
    ((name, fields),) = step.items()
    told = {
        k: v
        for k, v in fields.items()
        if isinstance(v, str | int | float) and not isinstance(v, bool)
    }
    first = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in list(told.values())[:2])
    return f"{name} {first}" if first else name

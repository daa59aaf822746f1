"""Ladder: quantize, and climb from the cheap remedies to the dear ones until the accuracy holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..data import Data, as_data
from ..errors import InputError
from ..model import Model
from ..record import Event
from .equalize import Equalize
from .judge import judge_on
from .quantize import Quantize
from .round_weights import RoundWeights
from .samples import together
from .sensitivity import Sensitivity, relief

__all__ = ["Climb", "Ladder", "Rung"]

# Shares of the layers that are kept float, rung after rung.
RELIEVED = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
DIAGNOSED = 32  # samples on which layers are compared


@dataclass(frozen=True)
class Rung:
    """One remedy that was tried.

    Attributes:
        name: of the remedy.
        drop: what the model then loses, in points (higher-is-worse, of the metric or, without
            targets, of the predictions that the float model makes).
        kept: whether it helped and the next rung builds on it.
    """

    name: str
    drop: float
    kept: bool


@dataclass(frozen=True)
class Climb:
    """What came of climbing.

    Attributes:
        model: the best that was found.
        drop: of the best, in points.
        held: whether that is within what was asked.
        rungs: every remedy that was tried, in order.
        worst: the layers whose quantization costs most, worst first; empty where it was not asked.
        judged: what the drop is of, and on how many samples.
    """

    model: Model
    drop: float
    held: bool
    rungs: tuple[Rung, ...]
    worst: tuple[Sensitivity, ...]
    judged: str

    def __str__(self) -> str:
        lines = [
            f"{'+' if rung.kept else ' '} {rung.name}: {rung.drop:.2f} points"
            for rung in self.rungs
        ]
        if not self.held:
            lines.append("not held: train with fake-quantize nodes next, or allow a larger drop")
        return "\n".join([*lines, f"({self.judged})"])


@dataclass(frozen=True)
class Ladder:
    """Static int8 that loses at most `max_drop` points, by the first remedies that suffice.

    The rungs: min-max ranges; ranges chosen per layer; cross-layer equalization; bias correction;
    rounding by GPTQ; then the layers whose quantization costs most, kept in float, more and more
    of them. A remedy that does not help is left out again.

    Attributes:
        max_drop: points that may be lost.
        samples: calibration samples.
        judge: evaluation samples on which each rung is judged; the report should judge the result
            on all of them.
        metric: as `edgewise.measure` takes it; without targets, agreement with the float model.
        weight_bits: as of `Quantize`.
    """

    max_drop: float = 0.5
    samples: int = 256
    judge: int = 2000
    metric: str = "accuracy"
    weight_bits: int = 8

    def __post_init__(self):
        if not self.max_drop >= 0:
            raise InputError(f"max_drop must be at least 0 points, found {self.max_drop}")
        for name in ("samples", "judge"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, found {getattr(self, name)}")

    def __call__(
        self, model: Model, data: Any, progress: Callable[[str], None] | None = None
    ) -> Climb:
        """Climb until a rung holds.

        Args:
            model: the float model.
            data: anything that `edgewise.load_data` takes, with samples to calibrate and to judge.
            progress: called with the name of each rung before it is tried.

        Raises:
            DataError: nothing to calibrate with or to judge on.
            StepError: the model is quantized already.
        """
        return _Climber(self, model, as_data(data, signature=model.signature), progress).climb()


class _Climber:
    def __init__(self, ladder: Ladder, model: Model, data: Data, progress):
        self.ladder = ladder
        self.model = model
        self.data = data
        self.progress = progress or (lambda name: None)
        self.judge = judge_on(model, data, ladder.judge, ladder.metric)
        self.rungs: list[Rung] = []
        self.best: Model | None = None
        self.drop = math.inf

    def climb(self) -> Climb:
        plain = Quantize("int8", self.ladder.samples, weight_bits=self.ladder.weight_bits)
        step, base, worst = plain, self.model, ()
        self._try("min-max ranges", lambda: step(base, self.data))
        if not self._held():
            chosen = replace(step, ranges="auto")
            step = chosen if self._try("chosen ranges", lambda: chosen(base, self.data)) else step
        if not self._held():
            even = Equalize()(base)
            if self._try("equalized layers", lambda: step(even, self.data)):
                base = even
        rounded = ()
        for name, method in (("corrected biases", "nearest"), ("GPTQ rounding", "gptq")):
            if not self._held():
                again = RoundWeights(method, self.ladder.samples)
                if self._try(name, lambda again=again: again(step(base, self.data), self.data)):
                    rounded = (again,)
        if not self._held():
            self.progress("diagnosing layers")
            inputs = together(self.model, self.data.require("calibration"), DIAGNOSED)
            worst = relief(step(base, self.data), inputs)
            for count in self._counts(len(worst)):
                names = tuple(row.layer for row in worst[:count])
                some = replace(step, keep_float=names)

                def relieved(some=some):
                    result = some(base, self.data)
                    for again in rounded:
                        result = again(result, self.data)
                    return result

                noun = "layer" if count == 1 else "layers"
                if self._try(f"{count} {noun} in float: {_few(names)}", relieved) and self._held():
                    break
        params = {
            "max_drop": self.ladder.max_drop,
            "rungs": [{"name": r.name, "drop": r.drop, "kept": r.kept} for r in self.rungs],
        }
        model = replace(self.best, lineage=(*self.best.lineage, Event("ladder", params)))
        return Climb(
            model, self.drop, self._held(), tuple(self.rungs), worst, self.judge.description
        )

    def _held(self) -> bool:
        return self.drop <= self.ladder.max_drop

    def _try(self, name: str, make: Callable[[], Model]) -> bool:
        self.progress(name)
        model = make()
        drop = self.judge.drop(model)
        kept = drop < self.drop
        if kept:
            self.best, self.drop = model, drop
        self.rungs.append(Rung(name, drop, kept))
        return kept

    @staticmethod
    def _counts(layers: int) -> list[int]:
        return sorted({max(1, round(layers * share)) for share in RELIEVED if layers})


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

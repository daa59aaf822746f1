"""Judge: how much worse than the model that was given a compressed one is, with labels or without.

Without labels a prediction is worth the probability that the given model itself gives to it: where
it hesitates between two classes, a file that takes the other one loses little. In the mean this is
the accuracy to be expected, if the given model knows how sure it may be; one that is too sure of
itself makes the loss seem larger than it is. With labels its probabilities are made to fit them by
a temperature (Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599,
section 4.2), and say beside the loss that was counted which one is likely: few labels tell little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ..data import Data, Split
from ..goals import Figures
from ..metric import Metric, expected_drop, get_metric, paired_drop
from ..model import Model

__all__ = ["Judge", "choices", "judge_on"]

BATCH = 64
SUMS = 1e-2  # how far from 1 probabilities may add up
COLDEST_HOTTEST = (-3.0, 3.0)  # logarithms of temperatures

Rows = Iterable[tuple[Any, np.ndarray | None]]  # outputs and targets, by batch


class Judge:
    """How many points a model or a file loses against the given Model, on some samples.

    Of the metric where the samples have targets, else of the accuracy that the given Model
    expects.

    Args:
        model: the given one.
        split: the samples.
        metric: as `edgewise.metric.get_metric` takes it.

    Attributes:
        name: of what is judged.
        value: of the given Model.
    """

    def __init__(self, model: Model, split: Split, metric: str | Metric):
        self.split = split
        self.metric = get_metric(metric) if split.source.labelled else None
        self.name = "expected accuracy" if self.metric is None else self.metric.name
        self._beliefs: np.ndarray | None = None
        rows = self._run(model)
        if self.metric is None or self.metric.name == "accuracy":
            rows = list(rows)  # they are looked at twice, and the model runs once
            scores, targets = _gathered(rows)
            if self.metric is None or scores.ndim == 2:
                self._beliefs = _beliefs(scores, targets)
        self.value, self._outcomes, self._worth = self._judged(rows)

    @property
    def description(self) -> str:
        """What is judged, and on how many samples."""
        by = "" if self.metric else ", by the float model's own probabilities"
        return f"{self.name} on {len(self.split)} samples{by}"

    def __call__(self, subject: Callable[..., Any]) -> Figures:
        """Value and drop, with its 95 % interval where it is known by sample."""
        value, outcomes, worth = self._judged(self._run(subject))
        sign = -100 if self.metric and not self.metric.higher_is_better else 100
        drop, bounds, expected = sign * (self.value - value), None, None
        if worth is not None:
            expected, bounds = expected_drop(self._worth, worth)
        if outcomes is not None:
            _, bounds = paired_drop(self._outcomes, outcomes)
        return Figures(
            value=value,
            drop=drop,
            drop_ci95=bounds and (100 * bounds[0], 100 * bounds[1]),
            expected=100 * expected if self.metric and expected is not None else None,
            n=len(self.split),
        )

    def drop(self, subject: Callable[..., Any]) -> float:
        """How many points this one loses."""
        return self(subject).drop

    def _run(self, subject: Callable[..., Any]) -> Rows:
        """Outputs and targets, a batch at a time."""
        return ((subject(*inputs), targets) for inputs, targets in self.split.batches(BATCH))

    def _judged(self, rows: Rows) -> tuple[float, np.ndarray | None, np.ndarray | None]:
        """The value; by sample whether it is right, and what the given model thinks of it."""
        tally = self.metric.tally() if self.metric else None
        chosen = []
        for outputs, targets in rows:
            if tally:
                tally.update(outputs, targets)
            if self._beliefs is not None:
                chosen.append(choices(outputs))
        worth = None if self._beliefs is None else _of(self._beliefs, np.concatenate(chosen))
        if tally is None:
            return float(worth.mean()), None, worth
        by_sample = self.metric.name in ("accuracy", "top5")
        return tally.compute().value, tally.outcomes() if by_sample else None, worth


def judge_on(model: Model, data: Data, samples: int, metric: str) -> Judge:
    """A judge on the evaluation samples, or on others where there are none.

    Args:
        samples: at most so many.
    """
    split = data.evaluation or data.training or data.calibration
    return Judge(model, split.subset(samples), metric)


def choices(output: Any) -> np.ndarray:
    """The largest of each sample's first output, int64 (n,)."""
    first = _first(output)
    return first.reshape(len(first), -1).argmax(-1)


def _first(output: Any) -> np.ndarray:
    return output[0] if isinstance(output, tuple) else output


def _gathered(
    rows: Sequence[tuple[Any, np.ndarray | None]],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores of classes, (n, classes), or of other outputs the choices, int64 (n,); the targets."""
    first = _first(rows[0][0])
    take = _first if first.ndim == 2 and first.shape[1] > 1 else choices
    targets = None if rows[0][1] is None else np.concatenate([t for _, t in rows])
    return np.concatenate([take(output) for output, _ in rows]), targets


def _beliefs(scores: np.ndarray, targets: np.ndarray | None) -> np.ndarray:
    """Probabilities (n, classes), calibrated where there are targets; choices as they are."""
    if scores.ndim == 1:
        return scores
    scores = scores.astype(np.float64)
    if scores.min() >= 0 and np.abs(scores.sum(1) - 1).max() < SUMS:
        scores = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
    temperature = 1.0
    if targets is not None and targets.ndim == 1 and targets.dtype.kind in "iu":

        def surprise(logarithm: float) -> float:
            return -log_softmax(scores / np.exp(logarithm), 1)[
                np.arange(len(scores)), targets
            ].mean()

        temperature = np.exp(minimize_scalar(surprise, bounds=COLDEST_HOTTEST).x)
    return softmax(scores / temperature, 1)


def _of(beliefs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    if beliefs.ndim == 1:
        return (beliefs == chosen).astype(np.float64)
    return beliefs[np.arange(len(chosen)), chosen]

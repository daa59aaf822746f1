"""Judge: how much worse than the model that was given a compressed one is, with labels or without.

Without labels a prediction is worth the probability that the given model itself gives to it: where
it hesitates between two classes, a file that takes the other one loses little. In the mean this is
the accuracy to be expected, if the given model knows how sure it may be (Guo et al. 2017, "On
Calibration of Modern Neural Networks", arXiv:1706.04599); one that is too sure of itself makes the
loss seem larger than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data import Data, Split
from ..errors import DataError
from ..goals import Figures
from ..metric import Metric, expected_drop, get_metric, paired_drop
from ..model import Model

__all__ = ["Judge", "choices", "judge_on"]

BATCH = 64
SUMS = 1e-2  # how far from 1 probabilities may add up


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
        self._worth: list[np.ndarray] = []
        if self.metric is None:
            self._worth = [_worth(model(*inputs)) for inputs, _ in split.batches(BATCH)]
        self.value, self._outcomes = self._judged(model)

    @property
    def description(self) -> str:
        """What is judged, and on how many samples."""
        by = "" if self.metric else ", by the float model's own probabilities"
        return f"{self.name} on {len(self.split)} samples{by}"

    def __call__(self, subject: Callable[..., Any]) -> Figures:
        """Value and drop, with its 95 % interval where it is known by sample."""
        value, outcomes = self._judged(subject)
        sign = -100 if self.metric and not self.metric.higher_is_better else 100
        drop, ci95 = sign * (self.value - value), None
        if outcomes is not None:
            compare = paired_drop if self.metric else expected_drop
            ci95 = tuple(100 * bound for bound in compare(self._outcomes, outcomes)[1])
        return Figures(value=value, drop=drop, drop_ci95=ci95, n=len(self.split))

    def drop(self, subject: Callable[..., Any]) -> float:
        """How many points this one loses."""
        return self(subject).drop

    def _judged(self, subject: Callable[..., Any]) -> tuple[float, np.ndarray | None]:
        """The value, and the samples' outcomes where there are any."""
        if self.metric is None:
            worth = np.concatenate(
                [
                    _of_chosen(known, choices(subject(*inputs)))
                    for known, (inputs, _) in zip(
                        self._worth, self.split.batches(BATCH), strict=True
                    )
                ]
            )
            return float(worth.mean()), worth
        tally = self.metric.tally()
        for inputs, targets in self.split.batches(BATCH):
            tally.update(subject(*inputs), targets)
        by_sample = self.metric.name in ("accuracy", "top5")
        return tally.compute().value, tally.outcomes() if by_sample else None


def judge_on(model: Model, data: Data, samples: int, metric: str) -> Judge:
    """A judge on the evaluation samples, or on others where there are none.

    Args:
        samples: at most so many.

    Raises:
        DataError: there are no samples.
    """
    split = data.evaluation or data.training or data.calibration
    if split is None:
        raise DataError("there is nothing to judge the accuracy on: give data with samples")
    return Judge(model, split.subset(samples), metric)


def choices(output: Any) -> np.ndarray:
    """The largest of each sample's first output, int64 (n,)."""
    first = _first(output)
    return first.reshape(len(first), -1).argmax(-1)


def _first(output: Any) -> np.ndarray:
    return output[0] if isinstance(output, tuple) else output


def _worth(output: Any) -> np.ndarray:
    """Probabilities of classes, (n, classes); of other outputs the choices, int64 (n,)."""
    scores = _first(output)
    if scores.ndim != 2 or scores.shape[1] < 2:
        return choices(output)
    scores = scores.astype(np.float64)
    if scores.min() >= 0 and np.abs(scores.sum(1) - 1).max() < SUMS:
        return scores
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def _of_chosen(worth: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    if worth.ndim == 1:
        return (worth == chosen).astype(np.float64)
    return worth[np.arange(len(chosen)), chosen]

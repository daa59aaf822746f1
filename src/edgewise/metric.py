"""Metrics by name, a user's own, and the paired comparison of two models.

tally = get_metric("accuracy").tally()
for inputs, targets in data.evaluation.batches(128):
    tally.update(model(*inputs), targets)
print(tally.compute())                      # Score(value=0.9173, n=10000, ci95=(0.91, 0.92))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .data.factory import is_factory, resolve
from .errors import DataError, InputError, MissingExtra, ModelError

__all__ = ["METRICS", "Metric", "Score", "Tally", "expected_drop", "get_metric", "paired_drop"]

REPLICATES = 1000  # of a bootstrap
MOST_NUMBERS = 500_000  # kept of all samples for which a bootstrap takes seconds, not minutes
SEED = 0

Outputs = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Score:
    """A metric's value.

    Attributes:
        value: proportions are 0..1.
        n: the number of samples.
        ci95: bounds that hold the true value in 95 % of such samples; None for a metric of one's
            own and for too many samples to bootstrap.
    """

    value: float
    n: int
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Metric:
    """How well outputs fit targets.

    Attributes:
        name: as the user gave it.
        higher_is_better: the direction.
        collect: outputs and targets of one batch to what is kept of it.
        summarise: what was kept of every batch, in order, to the score.
    """

    name: str
    higher_is_better: bool
    collect: Callable[[Any, np.ndarray], Any]
    summarise: Callable[[list[Any]], Score]

    def tally(self) -> Tally:
        """An empty account of this metric."""
        return Tally(self)


class Tally:
    """One metric over a stream of batches."""

    def __init__(self, metric: Metric):
        self.metric = metric
        self._kept: list[Any] = []

    def update(self, outputs: Outputs, targets: np.ndarray | None) -> None:
        """Take in one batch.

        Args:
            outputs: the model's, batch axis first; a tuple when it has several.
            targets: as `edgewise.load_data` gives them.

        Raises:
            DataError: no targets, or targets that do not fit the outputs or the metric.
            ModelError: an output is NaN.
        """
        if targets is None:
            raise DataError(f"{self.metric.name} compares with targets, and the data have none")
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        if len(first) != len(targets):
            raise DataError(f"{len(first)} outputs were given with {len(targets)} targets")
        self._kept.append(self.metric.collect(outputs, targets))

    def compute(self) -> Score:
        """The score of everything so far.

        Raises:
            DataError: there was no sample, or the metric is not defined for these.
        """
        if not self._kept:
            raise DataError(f"{self.metric.name} needs at least one sample")
        return self.metric.summarise(self._kept)

    def outcomes(self) -> np.ndarray:
        """What was kept of each sample in order; for accuracy and top5, bool (n,): was it right?"""
        return np.concatenate(self._kept)


def get_metric(metric: str | Metric | Callable[..., Any]) -> Metric:
    """A metric by name, or a user's own.

    Args:
        metric: one of `METRICS`; a callable ``(outputs, targets) -> float`` on the numpy arrays of
            all samples, or ``"package.module:callable"`` naming one; or a `torchmetrics.Metric`.
            Higher is better unless the object's attribute ``higher_is_better`` is False.

    Raises:
        InputError: no such metric.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str) and metric in METRICS:
        return METRICS[metric]
    own = resolve(metric) if is_factory(metric) else metric
    if not callable(own):
        raise InputError(
            f"there is no metric {metric!r}: give one of {', '.join(METRICS)}, "
            "package.module:callable, or a callable (outputs, targets) -> float"
        )
    name = metric if isinstance(metric, str) else getattr(own, "__name__", type(own).__name__)
    better = getattr(own, "higher_is_better", None) is not False
    score = _torchmetric if hasattr(own, "update") and hasattr(own, "compute") else _whole
    return Metric(name, better, _both, lambda kept: score(own, kept))


def paired_drop(right_a: np.ndarray, right_b: np.ndarray) -> tuple[float, tuple[float, float]]:
    """How much accuracy is lost from a to b on the same samples, with a 95 % interval.

    Both models err on much the same samples, so the difference is known far better than either
    accuracy. Newcombe, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", Statistics in Medicine 17 (1998), method 10: Wilson
    intervals of both proportions, joined with their correlation.

    Args:
        right_a: bool (n,): was a, the reference, right?
        right_b: bool (n,): was b, on the same samples in the same order?

    Returns:
        The drop, accuracy of a minus accuracy of b, and its bounds; all in -1..1.
    """
    a, b = np.asarray(right_a), np.asarray(right_b)
    if a.dtype != bool or b.dtype != bool or a.shape != b.shape or a.ndim != 1 or not a.size:
        raise DataError(
            "a paired comparison takes two bool arrays of the same samples, found "
            f"{a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    n = len(a)
    both, only_a, only_b, none = (int(c.sum()) for c in (a & b, a & ~b, ~a & b, ~a & ~b))
    p_a, p_b = (both + only_a) / n, (both + only_b) / n
    (low_a, high_a), (low_b, high_b) = _wilson(both + only_a, n), _wilson(both + only_b, n)
    margins = (both + only_a) * (only_b + none) * (both + only_b) * (only_a + none)
    excess = both * none - only_a * only_b
    excess = max(excess - n / 2, 0) if excess > 0 else excess  # continuity correction
    phi = excess / margins**0.5 if margins else 0.0

    def reach(one: float, other: float) -> float:
        return max(one**2 - 2 * phi * one * other + other**2, 0.0) ** 0.5

    drop = p_a - p_b
    low, high = drop - reach(p_a - low_a, high_b - p_b), drop + reach(high_a - p_a, p_b - low_b)
    return drop, (low, high)


def expected_drop(worth_a: np.ndarray, worth_b: np.ndarray) -> tuple[float, tuple[float, float]]:
    """How much accuracy is expected to be lost from a to b, with a 95 % interval.

    The normal interval of the mean difference; above it reaches to 3/n at least, for what was not
    seen once among n may still be as frequent (Hanley & Lippman-Hand, "If nothing goes wrong, is
    everything all right?", JAMA 249 (1983)).

    Args:
        worth_a: (n,): how probable is it that a, the reference, is right? 0..1
        worth_b: (n,): and b, on the same samples in the same order?
    """
    lost = np.asarray(worth_a, np.float64) - worth_b
    n, drop = len(lost), float(lost.mean())
    reach = 1.96 * float(lost.std()) / n**0.5
    return drop, (drop - reach, max(drop + reach, 3 / n))


# --- What is kept of a batch -----------------------------------------------------------------


def _one(outputs: Outputs, metric: str) -> np.ndarray:
    """The only output, float64, without NaN."""
    if isinstance(outputs, tuple):
        if len(outputs) != 1:
            raise DataError(
                f"{metric} takes one output, the model has {len(outputs)}: give a callable metric"
            )
        outputs = outputs[0]
    outputs = np.asarray(outputs, np.float64)
    if np.isnan(outputs).any():
        raise ModelError(
            f"the model gives NaN, which {metric} cannot judge: check its weights and ranges"
        )
    return outputs


def _scores(outputs: Outputs, targets: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, classes) and class indices (n,), checked."""
    scores = _one(outputs, metric)
    classes = targets.astype(np.int64)
    if scores.ndim != 2 or scores.shape[1] < 2 or targets.ndim != 1 or (classes != targets).any():
        raise DataError(
            f"{metric} takes outputs of shape (n, classes) and class indices of shape (n,), found "
            f"{scores.shape} and {targets.dtype} {targets.shape}"
        )
    strange = (classes < 0) | (classes >= scores.shape[1])
    if strange.any():
        raise DataError(
            f"target {classes[strange][0]} is no class of the model, which has "
            f"{scores.shape[1]} outputs: count classes from 0"
        )
    return scores, classes


def _top(k: int, metric: str) -> Callable[[Outputs, np.ndarray], np.ndarray]:
    def collect(outputs: Outputs, targets: np.ndarray) -> np.ndarray:
        """Whether the target is among the `k` largest outputs; of equals, the first is larger."""
        scores, classes = _scores(outputs, targets, metric)
        if scores.shape[1] <= k:
            raise DataError(f"{metric} says nothing about a model of {scores.shape[1]} classes")
        own = np.take_along_axis(scores, classes[:, None], axis=1)
        before = np.arange(scores.shape[1]) < classes[:, None]
        return ((scores > own) | ((scores == own) & before)).sum(axis=1) < k

    return collect


def _confusion(outputs: Outputs, targets: np.ndarray) -> np.ndarray:
    """Predicted and right class, (n, 2)."""
    scores, classes = _scores(outputs, targets, "f1")
    return np.stack([scores.argmax(axis=1), classes], axis=1)


def _error(power: int, metric: str) -> Callable[[Outputs, np.ndarray], np.ndarray]:
    def collect(outputs: Outputs, targets: np.ndarray) -> np.ndarray:
        """Each sample's mean of |output - target|^power, (n,)."""
        values = _one(outputs, metric)
        if values.size != targets.size:
            raise DataError(
                f"{metric} takes targets of the outputs' shape {values.shape}, found "
                f"{targets.shape}"
            )
        errors = np.abs(values - targets.reshape(values.shape)) ** power
        return errors.reshape(len(errors), -1).mean(axis=1)

    return collect


def _ranked(outputs: Outputs, targets: np.ndarray) -> np.ndarray:
    """Scores and right class, (n, scores + 1): one score if binary, else a probability a class."""
    scores = _one(outputs, "auc")
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = np.concatenate([-scores, scores], axis=1)
    scores, classes = _scores(scores, targets, "auc")
    if scores.shape[1] == 2:
        return np.stack([scores[:, 1] - scores[:, 0], classes], axis=1)
    return np.concatenate([np.exp(_log_probabilities(scores)), classes[:, None]], axis=1)


def _surprise(outputs: Outputs, targets: np.ndarray) -> np.ndarray:
    """Sum of -log p(target) over a sample's positions and their number, (n, 2).

    Negative targets are padding (PyTorch's ignore_index is -100).
    """
    scores = _one(outputs, "perplexity")
    if scores.shape[:-1] != targets.shape or targets.dtype.kind != "i":
        raise DataError(
            "perplexity takes outputs of shape (n, ..., classes) and class indices of shape "
            f"(n, ...), found {scores.shape} and {targets.dtype} {targets.shape}"
        )
    if targets.max() >= scores.shape[-1]:
        raise DataError(
            f"target {targets.max()} is no class of the model, which has {scores.shape[-1]} "
            "outputs: count classes from 0"
        )
    counted = targets >= 0
    own = np.where(counted, targets, 0)[..., None]
    surprise = -np.take_along_axis(_log_probabilities(scores), own, axis=-1)[..., 0] * counted
    n = len(targets)
    return np.stack([surprise.reshape(n, -1).sum(1), counted.reshape(n, -1).sum(1)], axis=1)


def _both(outputs: Outputs, targets: np.ndarray) -> tuple[Outputs, np.ndarray]:
    return outputs, targets


def _log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Of logits, or of probabilities: numbers in 0..1 that add up to 1 (to 5 %, as of int8)."""
    in_range = scores.min() >= 0 and scores.max() <= 1
    with np.errstate(divide="ignore"):
        if in_range and np.allclose(scores.sum(axis=-1), 1, atol=0.05, rtol=0):
            return np.log(scores)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# --- From what was kept to the score ---------------------------------------------------------


def _proportion(kept: list[np.ndarray]) -> Score:
    right = np.concatenate(kept)
    k, n = int(right.sum()), len(right)
    return Score(k / n, n, _wilson(k, n))


def _wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's score interval for k of n: "Probable inference", JASA 22 (1927)."""
    try:
        from scipy.stats import binomtest
    except ImportError:
        raise MissingExtra("scipy, which gives confidence intervals,", "compress") from None
    interval = binomtest(k, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


Statistic = Callable[[np.ndarray], Callable[[np.ndarray], float]]


def _bootstrap(statistic: Statistic) -> Callable[[list[np.ndarray]], Score]:
    """A weighted statistic with the percentile interval of its seeded bootstrap.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3. Drawing samples
    anew is weighting each by how often it was drawn.

    Args:
        statistic: from rows (n, ...) to a function from weights (n,) to the value; NaN where these
            weights leave it undefined.
    """

    def summarise(kept: list[np.ndarray]) -> Score:
        rows = np.concatenate(kept)
        n = len(rows)
        value = statistic(rows)
        score = Score(float(value(np.ones(n))), n)
        if rows.size > MOST_NUMBERS:
            return score
        rng = np.random.default_rng(SEED)
        draws = [
            value(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(REPLICATES)
        ]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        return replace(score, ci95=(float(low), float(high)))

    return summarise


def _mean(rows: np.ndarray) -> Callable[[np.ndarray], float]:
    # Not `weights @ rows`: BLAS would wake its threads for every draw, 30 times slower when busy.
    return lambda weights: float((weights * rows).sum() / weights.sum())


def _perplexity(rows: np.ndarray) -> Callable[[np.ndarray], float]:
    """exp of the mean surprise of a position, in nats."""

    def value(weights: np.ndarray) -> float:
        surprise, positions = (weights[:, None] * rows).sum(axis=0)
        return float(np.exp(surprise / positions)) if positions else float("nan")

    if not rows[:, 1].any():
        raise DataError("perplexity needs at least one target that is not negative")
    return value


def _f1(rows: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean over classes of 2 TP / (2 TP + FP + FN); classes that never occur do not count."""
    predicted, right = rows.T
    size = rows.max() + 1
    hit = predicted == right

    def value(weights: np.ndarray) -> float:
        true = np.bincount(right, weights * hit, size)
        either = np.bincount(right, weights, size) + np.bincount(predicted, weights, size)
        seen = either > 0
        return float(np.mean(2 * true[seen] / either[seen]))

    return value


def _auc(rows: np.ndarray) -> Callable[[np.ndarray], float]:
    """Area under the ROC curve; for several classes, the mean over classes against the rest."""
    classes = rows[:, -1].astype(np.int64)
    columns = rows.shape[1] - 1
    wanted = [1] if columns == 1 else range(columns)
    missing = [c for c in (range(2) if columns == 1 else wanted) if not (classes == c).any()]
    if missing:
        raise DataError(f"auc needs samples of every class, there is none of class {missing[0]}")
    curves = [_area(rows[:, i], classes == c) for i, c in enumerate(wanted)]
    return lambda weights: float(np.mean([area(weights) for area in curves]))


def _area(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], float]:
    """P(score of a positive > score of a negative), ties counting half (Mann-Whitney)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) != 0)
    is_positive = positive[order]

    def value(weights: np.ndarray) -> float:
        ordered = weights[order].astype(np.float64)
        positives = np.add.reduceat(ordered * is_positive, starts)
        negatives = np.add.reduceat(ordered * ~is_positive, starts)
        pairs = positives.sum() * negatives.sum()
        below = np.cumsum(negatives) - negatives / 2
        return float((positives * below).sum() / pairs) if pairs else float("nan")

    return value


def _joined(parts: Sequence[Outputs]) -> Outputs:
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.concatenate(parts)


def _whole(own: Callable[..., Any], kept: list[tuple[Outputs, np.ndarray]]) -> Score:
    """A user's function of all outputs and targets."""
    outputs, targets = (_joined(part) for part in zip(*kept, strict=True))
    return Score(float(own(outputs, targets)), len(targets))


def _torchmetric(own: Any, kept: list[tuple[Outputs, np.ndarray]]) -> Score:
    """A `torchmetrics.Metric`, batch by batch."""
    import torch

    own.reset()
    for outputs, targets in kept:
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        own.update(*map(torch.as_tensor, tensors), torch.as_tensor(targets))
    return Score(float(own.compute()), sum(len(targets) for _, targets in kept))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, _top(1, "accuracy"), _proportion),
        Metric("top5", True, _top(5, "top5"), _proportion),
        Metric("f1", True, _confusion, _bootstrap(_f1)),
        Metric("mse", False, _error(2, "mse"), _bootstrap(_mean)),
        Metric("mae", False, _error(1, "mae"), _bootstrap(_mean)),
        Metric("auc", True, _ranked, _bootstrap(_auc)),
        Metric("perplexity", False, _surprise, _bootstrap(_perplexity)),
    )
}

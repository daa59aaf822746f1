"""Judge: how much worse than the model that was given a compressed one is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Data, Split
from ..errors import DataError
from ..metric import Metric, get_metric
from ..model import Model

__all__ = ["Judge", "choices"]

BATCH = 64


class Judge:
    """Points that are lost, higher being worse.

    Of the metric where the samples have targets, else of the predictions that the given model
    makes. Judged on the evaluation samples, or on others where there are none.

    Args:
        model: the one to compare with.
        samples: at most so many.
        metric: as `edgewise.measure` takes it.

    Raises:
        DataError: there are no samples.
    """

    def __init__(self, model: Model, data: Data, samples: int, metric: str):
        split = data.evaluation or data.training or data.calibration
        if split is None:
            raise DataError("there is nothing to judge the accuracy on: give data with samples")
        self.split: Split = split.subset(samples)
        self.metric: Metric | None = None
        outputs = [(model(*inputs), targets) for inputs, targets in self.split.batches(BATCH)]
        if outputs[0][1] is not None:
            self.metric = get_metric(metric)
        self.choices = [choices(o) for o, _ in outputs] if self.metric is None else []
        name = self.metric.name if self.metric else "agreement with the float model"
        self.description = f"{name} on {len(self.split)} samples"
        self.best = 0.0
        if self.metric is not None:
            tally = self.metric.tally()
            for output, targets in outputs:
                tally.update(output, targets)
            self.best = tally.compute().value

    def drop(self, model: Model) -> float:
        """How many points this one loses."""
        if self.metric is None:
            pairs = zip(self.split.batches(BATCH), self.choices, strict=True)
            same = [choices(model(*inputs)) == want for (inputs, _), want in pairs]
            return 100 * (1 - float(np.concatenate(same).mean()))
        tally = self.metric.tally()
        for inputs, targets in self.split.batches(BATCH):
            tally.update(model(*inputs), targets)
        loss = self.best - tally.compute().value
        return 100 * (loss if self.metric.higher_is_better else -loss)


def choices(output: Any) -> np.ndarray:
    """The largest of each sample's first output, int64 (n,)."""
    first = output[0] if isinstance(output, tuple) else output
    return first.reshape(len(first), -1).argmax(-1)

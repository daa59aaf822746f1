"""Recalibrate: batch norms' statistics as the network gives them that is left."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import DataError, InputError, StepError
from ..graph.canonical import layer
from ..graph.fold import constant
from ..model import Model
from ..step import Plan, Step

__all__ = ["Recalibrate", "RecalibrationPlan", "Statistics"]

aten = torch.ops.aten
BATCH = 64  # samples that are normalised together


@dataclass(frozen=True)
class Statistics:
    """What a batch norm sees, float32 of (channels,).

    Attributes:
        layer: its name.
        mean, variance: over all samples and positions.
    """

    layer: str
    mean: np.ndarray = field(repr=False)
    variance: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class RecalibrationPlan(Plan):
    """New statistics, by the name of the buffer that holds the mean."""

    norms: dict[str, Statistics]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recalibrate(Step):
    """Estimate the means and variances of batch norms anew on calibration samples.

    After `Prune`, `Shorten` or `Sparsify` what reaches a norm is smaller than what it was trained
    on, and layer after layer gets less: most of what one shot costs (Li et al. 2020, "EagleEye",
    arXiv:2007.02491, section 3.2). Needs no labels, changes no weight, and so comes instead of
    ``Prune(reconstruct=True)``, whose weights are solved for the statistics that are there.

    Attributes:
        samples: at most so many calibration samples are looked at.
    """

    samples: int = 512

    def __post_init__(self):
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, found {self.samples}")

    def requires(self, model: Model) -> None:
        if not any(_has_statistics(node) for node in model.graph.graph.nodes):
            folded = ": they are folded, recalibrate before quantizing" if model.quantized else ""
            raise StepError(f"the model has no batch norms with statistics{folded}")

    def plan(self, model: Model, data: Data | None) -> RecalibrationPlan:
        if data is None:
            raise DataError("statistics are taken of real inputs: give data=")
        watch = _Watch(model.graph)
        split = data.require("calibration").subset(self.samples)
        with torch.no_grad():
            for inputs, _ in split.batches(BATCH):
                watch.run(*map(torch.from_numpy, inputs))
        norms = {}
        for node in filter(_has_statistics, model.graph.graph.nodes):
            name = node.args[3].target
            count, mean, squares = watch.seen[name]
            found = mean.float(), (squares / max(1, count - 1)).float()
            if not all(torch.isfinite(value).all() for value in found):
                raise DataError(
                    f"what '{layer(node)}' normalises is NaN or infinite on the calibration "
                    "samples: check that they are normalised as in training"
                )
            norms[name] = Statistics(layer(node), *(value.numpy() for value in found))
        return RecalibrationPlan(norms)

    def apply(self, model: Model, plan: RecalibrationPlan) -> Model:
        module = model.module()
        with torch.no_grad():
            for node in filter(_has_statistics, module.graph.nodes):
                row = plan.norms[node.args[3].target]
                for place, value in ((3, row.mean), (4, row.variance)):
                    constant(module, node.args[place]).copy_(torch.from_numpy(value))
        return Model(module, model.signature)


def _has_statistics(node: fx.Node) -> bool:
    if node.target is not aten.batch_norm.default:
        return False
    return all(isinstance(a, fx.Node) and a.op == "get_attr" for a in node.args[3:5])


class _Watch(fx.Interpreter):
    """Runs a graph with each batch normalised by its own statistics, and sums these up."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module)
        # buffer of the mean -> values a channel, their mean, their squared distances from it
        self.seen: dict[str, tuple[int, Tensor, Tensor]] = {}

    def run_node(self, node: fx.Node):
        if not _has_statistics(node):
            return super().run_node(node)
        x, weight, bias, *_, eps, _ = self.fetch_args_kwargs_from_env(node)[0]
        rows = x.movedim(1, 0).flatten(1).double()
        count = rows.shape[1]
        self._add(node.args[3].target, count, rows.mean(1), rows.var(1, correction=0) * count)
        return torch.batch_norm(x, weight, bias, None, None, True, 0.0, eps, False)

    def _add(self, name: str, count: int, mean: Tensor, squares: Tensor) -> None:
        """Chan et al. 1979, "Updating formulae and a pairwise algorithm", equation 2.1."""
        known, before, sum_before = self.seen.get(name, (0, mean, torch.zeros_like(mean)))
        total, apart = known + count, mean - before
        self.seen[name] = (
            total,
            before + apart * (count / total),
            sum_before + squares + apart**2 * (known * count / total),
        )

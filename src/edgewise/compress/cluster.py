"""Cluster: weights share a few values; each becomes an index into a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import InputError, StepError
from ..graph.codebooks import share_values
from ..graph.fold import fold
from ..graph.patches import groups_of
from ..math.codebook import NF4, STARTS, kmeans, nearest, powers_of_two
from ..math.codebook_fit import settle, values_of
from ..model import Model
from ..step import Plan, Step
from .reconstruct import Chooser, reconstruct
from .saliency import Weight, chosen_weights
from .scores import calibration, tensors

__all__ = ["Cluster", "ClusterPlan", "ClusteredWeight"]

VALUES = ("kmeans", "nf4", "log")
PER = ("tensor", "scaled", "channel")
BATCH = 32
ROUNDS = 3  # in which values and choices are made better in turns


@dataclass(frozen=True)
class ClusteredWeight:
    """One weight and the values that it will have.

    Attributes:
        weight: the parameter's name.
        codebook: float32 (values,), or (channels, values).
        indices: uint8, shaped like the weight.
        scale: float32, one for each block; None where the codebook has the weight's own values.
    """

    weight: str
    codebook: np.ndarray = field(repr=False)
    indices: np.ndarray = field(repr=False)
    scale: np.ndarray | None = field(repr=False)


@dataclass(frozen=True)
class ClusterPlan(Plan):
    """Which weights share values, and which are left alone and why.

    Attributes:
        constants: new numbers of other parameters, which make up for what the weights lost.
    """

    weights: tuple[ClusteredWeight, ...]
    constants: dict[str, np.ndarray] = field(repr=False, compare=False)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line a weight."""
        wide = max(len(row.weight) for row in self.weights)
        return "\n".join(
            f"{row.weight:<{wide}}  {row.indices.size:>9,} weights share "
            f"{row.codebook.size:,} values"
            + (f" times {row.scale.size:,} scales" if row.scale is not None else "")
            for row in self.weights
        )


@dataclass(frozen=True)
class Cluster(Step):
    """Let weights share values: a codebook of ``2^bits`` and an index each. Zeros stay zero.

    Batch norms are folded first, so that the codebooks are those of the weights that run. On a
    device the weights are what they were in size; what shrinks is the file once it is compressed.

    Attributes:
        bits: of an index, 1 to 8.
        values: ``"kmeans"`` finds them; ``"nf4"`` and ``"log"`` (powers of two) are fixed and times
            a scale for each block.
        start: of k-means: ``"linear"``, ``"density"`` or ``"random"``.
        per: a codebook for each ``"tensor"``, for each tensor times a scale for each output channel
            (``"scaled"``), or for each output ``"channel"``.
        block: inputs that share a scale of the fixed values, where it divides them.
        keep: layers to leave alone, as names or patterns.
        samples: at most so many calibration samples are looked at.
        reconstruct: choose the values so that the layers' outputs on calibration samples change
            least; None for where there are any.
    """

    bits: int = 4
    values: str = "kmeans"
    start: str = "linear"
    per: str = "tensor"
    block: int = 64
    keep: tuple[str, ...] = ()
    samples: int = 256
    reconstruct: bool | None = None

    def __post_init__(self):
        for name, known in (("values", VALUES), ("start", STARTS), ("per", PER)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"unknown {name} '{getattr(self, name)}': choose one of {', '.join(known)}"
                )
        if not 1 <= self.bits <= 8:
            raise InputError(f"bits must be 1 to 8, found {self.bits}")
        if self.values == "nf4" and self.bits != 4:
            raise InputError(f"nf4 has 4 bits, found {self.bits}")
        if self.values == "log" and self.bits < 2:
            raise InputError("powers of two with a sign and a zero take at least 2 bits")
        if self.block < 1 or self.samples < 1:
            raise InputError("block and samples must be at least 1")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError(
                "the model is quantized already: cluster the float model, then quantize"
            )
        if model.clustered:
            raise StepError("the model's weights share values already")

    def plan(self, model: Model, data: Data | None) -> ClusterPlan:
        module, whole = fold(model.module()), fold(model.module())
        weights, skipped = chosen_weights(module, self.keep, self._reason, "clustered")
        found: dict[str, ClusteredWeight] = {}
        looks = self.reconstruct
        if looks is None:
            looks = data is not None and data.calibration is not None
        if looks:
            batches = tensors(calibration(data, self.samples, "looking at outputs"), BATCH)
            choose = self._chooser(weights, found)
            reconstruct(module, whole, batches, choose=choose, shrink=True)
        for name, row in weights.items():
            if name not in found:
                found[name] = _row(name, *self._values(row.values, None))
        old = dict(whole.named_parameters())
        constants = {
            name: value.detach().numpy() for name, value in module.named_parameters()
            if name not in found and not torch.equal(value, old[name])
        }  # fmt: skip
        return ClusterPlan(tuple(found[name] for name in weights), constants, skipped)

    def apply(self, model: Model, plan: ClusterPlan) -> Model:
        module = fold(model.module())
        nodes = {node.target: node for node in module.graph.nodes if node.op == "get_attr"}
        for name, values in plan.constants.items():
            module.get_parameter(name).data.copy_(torch.from_numpy(values))
        for row in plan.weights:
            if row.weight not in nodes:
                raise StepError(f"the plan's weight '{row.weight}' is not one of this model's")
            parts = (row.codebook, row.indices, row.scale)
            parts = (None if part is None else torch.from_numpy(part) for part in parts)
            share_values(module, nodes[row.weight], *parts)
        return Model(module, model.signature)

    def _reason(self, row: Weight) -> str | None:
        """Why a weight keeps the values that it has."""
        few = row.values[0].numel()
        grouped = row.solvable and groups_of(row.readers[0]) > 1
        if self.values == "kmeans" and grouped and few <= 2**self.bits:
            return f"its channels have {few} weights each, too few to make up for one another"
        return None

    def _values(
        self, weight: Tensor, importance: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Codebook, indices and scales for a weight; importance is of each of its numbers."""
        if self.values == "kmeans":
            scale, rows = None, weight.reshape(len(weight) if self.per == "channel" else 1, -1)
            counts = None if importance is None else importance.reshape(rows.shape)
            if self.per == "scaled":
                scale = weight.flatten(1).square().mean(1).sqrt().clamp(min=1e-30)
                scale = scale.view(-1, *[1] * (weight.ndim - 1))
                rows = (weight / scale).view(1, -1)
                counts = scale.square() * (1 if counts is None else counts.view_as(weight))
                counts = counts.expand_as(weight).reshape(1, -1)
            codebook, at = kmeans(rows, 2**self.bits, self.start, counts)
            codebook = codebook if self.per == "channel" else codebook[0]
            return codebook, at.view(weight.shape), scale
        codebook = torch.tensor(NF4 if self.values == "nf4" else powers_of_two(self.bits))
        inputs = weight.shape[1]
        blocks = inputs // self.block if inputs % self.block == 0 else 1
        scale = weight.reshape(len(weight), blocks, -1).abs().amax(2).clamp(min=1e-30)
        scale = scale.reshape(len(weight), blocks, *[1] * (weight.ndim - 2))
        parts = weight / scale.repeat_interleave(inputs // blocks, 1)
        at = nearest(parts.reshape(1, -1), codebook[None])
        return codebook, at.view(weight.shape), scale

    def _chooser(self, weights: Mapping[str, Weight], found: dict[str, ClusteredWeight]) -> Chooser:
        """Puts each layer's best weights on values, and writes down which."""
        names = {row.readers[0].name: name for name, row in weights.items() if row.solvable}

        def choose(node: fx.Node, best: Tensor, hessian: Tensor) -> Tensor:
            name = names.get(node.name)
            if name is None:
                return best
            weight = weights[name].values
            zero = (weight == 0).reshape(best.shape)
            counts = hessian.diagonal(dim1=1, dim2=2)[:, None].expand_as(best)
            codebook, _, scale = self._values(
                best.masked_fill(zero, 0).reshape(weight.shape).float(),
                counts.reshape(weight.shape),
            )
            unit = torch.ones_like(best)
            if scale is not None:
                blocks = scale.repeat_interleave(weight.shape[1] // scale.shape[1], 1)
                unit = blocks.double().expand(weight.shape).reshape(best.shape)
            rows = codebook if codebook.ndim == 2 else codebook[None]
            rows, at = settle(
                best, hessian, rows, unit, zero, ROUNDS, fixed=self.values != "kmeans"
            )
            codebook = rows.float() if codebook.ndim == 2 else rows[0].float()
            found[name] = _row(name, codebook, at.view(weight.shape), scale)
            return values_of(rows.float(), at, unit)

        return choose


def _row(name: str, codebook: Tensor, indices: Tensor, scale: Tensor | None) -> ClusteredWeight:
    return ClusteredWeight(
        name, codebook.float().numpy(), indices.to(torch.uint8).numpy(),
        None if scale is None else scale.float().numpy(),
    )  # fmt: skip

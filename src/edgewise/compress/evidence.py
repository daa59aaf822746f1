"""Evidence: what criteria want to know about the groups of a Model, from its graph and data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ..data.split import Batch
from ..graph.axes import Coupling, Member
from ..graph.fold import CONVOLUTIONS, constant
from ..math.importance import Activity, Evidence, Slices

__all__ = ["gather", "gradients"]

aten = torch.ops.aten
READERS = {
    *CONVOLUTIONS, aten.matmul.default, aten.bmm.default, aten.addmm.default, aten.lstm.input,
    aten.gru.input, aten.scaled_dot_product_attention.default,
}  # fmt: skip


def gather(
    module: fx.GraphModule,
    coupling: Coupling,
    needs: str,
    batches: Iterator[Batch],
    seed: int,
) -> list[Evidence]:
    """Evidence for each group, in order.

    Args:
        module: the graph that `coupling` was found in.
        needs: ``"gradients"`` (the loss is the cross-entropy with the labels, or the outputs times
            noise where there are none), ``"activity"``, or "" for weights alone.
        batches: of the calibration samples; read only for the former two.
        seed: one is derived from it for each group.
    """
    copy = module if needs != "gradients" else deepcopy(module)
    values = {n.target: constant(copy, n) for n in copy.graph.nodes if n.op == "get_attr"}
    steps = gradients(copy, values, batches) if needs == "gradients" else ()
    gradients_of: dict[str, list[Tensor]] = {}
    for step in steps:
        for name, gradient in step.items():
            gradients_of.setdefault(name, []).append(gradient)
    activity = _Watch(module, coupling).run_all(batches) if needs == "activity" else {}
    scales = {
        a.target
        for n in module.graph.nodes
        if n.target is aten.batch_norm.default and isinstance(a := n.args[1], fx.Node)
    }
    found = []
    for i, group in enumerate(coupling.groups):
        slices = tuple(
            Slices(
                m.parameter,
                "weight" if values[m.parameter].ndim > 1
                else "scale" if m.parameter in scales else "other",
                m.summed,
                _sliced(values[m.parameter].detach().float(), m),
                _stacked([_sliced(g, m) for g in gradients_of.get(m.parameter, ())]),
            )
            for m in group.members
            if values[m.parameter].is_floating_point()
        )  # fmt: skip
        found.append(Evidence(group.name, slices, activity.get(group.name), seed + i))
    return found


def _stacked(rows: list[Tensor]) -> Tensor | None:
    return torch.stack(rows) if rows else None


def _sliced(value: Tensor, member: Member) -> Tensor:
    """(units, n): the numbers of a parameter that go with each unit."""
    at = torch.from_numpy(member.positions.reshape(-1))
    rows = value.movedim(member.axis, 0).index_select(0, at)
    return rows.reshape(len(member.positions), -1)


def gradients(
    module: fx.GraphModule, values: dict[str, Tensor], batches: Iterator[Batch]
) -> Iterator[dict[str, Tensor]]:
    """Of each batch in turn, the gradients of the summed loss for each weight, by name.

    Args:
        module: may be changed: its weights are made to require gradients.
        values: its parameters and buffers, by name.
    """
    weights = {
        name: v.requires_grad_() for name, v in values.items()
        if isinstance(v, torch.nn.Parameter) and v.ndim > 1
    }  # fmt: skip
    for inputs, targets in batches:
        outputs = module(*(torch.from_numpy(x) for x in inputs))
        loss = _loss(outputs, targets)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        yield {
            name: torch.zeros_like(weights[name]) if grad is None else grad
            for name, grad in zip(weights, found, strict=True)
        }


def _loss(outputs: Sequence[Tensor], targets: np.ndarray | None) -> Tensor:
    """Summed over the batch: with labels, or of the outputs themselves."""
    logits = outputs[0]
    if targets is not None and targets.dtype == np.int64 and logits.ndim == 2:
        return F.cross_entropy(logits, torch.from_numpy(targets), reduction="sum")
    if targets is not None and targets.shape == tuple(logits.shape):
        return F.mse_loss(logits, torch.from_numpy(targets), reduction="sum") / 2
    # The expected gradient with the model's own outputs as targets is zero; squares of that of the
    # outputs times noise are, on average, the Gauss-Newton matrix. (Labels drawn from a confident
    # model's outputs are its own choices but for a few samples, which then decide everything.)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    return (logits * noise).sum()


class _Watch(fx.Interpreter):
    """Sums what flows into layers, unit by unit."""

    def __init__(self, module: fx.GraphModule, coupling: Coupling):
        super().__init__(module)
        self.coupling = coupling
        self.sums = {
            group.name: [torch.zeros(group.size, dtype=torch.float64) for _ in range(3)]
            for group in coupling.groups
        }

    def run_all(self, batches: Iterator[Batch]) -> dict[str, Activity]:
        with torch.no_grad():
            for inputs, _ in batches:
                self.run(*(torch.from_numpy(x) for x in inputs))
        return {
            name: Activity(total / n.clamp(min=1), zeros / n.clamp(min=1))
            for name, (total, zeros, n) in self.sums.items()
        }

    def run_node(self, node: fx.Node):
        if node.target in READERS:
            source = node.args[0]
            for axis, ids in enumerate(self.coupling.values[source]):
                groups, units = self.coupling.owners(ids)
                if (groups >= 0).any():
                    self._add(self.env[source].movedim(axis, 0).flatten(1).double(), groups, units)
        return super().run_node(node)

    def _add(self, x: Tensor, groups: np.ndarray, units: np.ndarray) -> None:
        seen = (x.clamp(min=0).sum(1), (x <= 0).double().sum(1))
        for i in np.unique(groups[groups >= 0]):
            at = np.flatnonzero(groups == i)
            unit = torch.from_numpy(units[at])
            sums = self.sums[self.coupling.groups[i].name]
            for total, more in zip(sums, (*(s[at] for s in seen), None), strict=True):
                many = torch.full((len(at),), float(x.shape[1]), dtype=torch.float64)
                total.index_add_(0, unit, many if more is None else more)

"""Saliency: how much each single weight matters.

A user's own is any function from the weight and its parameter name to a tensor like the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..data.split import Batch
from ..errors import StepError
from ..graph.canonical import layer
from ..graph.fold import CONVOLUTIONS, constant
from ..graph.patches import groups_of, patches
from .evidence import gradients
from .names import matching
from .reconstruct import SOLVED
from .weights import LINEARS

__all__ = [
    "SALIENCIES",
    "Saliency",
    "Weight",
    "chosen_weights",
    "saliencies",
    "weights_of",
    "zeros",
]

Saliency = Callable[[Tensor, str], Tensor]


@dataclass(frozen=True)
class Weight:
    """The weight of a layer.

    Attributes:
        layer: the user's name for it.
        readers: the operators that multiply with it.
        node: its ``get_attr``.
        values: float32.
        inputs: the axis of its input channels: 1, or 0 of weights (inputs, outputs).
        solvable: whether its layer can be read as a matrix product of its own.
    """

    layer: str
    readers: tuple[fx.Node, ...]
    node: fx.Node
    values: Tensor
    inputs: int
    solvable: bool

    @property
    def unsolvable(self) -> str:
        """Why its layer cannot be solved for what it gives; nothing where it can."""
        return "" if self.solvable else "what it multiplies is not read as a matrix"


def weights_of(module: fx.GraphModule) -> dict[str, Weight]:
    """The weights of convolutions and linears, by their parameter's name."""
    found = {}
    for node in module.graph.nodes:
        if node.target not in CONVOLUTIONS and node.target not in LINEARS:
            continue
        place, outputs, _ = LINEARS.get(node.target, (1, CONVOLUTIONS.get(node.target), None))
        source = node.args[place]
        values = constant(module, source)
        if values is None or source.target in found or not isinstance(values, torch.nn.Parameter):
            continue
        readers = tuple(source.users)
        found[source.target] = Weight(
            layer(node), readers, source, values.detach(), 1 - outputs,
            len(readers) == 1 and node.target in SOLVED and values.ndim > 1,
        )  # fmt: skip
    return {name: row for name, row in found.items() if row.values.ndim > 1}


def zeros(module: fx.GraphModule) -> float:
    """The share of zeros in all weights."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    return sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights))


def chosen_weights(
    module: fx.GraphModule,
    keep: Iterable[str],
    reason: Callable[[Weight], str | None],
    done: str,
) -> tuple[dict[str, Weight], dict[str, str]]:
    """The weights that a step works on, by name, and the layers that it leaves alone and why.

    Args:
        keep: names of layers, or patterns, that are not to be touched.
        reason: why a weight cannot be worked on; nothing where it can.
        done: what becomes of weights, for the error.

    Raises:
        InputError: a pattern names no layer.
        StepError: no weight is left.
    """
    weights = weights_of(module)
    layers = {row.layer for row in weights.values()}
    skipped = {name: "kept as asked" for each in keep for name in matching("keep", each, layers)}
    for row in weights.values():
        if why := reason(row):
            skipped.setdefault(row.layer, why)
    chosen = {name: row for name, row in weights.items() if row.layer not in skipped}
    if not chosen:
        whys = "; ".join(f"{name}: {why}" for name, why in skipped.items()) or "it has none"
        raise StepError(f"no weight of this model can be {done} ({whys})")
    return chosen, skipped


@dataclass(frozen=True)
class Known:
    """One criterion of this file.

    Attributes:
        score: from the weight's values and what it reads (below), a score for each number.
        reads: ``"gradients"`` (the weight's, one tensor a batch), ``"inputs"`` (the sum of squares
            of what each number is multiplied with), or "".
    """

    score: Callable[[Tensor, Tensor], Tensor]
    reads: str = ""


def magnitude(weight: Tensor, seen: Tensor) -> Tensor:
    """|w| (Han et al. 2015, arXiv:1506.02626)."""
    return weight.abs()


def snip(weight: Tensor, seen: Tensor) -> Tensor:
    """|w g| with the gradient over all samples (Lee et al. 2019, arXiv:1810.02340, eq. 4)."""
    return (weight * seen[0]).abs()


def taylor(weight: Tensor, seen: Tensor) -> Tensor:
    """Sum over batches of (w g)^2 (Molchanov et al. 2019, arXiv:1906.10771, section 3.1)."""
    return weight.square() * seen[1]


def wanda(weight: Tensor, seen: Tensor) -> Tensor:
    """|w| times the norm of its input (Sun et al. 2024, arXiv:2306.11695, equation 1).

    Compared in the whole layer and not in each output alone: convolutional networks lose less.
    """
    return weight.abs() * seen.sqrt()


SALIENCIES: dict[str, Known] = {
    "magnitude": Known(magnitude),
    "snip": Known(snip, "gradients"),
    "taylor": Known(taylor, "gradients"),
    "wanda": Known(wanda, "inputs"),
    # Chooses by itself as it goes; between layers it is shared out as by WANDA.
    "sparsegpt": Known(wanda, "inputs"),
    "random": Known(magnitude),
}


def saliencies(
    module: fx.GraphModule,
    weights: Mapping[str, Weight],
    criterion: str | Saliency,
    batches: Iterator[Batch],
) -> dict[str, Tensor]:
    """The score of each number of each weight.

    Args:
        batches: of calibration samples; read only where the criterion reads anything.
    """
    if callable(criterion):
        return {name: torch.as_tensor(criterion(row.values, name)) for name, row in weights.items()}
    if criterion == "random":
        generator = torch.Generator().manual_seed(0)
        return {n: torch.rand(row.values.shape, generator=generator) for n, row in weights.items()}
    known = SALIENCIES[criterion]
    seen: Mapping[str, Tensor] = dict.fromkeys(weights, torch.empty(0))
    if known.reads == "gradients":
        seen = _gradients(module, weights, batches)
    elif known.reads == "inputs":
        seen = _Inputs(module, weights).run_all(batches)
    return {name: known.score(row.values, seen[name]) for name, row in weights.items()}


def _gradients(
    module: fx.GraphModule, weights: Mapping[str, Weight], batches: Iterator[Batch]
) -> dict[str, Tensor]:
    """Of each weight (2, *shape): the sum of its gradients, and of their squares by batch."""
    copy = deepcopy(module)
    found = {name: torch.zeros(2, *row.values.shape) for name, row in weights.items()}
    values = {name: constant(copy, row.node) for name, row in weights.items()}
    for step in gradients(copy, values, batches):
        for name, gradient in step.items():
            found[name] += torch.stack([gradient, gradient.square()])
    return found


class _Inputs(fx.Interpreter):
    """Sums the squares of what weights are multiplied with."""

    def __init__(self, module: fx.GraphModule, weights: Mapping[str, Weight]):
        super().__init__(module)
        self.weights = {row.readers[0]: name for name, row in weights.items()}
        self.sums = {name: torch.zeros(row.values.shape) for name, row in weights.items()}

    def run_all(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        with torch.no_grad():
            for inputs, _ in batches:
                self.run(*(torch.from_numpy(x) for x in inputs))
        return self.sums

    def run_node(self, node: fx.Node):
        if node in self.weights:
            total = self.sums[self.weights[node]]
            columns = patches(node, self.env[node.args[0]], total.shape[2:]).square().sum(2)
            rows = total.view(groups_of(node), -1, columns.shape[1])
            rows += columns[:, None]
        return super().run_node(node)

"""Samples to look at, in memory and files that the model bounds and not their number."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Split
from ..graph.canonical import shapes
from ..model import Model

__all__ = ["streamed", "together"]

# What the largest value between layers may take for all samples together.
BYTES = 256 << 20
# What the values kept in a file between two layers may take (`edgewise.graph.shelf`).
FILED = 8 << 30


def together(model: Model, split: Split, most: int) -> tuple[Tensor, ...]:
    """As many samples as fit into memory, at most `most`, as one batch."""
    inputs, _ = split.take(max(1, min(most, BYTES // _largest(model))))
    return tuple(torch.from_numpy(array) for array in inputs)


def streamed(model: Model, split: Split, most: int) -> Split:
    """As many samples as may be put away between layers, at most `most`, to be read in batches."""
    # Two values are read by later layers in a network with shortcuts, in two graphs.
    return split.subset(max(1, min(most, FILED // (4 * _largest(model)))))


def _largest(model: Model) -> int:
    """Bytes of the largest value of one sample."""
    known = shapes(model.graph, model.signature, 1)
    return max(v.numel() for v in known.values() if isinstance(v, Tensor)) * 4

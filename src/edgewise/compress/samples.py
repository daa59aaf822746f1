"""Samples that are run together, in memory that the model bounds and not their number."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Split
from ..graph.canonical import shapes
from ..model import Model

__all__ = ["together"]

# What the largest value between layers may take for all samples together.
BYTES = 256 << 20


def together(model: Model, split: Split, most: int) -> tuple[Tensor, ...]:
    """As many samples as fit into memory, at most `most`, as one batch."""
    known = shapes(model.graph, model.signature, 1)
    largest = max(v.numel() for v in known.values() if isinstance(v, Tensor)) * 4
    inputs, _ = split.take(max(1, min(most, BYTES // largest)))
    return tuple(torch.from_numpy(array) for array in inputs)

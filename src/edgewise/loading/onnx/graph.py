"""An ONNX graph as plain values, checked: what the file says, free of protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Graph", "Input", "Node"]


@dataclass(frozen=True)
class Input:
    """An input of a graph; `shape` is None where unknown, a size is a name where it is open."""

    name: str
    shape: tuple[int | str, ...] | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        kind: the operator's name; of another domain than ``ai.onnx``: ``"domain:Name"``.
        name: the node's own name, or that of its first output.
        inputs, outputs: names of values; ``""`` for one that is left out.
        attributes: numbers, strings, tuples of them, `Constant`s and `Graph`s by name.
        version: of its domain's operator set.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass
class Graph:
    """Nodes in an order in which they can run; `constants` are the initializers by name."""

    inputs: list[Input]
    outputs: list[str]
    constants: dict[str, torch.Tensor]
    nodes: list[Node]

"""The operator table: ONNX kind -> a small function of torch operators."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...errors import ModelError
from .graph import Graph, Node
from .values import Constant, Stored, as_array, as_tensor, known

__all__ = ["HOST", "ROWS", "Op", "Row", "host", "row"]


@dataclass(frozen=True)
class Row:
    """How one operator is called.

    Attributes:
        run: takes an `Op` and the inputs, gives the output, or a tuple where there are several.
        numbers: positions of the inputs that must be known numbers; they come as arrays.
        either: positions of the inputs that come as an array if known, else as a tensor.
        moves: the operator moves or selects elements of its first input: stored integers go
            through on their grid.
        raw: inputs come as they are (see `values`).
        random: never folded.
    """

    run: Callable[..., Any]
    numbers: Collection[int] = ()
    either: Collection[int] = ()
    moves: bool = False
    raw: bool = False
    random: bool = False


ROWS: dict[str, Row] = {}
# Arithmetic on known numbers, object arrays of sizes included: kind -> function of arrays.
HOST: dict[str, Callable[..., Any]] = {}


def row(*kinds: str, **options: Any) -> Callable:
    """Register a function for these operators."""

    def register(function: Callable) -> Callable:
        for kind in kinds:
            ROWS[kind] = Row(function, **options)
        return function

    return register


def host(*kinds: str) -> Callable:
    """Register a function of arrays for these operators."""

    def register(function: Callable) -> Callable:
        for kind in kinds:
            HOST[kind] = function
        return function

    return register


@dataclass(frozen=True, eq=False)
class Op:
    """What a row's function knows beside the inputs.

    Attributes:
        batch: the batch size that the file fixes, None where it leaves it open.
        batch_last: where the batch lies in an axis that it shares, when that axis is split.
        graph: runs a subgraph on values, and gives its outputs.
        expanded: runs the operator by its definition in ONNX.
    """

    node: Node
    batch: int | None
    batch_last: bool
    graph: Callable[[Graph, list[Any]], list[Any]]
    expanded: Callable[[list[Any]], list[Any]]

    @property
    def kind(self) -> str:
        return self.node.kind

    @property
    def version(self) -> int:
        return self.node.version

    def __getitem__(self, name: str) -> Any:
        """An attribute that must be there."""
        if name not in self.node.attributes:
            raise self.fail(f"its attribute '{name}' is missing")
        return self.node.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def wants(self, index: int) -> bool:
        """Whether anyone may read this output."""
        return index < len(self.node.outputs) and self.node.outputs[index] != ""

    def fail(self, why: str) -> ModelError:
        return ModelError(f"node '{self.node.name}' ({self.kind}) cannot be loaded: {why}")

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise self.fail(f"it names axis {axis} of a tensor with {rank}")
        return int(axis) % max(rank, 1)

    def run(self, inputs: list[Any]) -> list[Any]:
        """The outputs, by the row of this operator."""
        found = ROWS[self.kind]
        if found.raw:
            result = found.run(self, *inputs)
        elif found.moves and inputs and isinstance(inputs[0], Stored):
            result = self._moved(found, inputs)
        else:
            result = found.run(self, *self._taken(found, inputs))
        return list(result) if isinstance(result, tuple) else [result]

    def _taken(self, found: Row, inputs: list[Any]) -> list[Any]:
        taken = []
        for i, value in enumerate(inputs):
            if value is not None and i in found.numbers:
                if not known(value):
                    raise self.fail(
                        f"input {i} ('{self.node.inputs[i]}') is computed from data, where a Model "
                        "needs sizes that are known"
                    )
                taken.append(as_array(value))
            elif i in found.either and known(value):
                taken.append(as_array(value))
            else:
                taken.append(as_tensor(value))
        return taken

    def _moved(self, found: Row, inputs: list[Any]) -> Any:
        """Run on the real numbers; numbers among the inputs (padding, bounds) are made real."""
        grid = inputs[0].grid
        same = (
            all(v.grid.key == grid.key for v in inputs if isinstance(v, Stored))
            and grid.axis is None
        )
        numbers = [i for i, v in enumerate(inputs) if i and _number(v) == grid.dtype]
        if not same or not all(isinstance(inputs[i], Constant | Stored) for i in numbers):
            return found.run(self, *self._taken(found, inputs))
        real = list(inputs)
        for i, value in enumerate(inputs):
            if isinstance(value, Stored):
                real[i] = value.real
            elif i in numbers:
                steps = value.numbers.astype(np.float32) - (grid.key[1] + grid.offset)
                real[i] = np.asarray(steps * np.float32(grid.key[0]))
        result = found.run(self, *self._taken(found, real))
        if isinstance(result, tuple):
            return tuple(Stored(r, grid) if r.is_floating_point() else r for r in result)
        return Stored(result, grid)


def _number(value: Any) -> torch.dtype | None:
    return value.tensor.dtype if isinstance(value, Constant) else None

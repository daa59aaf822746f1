"""The graph of a Model under way: values in TFLite's axes, and the nodes that compute them.

An operator's row says what it does in aten's words. Where everything that it reads is constant it
is computed at once, so shape arithmetic and weights stored as float16 fold away by themselves.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx

from ...errors import ModelError
from ...graph.canonical import FAKE_QUANTIZE
from .reader import Grid

__all__ = ["MOST_NUMBERS", "Network", "Value", "layer_name", "real"]

aten = torch.ops.aten
MOST_NUMBERS = 2**31  # in one value, for one sample
MOST_FOLDED = 2**28  # numbers that constant arithmetic may give in all

# The last part of a TensorFlow name says what is done; the layer is what stands before.
DEEDS = ("BiasAdd", "Conv2D", "depthwise", "MatMul", "conv2d_transpose", "Conv1D")
WEIGHTS = ("weight", "bias")
TAKEN = {*dir(fx.GraphModule(torch.nn.Module(), fx.Graph())), *WEIGHTS}


@dataclass(frozen=True, eq=False)
class Value:
    """Numbers of a graph under way: a node's, or a constant's.

    Attributes:
        meta: a tensor without data that has their shape and dtype, at the file's batch size.
        node: what computes them; None for a constant.
        data: a constant's numbers. Those on a grid are real numbers, except int32 (a bias's),
            which stay integers.
        grid: where they lie.
        name: of the parameter or buffer that a constant becomes.
        lifted: whether the node has a batch axis before TFLite's axes. Files are made for one
            sample, and may drop its axis, move it, or join it with others on the way; there the
            batch gets an axis of its own.
    """

    meta: torch.Tensor
    node: fx.Node | None = None
    data: torch.Tensor | None = None
    grid: Grid | None = None
    name: str = ""
    lifted: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """As in the file."""
        return tuple(self.meta.shape[self.lifted :])

    def axis(self, axis: int) -> int:
        """The node's axis for one of the file's.

        Raises:
            ModelError: there is none.
        """
        rank = len(self.shape)
        if not -rank <= axis < rank:
            raise ModelError(f"it has axis {axis} for a value with {rank} axes")
        return axis % rank + self.lifted

    def integers(self) -> list[int]:
        """A constant's numbers as a flat list of integers: axes, sizes, paddings.

        Raises:
            ModelError: the value is computed.
        """
        if self.data is None:
            raise ModelError("it takes sizes or axes that are computed from the input")
        if self.data.numel() > 64:
            raise ModelError(f"it takes {self.data.numel()} sizes or axes")
        return [int(n) for n in self.data.reshape(-1).tolist()]


class Network:
    """Collects nodes, and the parameters and buffers that they read.

    Attributes:
        batch: the batch size of the file; the graph takes any.
        layer: the user's name for the operator being written, dotted; begins its nodes' names.
        grid: where the numbers that the present operator gives will lie.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.graph = fx.Graph()
        self.attributes: dict[str, torch.Tensor] = {}
        self.layer = ""
        self.grid: Grid | None = None
        self._nodes: dict[int, tuple[Value, fx.Node]] = {}
        self._arranged: dict[tuple[int, tuple[int, ...]], tuple[Value, Value]] = {}
        self._grids: dict[Any, tuple[str, str]] = {}
        self._inputs: set[str] = set()
        self._folded = 0

    # --- constants --------------------------------------------------------------------------

    def constant(self, data: torch.Tensor, grid: Grid | None = None, name: str = "") -> Value:
        return Value(data.to("meta"), None, data, grid, name)

    def weight(self, value: Value, order: Sequence[int], name: str = "weight") -> Value:
        """A weight with its axes in this order, a parameter of the present layer if constant."""
        key = (id(value), tuple(order))
        if key not in self._arranged:
            if value.data is None:
                result = self.call(aten.permute.default, value, list(order))
            else:
                grid = value.grid
                if grid is not None and grid.axis is not None:
                    grid = replace(grid, axis=list(order).index(grid.axis))
                data = value.data.permute(*order).contiguous()
                result = self.constant(data, grid, f"{self.layer}.{name}")
            self._arranged[key] = value, result
        return self._arranged[key][1]

    # --- operators --------------------------------------------------------------------------

    def input(self, name: str, meta: torch.Tensor) -> Value:
        stem = re.sub(r"\W", "_", name.removesuffix(":0")) or "input"
        stem = stem if stem.isidentifier() and not keyword.iskeyword(stem) else f"input_{stem}"
        while stem in self._inputs:
            stem += "_"
        self._inputs.add(stem)
        return Value(meta, self.graph.placeholder(stem))

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Value:
        """One aten operator; Values may stand among its arguments, in lists too."""
        values = [a for a in _flat(args) if isinstance(a, Value)]
        meta = target(*_mapped(args, lambda v: v.meta), **kwargs)
        if meta.numel() > MOST_NUMBERS:
            raise ModelError(f"it gives {meta.numel()} numbers for one sample")
        if all(v.data is not None for v in values):
            self._folded += meta.numel()
            if self._folded > MOST_FOLDED:
                raise ModelError("its constants expand to more numbers than any model has")
            return self.constant(target(*_mapped(args, lambda v: v.data), **kwargs))
        name = f"{self.layer}.{target.__name__.partition('.')[0]}".replace(".", "_")
        node = self.graph.create_node(
            "call_function", target, _mapped(args, self.node), kwargs, name=name
        )
        return Value(meta, node, lifted=any(v.lifted for v in values))

    def reshaped(self, x: Value, shape: Sequence[int]) -> Value:
        """The numbers in another shape; what is the batch's stays the batch's."""
        shape = list(shape)
        count = math.prod(x.shape)
        if -1 in shape:
            known = math.prod(n for n in shape if n != -1)
            shape[shape.index(-1)] = count // known if known else 0
        if math.prod(shape) != count or min(shape, default=0) < 0:
            raise ModelError(f"it reads shape {list(x.shape)} as {shape}")
        if tuple(shape) == x.shape:
            return x
        if x.data is not None:
            return replace(self.call(aten.reshape.default, x, shape), grid=x.grid)
        if shape[:1] == [self.batch]:
            result = self.call(aten.reshape.default, x, [-1, *shape[1:]])
            return replace(result, grid=x.grid, lifted=False)
        return self._lifted(x, shape)

    def lifted(self, x: Value) -> Value:
        """The value with a batch axis before all of the file's."""
        return x if x.lifted or x.data is not None else self._lifted(x, x.shape)

    def _lifted(self, x: Value, shape: Sequence[int]) -> Value:
        if self.batch != 1:
            raise ModelError(
                f"it mixes the {self.batch} samples of the file's batch: convert the model for one"
            )
        result = self.call(aten.reshape.default, x, [-1, *shape])
        return replace(result, grid=x.grid, lifted=True)

    def along(self, x: Value, axes: Sequence[int]) -> tuple[Value, list[int]]:
        """A value and the node's axes for these of the file's, sorted; lifted if one is the
        batch's."""
        if any(axis in (0, -len(x.shape)) for axis in axes):
            x = self.lifted(x)
        return x, sorted({x.axis(axis) for axis in axes})

    def aligned(self, values: Sequence[Value]) -> list[Value]:
        """Values whose axes, from the last on, are the same, as broadcasting wants them."""
        if not any(v.lifted for v in values):
            return list(values)
        rank = max(len(v.shape) for v in values)
        values = [self.lifted(v) for v in values]
        return [
            v
            if v.data is not None or len(v.shape) == rank
            else self._lifted(v, [1] * (rank - len(v.shape)) + list(v.shape))
            for v in values
        ]

    def node(self, value: Value) -> fx.Node:
        """The node that gives a value; a constant's is a parameter or buffer."""
        if value.node is not None:
            return value.node
        if id(value) not in self._nodes:
            leaf = value.name.rpartition(".")[2]
            data = value.data.clone(memory_format=torch.contiguous_format)
            trained = leaf in WEIGHTS and data.is_floating_point()
            name = value.name or f"{self.layer.replace('.', '_')}_constant"
            node = self._attribute(name, torch.nn.Parameter(data) if trained else data)
            if value.grid is not None and data.is_floating_point():
                node = self._fake(node, value.grid, node.name)
            self._nodes[id(value)] = value, node
        return self._nodes[id(value)][1]

    def quantized(self, value: Value, grid: Grid) -> Value:
        """The value on a grid; as it is when it lies there already."""
        if grid.same(value.grid):
            return value
        if value.data is not None:
            return replace(value, grid=grid)
        node = self._fake(value.node, grid, value.node.name)
        return replace(value, node=node, grid=grid)

    def _fake(self, node: fx.Node, grid: Grid, name: str) -> fx.Node:
        key = (grid.scale.shape, grid.scale.tobytes(), grid.zero_point.tobytes())
        if key not in self._grids:
            self._grids[key] = (
                self._named(f"{name}_scale", torch.tensor(grid.scale)),
                self._named(f"{name}_zero_point", torch.tensor(grid.zero_point)),
            )
        buffers = (self.graph.create_node("get_attr", target) for target in self._grids[key])
        low = -grid.high if _spares_lowest(self.attributes.get(node.target), grid) else grid.low
        arguments = (node, *buffers, low, grid.high, grid.axis)
        return self.graph.create_node(
            "call_function", FAKE_QUANTIZE, arguments, name=f"{name}_fake_quantize"
        )

    def _attribute(self, name: str, data: torch.Tensor) -> fx.Node:
        return self.graph.create_node("get_attr", self._named(name, data))

    def _named(self, name: str, data: torch.Tensor) -> str:
        """Keep a parameter or buffer under this name, or one like it that is free."""
        owner, dot, leaf = name.rpartition(".")
        count = 0
        while name in self.attributes:
            count += 1
            name = f"{owner}_{count}{dot}{leaf}" if owner else f"{leaf}_{count}"
        self.attributes[name] = data
        return name


def _spares_lowest(data: torch.Tensor | None, grid: Grid) -> bool:
    """Whether these are weights as the 8-bit specification has them, without -128."""
    if data is None or grid.low != -128 or grid.zero_point.any():
        return False
    return bool((data >= -127.5 * _along(grid, data.ndim)).all())


def _along(grid: Grid, rank: int) -> torch.Tensor:
    """The scale, shaped to broadcast against a tensor of this rank."""
    scale = torch.tensor(grid.scale)
    if grid.axis is None:
        return scale
    return scale.reshape([-1 if k == grid.axis else 1 for k in range(rank)])


def real(integers: np.ndarray, grid: Grid) -> torch.Tensor:
    """The real numbers (float32) that integers on a grid stand for."""
    scale, zero_point = grid.scale, grid.zero_point
    if grid.axis is not None:
        shape = [-1 if k == grid.axis else 1 for k in range(integers.ndim)]
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    steps = (integers.astype(np.int32) - zero_point).astype(np.float32)
    with np.errstate(over="ignore"):  # infinity is refused with the name of the weight
        return torch.from_numpy(np.asarray(steps * scale, np.float32, order="C"))


def layer_name(tensor: str, fallback: str) -> str:
    """The user's name for an operator, from the name of what it gives.

    TensorFlow joins the names of all that it fused: ``a/Relu;a/bn/FusedBatchNormV3;a/conv/Conv2D``.
    """
    segments = tensor.split(";")[:64]
    for deed in DEEDS:
        for segment in segments:
            stem, _, last = segment.rpartition("/")
            if stem and last.rstrip("0123456789") in (deed, deed.rstrip("0123456789")):
                return _identifiers(stem)
    return _identifiers(segments[0]) or fallback


def _identifiers(path: str) -> str:
    """A path as dotted identifiers, none of which an `nn.Module` has already."""
    parts = []
    for part in re.split(r"[/.:]+", path[:200]):
        part = re.sub(r"\W", "_", part, flags=re.ASCII).strip("_")
        if not part:
            continue
        taken = keyword.iskeyword(part) or part in TAKEN
        parts.append(part if part.isidentifier() and not taken else f"m_{part}")
    return ".".join(parts)


def _flat(arguments: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for a in arguments:
        flat.extend(_flat(a) if isinstance(a, list | tuple) else [a])
    return flat


def _mapped(arguments: Sequence[Any], function: Any) -> tuple[Any, ...]:
    return tuple(
        function(a)
        if isinstance(a, Value)
        else list(_mapped(a, function))
        if isinstance(a, list | tuple)
        else a
        for a in arguments
    )

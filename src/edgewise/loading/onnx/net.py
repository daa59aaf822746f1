"""The graph of a file as an `nn.Module`: its constants by name, and one submodule a node."""

from __future__ import annotations

import inspect
import keyword
import operator
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import ModelError
from . import (
    control,
    elementwise,
    products,
    quantized,
    recurrent,
    resize,
    selection,
    shapes,
    spatial,
)
from .file import body
from .graph import Graph, Node
from .prepare import UNFOLDED, Prepared
from .rows import HOST, ROWS, Op
from .values import Constant, as_array, as_tensor, dtype_of, known, numbers_of, outside

__all__ = ["Net", "identifier"]

# Importing a table adds its rows to `ROWS`.
TABLES = (control, elementwise, products, quantized, recurrent, resize, selection, shapes, spatial)
DEEPEST = 16
MORE_APPLIED = 2_000  # nodes that loops and bodies may add
# What is computed as numbers while exporting: at most so many elements, and nothing that makes
# much of little.
LARGEST_KNOWN = 4096
GROWS = {"ConstantOfShape", "Range", "Expand", "Tile", "Resize", "Upsample", "Pad", "OneHot"}


def identifier(name: str, taken: set[str]) -> str:
    """A name of a file as a name in Python, other than those taken."""
    name = re.sub(r"\W", "_", name.strip("/"), flags=re.ASCII) or "value"
    name = f"m_{name}" if not name[0].isalpha() and name[0] != "_" else name
    while name in taken or keyword.iskeyword(name):
        name += "_"
    taken.add(name)
    return name


class _Call(nn.Module):
    """One node; a module so that what it becomes in the exported graph carries its name."""

    def __init__(self, node: Node):
        super().__init__()
        self.node = node

    def forward(self, run: Any, inputs: list[Any]) -> list[Any]:
        return run(self.node, inputs)


class Net(nn.Module):
    """Runs the graph by torch operators.

    Args:
        graph: with constants folded.
        batch: the batch size that the file fixes, None where it leaves it open.
        batch_last: where the batch lies in an axis that it shares (see `shapes`).
    """

    def __init__(self, graph: Prepared, batch: int | None, batch_last: bool = False):
        super().__init__()
        self.batch_last = batch_last
        self.graph_ = graph
        self.batch = batch
        self.paths: dict[int, dict[str, tuple[np.ndarray, str]]] = {}
        self._hold(graph, graph.weights, graph.shown)
        taken = {name for name, _ in self.named_children()} | set(dir(self))
        self.calls: list[_Call] = []
        for node in graph.nodes:
            call = _Call(node)
            self.add_module(identifier(node.name.replace(".", "_"), taken), call)
            self.calls.append(call)
        # The exporter names the inputs after the parameters of `forward`.
        names: set[str] = set()
        parameters = [
            inspect.Parameter(identifier(i.name, names), inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for i in graph.inputs
        ]
        self.forward = lambda *inputs: self._forward(*inputs)
        self.forward.__signature__ = inspect.Signature(parameters)

    def _hold(self, graph: Graph, weights: set[str], shown: dict[str, str]) -> None:
        """Register the constants that anything reads, those of subgraphs too."""
        read = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
        subgraphs = [a for n in graph.nodes for a in n.attributes.values() if isinstance(a, Graph)]
        read |= {name for inner in subgraphs for name in _reads(inner)}
        paths = self.paths[id(graph)] = {}
        # Names as the file has them come first, those of what was made from them after.
        for name in sorted(set(graph.constants) & read, key=lambda n: shown.get(n, n) != n):
            value = graph.constants[name]
            path = self._place(shown.get(name, name), value, name in weights)
            paths[name] = numbers_of(value), path
        for inner in subgraphs:
            self._hold(inner, set(), {})

    def _place(self, name: str, value: torch.Tensor, trained: bool) -> str:
        """Register a constant under its own name, as far as Python allows it; gives the path."""
        # fx writes names into source code, so that each must be an identifier there.
        parts = [re.sub(r"\W", "_", part, flags=re.ASCII) or "_" for part in name.split(".")]
        parts = [f"{part}_" if keyword.iskeyword(part) else part for part in parts]
        owner: nn.Module = self
        while len(parts) > 1:
            child = getattr(owner, parts[0], None)
            if child is None and not hasattr(owner, parts[0]):
                child = nn.Module()
                owner.add_module(parts[0], child)
            if not isinstance(child, nn.Module):
                parts = [f"{parts[0]}_{parts[1]}", *parts[2:]]
                continue
            owner, parts = child, parts[1:]
        leaf = parts[0]
        while hasattr(owner, leaf):
            leaf += "_"
        if trained:
            owner.register_parameter(leaf, nn.Parameter(value))
        else:
            owner.register_buffer(leaf, value)
        prefix = next(n for n, m in self.named_modules() if m is owner)
        return f"{prefix}.{leaf}" if prefix else leaf

    def _forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.applied = 0
        env = dict(zip([i.name for i in self.graph_.inputs], inputs, strict=True))
        outputs = self._run(self.graph_, env, 0, [*self.calls])
        return tuple(as_tensor(value) for value in outputs)

    def _run(
        self, graph: Graph, env: dict[str, Any], depth: int, calls: Sequence[_Call] = ()
    ) -> list[Any]:
        if depth > DEEPEST:
            raise ModelError(f"its graphs are nested more than {DEEPEST} deep")
        for name, (numbers, path) in self.paths.get(id(graph), {}).items():
            env[name] = Constant(numbers, operator.attrgetter(path)(self))

        def run(node: Node, inputs: list[Any]) -> list[Any]:
            return self._apply(node, inputs, env, depth)

        for i, node in enumerate(graph.nodes):
            inputs = [env[name] if name else None for name in node.inputs]
            outputs = calls[i](run, inputs) if calls else run(node, inputs)
            env.update((n, v) for n, v in zip(node.outputs, outputs, strict=False) if n)
        return [env[name] if name else None for name in graph.outputs]

    def _apply(self, node: Node, inputs: list[Any], env: dict[str, Any], depth: int) -> list[Any]:
        self.applied += 1
        if self.applied > len(self.calls) + MORE_APPLIED:
            raise ModelError(f"its loops and functions add more than {MORE_APPLIED:,} nodes")

        def inner(graph: Graph, values: list[Any]) -> list[Any]:
            names = [i.name for i in graph.inputs]
            return self._run(graph, {**env, **dict(zip(names, values, strict=True))}, depth + 1)

        def expanded(values: list[Any]) -> list[Any]:
            return self._expanded(node, values, depth)

        op = Op(node, self.batch, self.batch_last, inner, expanded)
        try:
            results = _numbers(op, inputs)
            if results is None:
                results = op.run(inputs) if node.kind in ROWS else expanded(inputs)
            return results
        except ModelError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as e:
            reason = (str(e).strip() or type(e).__name__).splitlines()[0]
            raise op.fail(reason) from e

    def _expanded(self, node: Node, values: list[Any], depth: int) -> list[Any]:
        """By the operator's definition in ONNX."""
        types = [None if v is None else (dtype_of(v), _sizes(v)) for v in values]
        with outside():
            graph = body(node, types)
        if graph is None:
            raise ModelError(
                f"operator {node.kind} at node '{node.name}' is not known: write the layer with "
                "other operators, or keep it out of the exported model"
            )
        names = [i.name for i in graph.inputs]
        given = dict(zip(names, [*values, *[None] * len(names)], strict=False))
        return self._run(graph, given, depth + 1)


def _numbers(op: Op, inputs: list[Any]) -> list[Any] | None:
    """What is known while exporting needs no operator in the graph; None where it is not."""
    given = [v for v in inputs if v is not None]
    if not given or not all(known(v) and v_size(v) <= LARGEST_KNOWN for v in given):
        return None
    arrays = [None if v is None else as_array(v) for v in inputs]
    if op.kind in HOST:
        result = HOST[op.kind](op, *arrays)
        if result is not NotImplemented:
            results = result if isinstance(result, tuple) else (result,)
            return [shapes.settled(np.asarray(r)) for r in results]
    plain = all(a is None or a.dtype != object for a in arrays)
    if not plain or op.kind in GROWS | UNFOLDED or op.kind not in ROWS or ROWS[op.kind].random:
        return None
    if any(isinstance(a, Graph) for a in op.node.attributes.values()):
        return None
    with outside():
        constants = [
            None if v is None else Constant.of(torch.from_numpy(a.copy()).to(dtype_of(v)))
            for v, a in zip(inputs, arrays, strict=True)
        ]
        results = op.run(constants)
        return [Constant.of(as_tensor(r)) if isinstance(r, torch.Tensor) else r for r in results]


def v_size(value: Any) -> int:
    return (value if isinstance(value, np.ndarray) else value.numbers).size


def _sizes(value: Any) -> list[Any]:
    shape = shapes.extent(value)
    return [s if isinstance(s, int) else "batch" for s in shape]


def _reads(graph: Graph) -> set[str]:
    """Names that a graph and those within it read."""
    found = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    for node in graph.nodes:
        for value in node.attributes.values():
            if isinstance(value, Graph):
                found |= _reads(value)
    return found

"""Program -> ExecuTorch ``.pte``, in the patterns that XNNPACK's partitioner takes whole.

The Program becomes a graph of core aten operators, and that goes through ExecuTorch's own way:
`torch.export`, `to_edge_transform_and_lower`, `to_executorch`. What decides the speed is that all
of it ends in one call of XNNPACK, and integers inside:

* Each quantized operator stands between ``dequantize_per_tensor`` of every input and
  ``quantize_per_tensor`` of its output, each dequantize read by that operator alone. Weights are
  int8 constants behind ``dequantize_per_channel``; a bias is float32, which XNNPACK's lowering
  rounds to int32 of scale ``input scale * weight scale``.
* Where a clamp's bounds are the ends of the grid, nothing is written for it: XNNPACK fuses only a
  ReLU into an integer addition, and no clamp at all into a multiplication.
* What XNNPACK does not run is said with what it runs (`edgewise.lowering.executorch_simplify`).
"""

from __future__ import annotations

import logging
import math
import operator
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx

from ..edge.runners.executorch import sdk
from ..errors import InputError, MissingExtra, UnsupportedOperator
from ..record import Signature
from .build import build
from .executorch_ops import OPS, Graph
from .executorch_simplify import simplify
from .executorch_weights import linear
from .program import NO_CLAMP, Op, Program, Quant, Tensor, check_widths
from .symmetric import symmetric

__all__ = ["check", "to_pte", "write"]

quantized_decomposed = torch.ops.quantized_decomposed


def write(
    module: fx.GraphModule, signature: Signature, batch: int, path: Path, *, half: bool = False
) -> dict[str, str]:
    """Lower a canonical graph to a ``.pte`` file at `path`; no tensor is laid out anew.

    Raises:
        InputError: `half`, which would gain nothing.
        MissingExtra: ExecuTorch is not installed.
        UnsupportedOperator: an operator that cannot be lowered, with its layer.
    """
    if half:
        # Measured with executorch 1.5.1: ResNet-20 in float16 takes the same bytes and twice the
        # time, for XNNPACK's lowering keeps the weights of convolutions in float32.
        raise InputError(
            "ExecuTorch keeps float16 weights as float32 in its files: lower without half, or "
            "quantize the model to int8"
        )
    manager = to_pte(build(module, signature, batch))
    with path.open("wb") as file:
        manager.write_to_file(file)
    return {}


def check(program: Program) -> None:
    """Raise `UnsupportedOperator` where the Program cannot be written.

    What neither XNNPACK nor a portable kernel takes is known only to the compiler (`to_pte`).
    """
    _compiler()  # its import registers the quantized operators
    _module(program)


def to_pte(program: Program) -> Any:
    """The Program as an ``ExecutorchProgramManager``, which can be written to a file.

    Raises:
        MissingExtra: ExecuTorch is not installed.
        UnsupportedOperator: an operator that cannot be lowered, with its layer.
    """
    exir, partitioner = _compiler()
    with _quiet():
        edge = exir.to_edge_transform_and_lower(
            _exported(program),
            partitioner=[partitioner],
            compile_config=exir.EdgeCompileConfig(_check_ir_validity=False),
        )
        _check_kernels(edge.exported_program().graph, sdk()._get_operator_names())
        return edge.to_executorch()


def _compiler() -> tuple[ModuleType, Any]:
    """ExecuTorch's compiler and the partitioner that hands it to XNNPACK.

    Raises:
        MissingExtra: ExecuTorch is not installed.
    """
    try:
        with _quiet():
            from executorch import exir
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    except ModuleNotFoundError:
        raise MissingExtra("ExecuTorch", "executorch") from None

    class Partitioner(XnnpackPartitioner):
        """XNNPACK's, saying only which operators it wants whole.

        Its own also asks to check each such node again, for which ExecuTorch decomposes the
        program three times instead of once: a third of the whole lowering. Here there is nothing
        to check, since only what XNNPACK takes is written with these operators.
        """

        def ops_to_not_decompose(self, ep):
            return super().ops_to_not_decompose(ep)[0], None

    return exir, Partitioner()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what ExecuTorch and torchao log, and warn the user about themselves.

    The import also configures the root logger, which is the application's to configure.
    """
    handlers, disabled = logging.root.handlers[:], logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers


def _check_kernels(graph: fx.Graph, kernels: Collection[str]) -> None:
    """Refuse what neither XNNPACK took nor the portable kernels have.

    Raises:
        UnsupportedOperator: naming the operator and the layer.
    """
    known = {kernel.partition(".")[0] for kernel in kernels}
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and schema is not None and schema.name not in known:
            layer = node.meta.get("custom", {}).get("layer", node.name)
            raise UnsupportedOperator(
                f"ExecuTorch has no kernel for {schema.name} at layer '{layer}': write the layer "
                "with other operators, or lower the model for another runtime"
            )


# --- Program -> aten ----------------------------------------------------------------------------


def _exported(program: Program) -> torch.export.ExportedProgram:
    """The Program as ExecuTorch takes it; each operator's ``meta["custom"]`` names its layer."""
    module = _module(program)
    inputs = tuple(torch.zeros(t.shape, dtype=getattr(torch, t.dtype)) for t in program.inputs)
    exported = torch.export.export(module, inputs)
    for written, traced in zip(_calls(module.graph), _calls(exported.graph), strict=True):
        traced.meta["custom"] = {"layer": written.meta["layer"]}
    return exported


def _calls(graph: fx.Graph) -> list[fx.Node]:
    """The operators; picking one of several results is none."""
    functions = (node for node in graph.nodes if node.op == "call_function")
    return [node for node in functions if node.target is not operator.getitem]


def _module(program: Program) -> fx.GraphModule:
    writer = _Writer()
    for i, tensor in enumerate(program.inputs):
        writer.values[tensor.name] = writer.graph.nodes.placeholder(f"x{i}")
    for op in simplify(symmetric(program)):
        writer.write(op)
    writer.graph.nodes.output(tuple(writer.real(t) for t in program.outputs))
    return fx.GraphModule(writer.graph.root, writer.graph.nodes)


class _Writer:
    """Appends operators to a graph.

    Attributes:
        values: tensor name -> the node that gives it: of integers for a quantized tensor.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.values: dict[str, fx.Node] = {}

    def write(self, op: Op) -> None:
        """Append one operator, quantized or not."""
        graph, out = self.graph, op.output
        graph.layer = op.layer or out.name
        check_widths(op, "executorch")
        if op.kind in ("quantize", "dequantize"):
            value = self.real(op.inputs[0])
        elif op.kind == "linear" and out.quant is None and op.inputs[1].quant is not None:
            x, _, bias = op.inputs
            value = linear(graph, op, self.floats(x), self.floats(bias))
            value = graph.clamp(value, *op.attrs.get("clamp", NO_CLAMP))
        else:
            take = self.real if _takes_integers(op) else self.floats
            inputs = [take(t) for t in op.inputs]
            value = OPS[op.kind](graph, op, *inputs)
            value = graph.clamp(value, *_clamp_left(op.attrs.get("clamp", NO_CLAMP), out.quant))
        if out.quant is not None:
            value = graph(
                quantized_decomposed.quantize_per_tensor.default, value, *_grid(out.quant)
            )
        self.values[out.name] = value

    def real(self, tensor: Tensor | None) -> fx.Node | None:
        """The real numbers of a tensor, as one reader of it takes them."""
        if tensor is None or tensor.quant is None:
            return self.floats(tensor)
        if tensor.data is None:
            integers = self.values[tensor.name]
        else:
            integers = self.graph.constant(tensor.data)
        quant = tensor.quant
        if quant.axis is None:
            target = quantized_decomposed.dequantize_per_tensor.default
            return self.graph(target, integers, *_grid(quant))
        scale = self.graph.constant(quant.scale.astype(np.float32))
        zero_point = self.graph.constant(quant.zero_point.astype(np.int64))
        target = quantized_decomposed.dequantize_per_channel.default
        return self.graph(target, integers, scale, zero_point, quant.axis, -127, 127, torch.int8)

    def floats(self, tensor: Tensor | None) -> fx.Node | None:
        """The same with constants held as float32."""
        if tensor is None:
            return None
        if tensor.data is None:
            return self.values[tensor.name] if tensor.quant is None else self.real(tensor)
        data = np.asarray(tensor.data)
        if tensor.quant is not None:
            data = _dequantized(data, tensor.quant)
        return self.graph.constant(data)


def _takes_integers(op: Op) -> bool:
    """Whether XNNPACK's partitioner takes this operator with constants of integers."""
    if op.kind == "conv_transpose":
        quant = op.inputs[1].quant
        return quant is None or quant.axis is None or (quant.axis == 1 and op.attrs["groups"] == 1)
    return op.kind in ("conv", "linear", "add", "sub", "mul")


def _clamp_left(bounds: tuple[float, float], quant: Quant | None) -> tuple[float, float]:
    """The bounds of a clamp without those that the ends of the grid imply."""
    low, high = bounds
    if quant is not None:
        scale, zero_point = float(quant.scale), int(quant.zero_point)
        if low / scale + zero_point < -127.5:
            low = -math.inf
        if high / scale + zero_point > 126.5:
            high = math.inf
    return low, high


def _grid(quant: Quant) -> tuple[float, int, int, int, torch.dtype]:
    """The last arguments of (de)quantize_per_tensor."""
    return float(quant.scale), int(quant.zero_point), -128, 127, torch.int8


def _dequantized(integers: np.ndarray, quant: Quant) -> np.ndarray:
    scale, zero_point = quant.scale, quant.zero_point
    if quant.axis is not None:
        shape = [-1 if axis == quant.axis else 1 for axis in range(integers.ndim)]
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return ((integers.astype(np.float32) - zero_point) * scale).astype(np.float32)

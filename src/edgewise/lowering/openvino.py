"""Program -> OpenVINO IR, in the idiom for which the CPU plugin has int8 kernels.

The plugin's low precision transformations (LPT) look for

* activations on a grid: FakeQuantize with 256 levels, which stands for quantize and dequantize;
* weights as int8 (or int4) Constant -> Convert -> Multiply by the scale, which the file keeps
  narrow; before a float MatMul they stay so in memory, too;
* a float bias, which they rescale themselves.

Every grid of the Program is written. The plugin then fuses convolution, bias, rounding, residual
sum and the next rounding into one primitive; it computes what the Program says to the last bit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..edge.runners.openvino import reason, sdk
from ..errors import ModelError, UnsupportedOperator
from .openvino_ops import OPERATORS, clamp
from .program import VALUE_PRESERVING, Op, Program, Quant, Tensor, check_widths

if TYPE_CHECKING:
    import torch

    from ..record import Signature

__all__ = ["check", "to_openvino", "write"]

LOWEST, HIGHEST = -128, 127
# Inputs of a MatMul that share a range when the plugin rounds them to int8 at run time; 0: never.
GROUP_SIZE = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]


def write(
    module: torch.fx.GraphModule,
    signature: Signature,
    batch: int,
    path: Path,
    *,
    half: bool = False,
) -> dict[str, str]:
    """Lower a canonical graph to `path` (``.xml``) and the ``.bin`` with the weights beside it.

    Args:
        half: store float constants as float16; the plugin computes in float32 all the same.

    Returns:
        No layouts: the plugin lays out anew inside.

    Raises:
        MissingExtra: openvino is not installed.
        UnsupportedOperator: an operator that OpenVINO cannot take; names it and its layer.
        ModelError: the file cannot be written.
    """
    from .build import build

    model = to_openvino(build(module, signature, batch))
    try:
        sdk().save_model(model, path, compress_to_fp16=half)
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be written: {reason(error)}") from None
    return {}


def check(program: Program) -> None:
    """Raise `UnsupportedOperator` where the Program cannot be written."""
    to_openvino(program)


def to_openvino(program: Program) -> Any:
    """The Program as an ``openvino.Model``; inputs and outputs keep their names.

    Raises:
        MissingExtra: openvino is not installed.
        UnsupportedOperator: an operator or width that OpenVINO cannot take; names the layer.
    """
    return _Writer(program).model()


class _Writer:
    """Appends one operator after the other to an OpenVINO graph."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ov = sdk()
        self.o = self.ov.opset15
        self.values: dict[str, Any] = {}  # tensor name -> node
        self.named: set[str] = set()
        self.readers: dict[str, list[Op]] = {}
        for op in program.ops:
            for name in {t.name for t in op.inputs if t is not None}:
                self.readers.setdefault(name, []).append(op)

    def model(self) -> Any:
        parameters = [self._parameter(t) for t in self.program.inputs]
        for op in self.program.ops:
            self.values[op.output.name] = self._operator(op)
        results = [self._result(t) for t in self.program.outputs]
        model = self.ov.Model(results, parameters, "edgewise")
        if any(op.kind == "linear" and _narrow(op) for op in self.program.ops):
            # Left alone, the plugin rounds the inputs where nobody asked for it.
            model.set_rt_info(str(_group_size(self.program.ops)), GROUP_SIZE)
        return model

    def _parameter(self, tensor: Tensor) -> Any:
        node = self.o.parameter(list(tensor.shape), np.dtype(tensor.dtype))
        node.output(0).set_names({tensor.name})
        self.values[tensor.name] = node
        self._name(node, tensor.name)
        return node

    def _result(self, tensor: Tensor) -> Any:
        node = self.o.result(self._value(tensor))
        node.output(0).set_names({tensor.name})
        self._name(node, tensor.name)
        return node

    def _operator(self, op: Op) -> Any:
        layer, out = op.layer or op.output.name, op.output
        check_widths(op, "openvino")
        if op.kind not in OPERATORS:
            raise UnsupportedOperator(f"openvino has no operator for {op.kind} at '{layer}'")
        inputs = [None if t is None else self._value(t) for t in op.inputs]
        try:
            node = OPERATORS[op.kind](self.o, op.attrs, *inputs)
        except RuntimeError as error:
            raise UnsupportedOperator(
                f"openvino does not take {op.kind} '{layer}': {reason(error)}"
            ) from None
        if "clamp" in op.attrs:
            node = clamp(self.o, _bounds(op.attrs["clamp"], out.quant), node)
        # What preserves values is on the grid already, except for the number that a pad puts in.
        if out.quant is not None and (op.kind not in VALUE_PRESERVING or op.attrs.get("value")):
            node = self._on_grid(node, out.quant, self._is_summed(op))
        self._name(node, f"{layer}/{out.name}")
        return node

    def _is_summed(self, op: Op) -> bool:
        """Whether the plugin will sum the result into a residual inside the convolution."""
        readers = self.readers.get(op.output.name, [])
        return op.kind == "conv" and [r.kind for r in readers] == ["add"]

    def _on_grid(self, node: Any, quant: Quant, summed: bool) -> Any:
        """Round to a grid (half to even) and clip to its ends.

        Convolution -> FakeQuantize -> Add -> FakeQuantize become one primitive, in which the
        plugin leaves the first rounding out: on ResNet-56 that turned 1 prediction in 120 into
        another. An explicit Round in front keeps the fusion and costs 1 to 2 % of the latency.
        """
        o, scale = self.o, float(quant.scale)
        ends = np.array([LOWEST, HIGHEST], np.float64) - int(quant.zero_point)
        low, high = (o.constant(np.float32(scale * end)) for end in ends)
        if not summed:
            return o.fake_quantize(node, low, high, low, high, 256)
        node = o.round(o.multiply(node, np.float32(1 / scale)), "half_to_even")
        return o.fake_quantize(node, *ends.astype(np.float32), low, high, 256)

    def _value(self, tensor: Tensor) -> Any:
        if tensor.data is not None and tensor.name not in self.values:
            self.values[tensor.name] = self._constant(tensor)
        return self.values[tensor.name]

    def _constant(self, tensor: Tensor) -> Any:
        o, quant = self.o, tensor.quant
        if quant is None:
            return o.constant(np.asarray(tensor.data, tensor.dtype))
        shape = [-1 if axis == quant.axis else 1 for axis in range(len(tensor.shape))]
        along = shape if quant.axis is not None else ()
        data = np.asarray(tensor.data, np.int8)
        grouped = quant.scale.ndim == 2
        if grouped:
            data, along = data.reshape(*quant.scale.shape, -1), (*quant.scale.shape, 1)
        moved = bool(np.any(quant.zero_point))
        node = o.convert(self._integers(data, quant, moved), "f32")
        if moved:
            zero_point = quant.zero_point.astype(np.int8).reshape(along)
            node = o.subtract(node, o.convert(self._integers(zero_point, quant, moved), "f32"))
        node = o.multiply(node, quant.scale.astype(np.float32).reshape(along))
        return o.reshape(node, list(tensor.shape), False) if grouped else node

    def _integers(self, data: np.ndarray, quant: Quant, moved: bool) -> Any:
        """Stored integers; with a zero point those of 4 bits are unsigned, as the kernels want."""
        if quant.dtype != "int4":
            return self.o.constant(data)
        kind, above = (self.ov.Type.u4, 8) if moved else (self.ov.Type.i4, 0)
        return self.ov.op.Constant(kind, self.ov.Shape(data.shape), (data + above).ravel())

    def _name(self, node: Any, name: str) -> None:
        """Name a node, and those before it that have no name yet.

        The names that OpenVINO gives count on through the life of the process: with them the same
        Program would become another file each time.
        """
        node = node.get_node() if isinstance(node, self.ov.Output) else node
        waiting = [node]
        while waiting:
            at = waiting.pop()
            if at.get_name() not in self.named:
                self.named.add(at.get_name())
                suffix = "" if at is node else f"/{at.get_type_name()}{len(self.named)}"
                at.set_friendly_name(name + suffix)
                waiting += [i.get_source_output().get_node() for i in at.inputs()]


def _narrow(op: Op) -> bool:
    """Whether a float operator has a quantized weight."""
    return op.output.quant is None and op.inputs[1].quant is not None


def _group_size(ops: tuple[Op, ...]) -> int:
    """How many inputs share a range at run time; 0 where none is rounded.

    Raises:
        UnsupportedOperator: ranges of another kind, or not the same for every linear.
    """
    size = None
    for op in ops:
        if op.kind != "linear" or not _narrow(op):
            continue
        how = op.attrs.get("dynamic")
        wanted = 0 if how is None else how.group
        if wanted is None or (how and how.low != -how.high) or (size not in (None, wanted)):
            raise UnsupportedOperator(
                f"openvino has no kernel for the way in which layer '{op.layer}' is quantized at "
                "run time: quantize with target=capabilities('openvino'), all linears alike"
            )
        size = wanted
    return size or 0


def _bounds(bounds: tuple[float, float], quant: Quant | None) -> tuple[float, float]:
    """The bounds of a clamp before a rounding: on the grid, and none where the grid ends anyway."""
    if quant is None:
        return bounds
    scale, zero_point = float(quant.scale), int(quant.zero_point)
    low, high = np.rint(np.array(bounds) / scale)
    return (
        scale * low if low + zero_point > LOWEST else -math.inf,
        scale * high if high + zero_point < HIGHEST else math.inf,
    )

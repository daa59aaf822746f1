"""Lowering to LiteRT: a Program as a ``.tflite`` file, written directly as a flatbuffer.

The file is made for XNNPACK, the library behind the interpreter's fast kernels: values are held
channels-last, integers are where it has kernels for them, and no operator interrupts it. What is
held where is in `litert_graph`, the operators in `litert_ops` and `litert_spatial`, the format in
`tflite_file`.

Images go in and out as N, H, W, C: the layouts given back tell the caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnsupportedOperator
from ..record import Signature, TensorSpec
from .litert_graph import Graph, Value
from .litert_ops import KERNELS
from .program import VALUE_PRESERVING, Op, Program, Tensor
from .strides import Frame, channels_last, complete
from .symmetric import WEIGHTED, real_weights, symmetric, weights_with_zero_points

if TYPE_CHECKING:
    import torch

__all__ = ["check", "to_tflite", "write"]

# Kinds whose output is never negative.
NEVER_NEGATIVE = frozenset({"sigmoid", "hardsigmoid", "softmax", "softplus", "exp", "abs", "sqrt"})

# Kinds with kernels for int16, of those whose kernels for int8 are used.
WIDE = frozenset(
    {"conv", "linear", "add", "max_pool", "mean", "concat", "pad", "slice", "reshape", "permute"}
)


def write(
    module: torch.fx.GraphModule,
    signature: Signature,
    batch: int,
    path: Path,
    *,
    half: bool = False,
) -> dict[str, str]:
    """Write the graph as the file `path` and give the layouts that differ from the signature's.

    Args:
        module: canonical, batch norms folded, dropout removed.
        half: store float weights as float16; the arithmetic stays float32 on most processors.

    Raises:
        MissingExtra: LiteRT is not installed.
        UnsupportedOperator: the graph has an operator that LiteRT lacks.
        ModelError: the model does not fit into a file of 2 GB.
    """
    from .build import build

    data, layouts = to_tflite(build(module, signature, batch), signature, half=half)
    path.write_bytes(data)
    return layouts


def check(program: Program) -> None:
    """Raise `UnsupportedOperator` where the Program cannot be written."""
    inputs, outputs = (
        tuple(TensorSpec(t.name, t.shape, t.dtype) for t in tensors)
        for tensors in (program.inputs, program.outputs)
    )
    to_tflite(program, Signature(inputs, outputs))


def to_tflite(
    program: Program, signature: Signature, *, half: bool = False
) -> tuple[bytes, dict[str, str]]:
    """The file's bytes, and the layouts of inputs and outputs that differ from the signature's."""
    unsigned = bool(weights_with_zero_points(program)) and all(map(_suits_uint8, program.ops))
    g = Graph(half, unsigned)
    program = real_weights(program if unsigned else symmetric(program), every=unsigned)
    layouts: dict[str, str] = {}
    known: dict[str, Value] = {}
    inputs = {}
    for tensor, spec in zip(program.inputs, signature.inputs, strict=True):
        frame = given_frame(tensor, spec)
        known[tensor.name] = g.input(tensor, spec.name, frame)
        inputs[spec.name] = known[tensor.name].index
        note_layout(layouts, spec, frame)
    for op in program.ops:
        if op.kind not in KERNELS:
            raise UnsupportedOperator(
                f"LiteRT has no operator for '{op.kind}' (layer '{op.layer}'): replace it in the "
                "model, or lower for another runtime"
            )
        g.layer = op.layer
        values = [None if t is None else value_of(g, known, t) for t in op.inputs]
        known[op.output.name] = replace(written(g, op, values), least=least(op, values))
    outputs = {}
    for tensor, spec in zip(program.outputs, signature.outputs, strict=True):
        g.layer = spec.name
        value = value_of(g, known, tensor)
        frame = taken_frame(value, spec)
        taken = {*inputs.values(), *outputs.values()}
        outputs[spec.name] = g.finished(value, frame, taken).index
        note_layout(layouts, spec, frame)
    return g.file.finish(inputs, outputs), layouts


def _suits_uint8(op: Op) -> bool:
    """Whether TFLite's kernels for uint8 take an operator: they know no scales by channel."""
    if op.kind in WEIGHTED and op.inputs[0].quant is None:
        return True  # beside floats its weight will be of floats
    grids = [t.quant for t in op.inputs if t is not None and t.quant is not None]
    return op.kind != "matmul" and all(grid.scale.ndim == 0 for grid in grids)


def value_of(g: Graph, known: dict[str, Value], tensor: Tensor) -> Value:
    """The value of a Program's tensor; constants are known from the first use on."""
    if tensor.data is not None and tensor.name not in known:
        known[tensor.name] = g.constant(tensor.data, tensor.quant, tensor.dtype)
    return known[tensor.name]


def written(g: Graph, op: Op, values: Sequence[Value | None]) -> Value:
    """The output of an operator, in float between DEQUANTIZE and QUANTIZE where it has to be."""
    kernel = KERNELS[op.kind]
    quant = op.output.quant
    if quant is None or op.kind == "quantize" or (kernel.integers(op) and _has_kernel(op)):
        return kernel.write(g, op, *values)
    values = [None if v is None else g.dequantized(v) for v in values]
    op = replace(op, output=replace(op.output, quant=None))
    return g.quantized(kernel.write(g, op, *values), quant)


def _has_kernel(op: Op) -> bool:
    """Whether TFLite has a kernel of the operator for integers of this width."""
    widths = {t.quant.dtype for t in op.inputs if t is not None and t.data is None}
    if op.output.quant.dtype == "int8" and widths <= {"int8"}:
        return True
    constants = [t for t in op.inputs[:2] if t is not None and t.data is not None]
    return (
        widths == {op.output.quant.dtype}
        and op.kind in WIDE
        and (op.kind in WEIGHTED or not constants)
        and not op.attrs.get("value")
        and op.attrs.get("mode", "constant") == "constant"
    )


def least(op: Op, values: Sequence[Value | None]) -> float:
    """A number below which the operator's output does not go."""
    quant = op.output.quant
    bounds = [-math.inf, op.attrs.get("clamp", (-math.inf,))[0]]
    if op.kind in NEVER_NEGATIVE:
        bounds.append(0.0)
    if quant is not None:
        lowest = float(np.iinfo(quant.dtype).min)
        bounds.append(float(quant.scale * (lowest - quant.zero_point)))
    elif op.kind in VALUE_PRESERVING:
        bounds.append(min(v.least for v in values))
    return max(bounds)


def given_frame(tensor: Tensor, spec: TensorSpec) -> Frame:
    """How an input is taken: channels-last where the signature names its channels."""
    rank = len(tensor.shape)
    return channels_last(rank) if rank > 2 and spec.layout[1:2] == "C" else tuple(range(rank))


def taken_frame(value: Value, spec: TensorSpec) -> Frame:
    """How an output is given: as it lies there, where the signature's letters can tell how."""
    rank = len(value.shape)
    told = rank > 2 and len(set(spec.layout)) == rank
    return complete(value.frame, rank) if told else tuple(range(rank))


def note_layout(layouts: dict[str, str], spec: TensorSpec, frame: Frame) -> None:
    if frame != tuple(range(len(frame))):
        layouts[spec.name] = "".join(spec.layout[k] for k in frame)

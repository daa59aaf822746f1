"""Weights with a zero point, as files of 2018 have them, for runtimes without kernels for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .build import dequantized
from .program import Op, Program, Tensor

__all__ = ["WEIGHTED", "real_weights", "symmetric", "weights_with_zero_points"]

WEIGHTED = frozenset({"conv", "conv_transpose", "linear"})


def weights_with_zero_points(program: Program) -> list[Tensor]:
    """The weights that are quantized asymmetrically."""
    return [op.inputs[1] for op in program.ops if _has_zero_point(op)]


def symmetric(program: Program) -> Program:
    """The Program with such layers in float, between dequantize and quantize.

    No int8 weight stands for the same numbers: less its zero point it has nine bits.
    """
    return replace(program, ops=tuple(one for op in program.ops for one in _floated(op)))


def real_weights(program: Program, every: bool = True) -> Program:
    """The Program with quantized weights beside floats as floats, the numbers that they stand for.

    For runtimes that would round what flows for such weights, which the Program does not say.

    Args:
        every: also those of symmetric int8 with a scale for each channel or one in all, which a
            runtime may be able to keep small in its file.
    """

    def one(op: Op) -> Op:
        if op.kind not in WEIGHTED or op.inputs[1].quant is None or "dynamic" in op.attrs:
            return op
        x, weight, *rest = op.inputs
        if x.quant is not None or weight.data is None:
            return op
        plain = weight.quant.dtype == "int8" and weight.quant.scale.ndim < 2
        if not every and plain and not weight.quant.zero_point.any():
            return op
        weight = replace(weight, quant=None, data=dequantized(weight))
        return replace(op, inputs=(x, weight, *rest))

    return replace(program, ops=tuple(map(one, program.ops)))


def _has_zero_point(op: Op) -> bool:
    if op.kind not in WEIGHTED:
        return False
    quant = op.inputs[1].quant
    return quant is not None and bool(np.any(quant.zero_point))


def _floated(op: Op) -> Iterator[Op]:
    if not _has_zero_point(op):
        yield op
        return
    (x, weight, *rest), y = op.inputs, op.output
    weight = replace(weight, quant=None, data=dequantized(weight))
    if x.quant is None:
        yield replace(op, inputs=(x, weight, *rest))
        return
    if any(before != after for before, after in op.attrs.get("padding", ())):
        # After dequantize, XNNPACK's partitioner would take the layer for a quantized one.
        pads = ((0, 0), (0, 0), *op.attrs["padding"])
        shape = tuple(n + sum(pair) for n, pair in zip(x.shape, pads, strict=True))
        padded = replace(x, name=f"{y.name}/padded", shape=shape)
        attrs = {"padding": pads, "mode": "constant", "value": 0.0}
        yield Op("pad", (x,), padded, attrs, op.layer)
        op, x = replace(op, attrs={**op.attrs, "padding": ((0, 0),) * (len(pads) - 2)}), padded
    real = replace(x, name=f"{y.name}/input", quant=None)
    yield Op("dequantize", (x,), real, {}, op.layer)
    result = replace(y, name=f"{y.name}/real", quant=None)
    yield replace(op, inputs=(real, weight, *rest), output=result)
    yield Op("quantize", (result,), y, {}, op.layer)

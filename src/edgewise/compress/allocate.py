"""Bits for each layer: few where the outputs bear it, within a size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import LinearConstraint, milp
from torch import Tensor, fx

from ..data import as_data
from ..errors import InputError, StepError
from ..graph.canonical import layer
from ..graph.fold import CONVOLUTIONS, constant, fold, set_constant
from ..math.affine import dequantize, quantize
from ..model import Model
from .grids import channel_scales
from .samples import together

__all__ = ["Allocation", "Width", "allocate"]

WIDTHS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Width:
    """One layer with weights of so many bits.

    Attributes:
        error: squared difference of the model's outputs from the float model's when only this
            layer's weights are rounded, relative to their variance.
        bytes: of its weights.
    """

    layer: str
    bits: int
    error: float
    bytes: float


@dataclass(frozen=True)
class Allocation:
    """The widths with the least sum of errors within a size.

    Attributes:
        bits: layer -> bits, as `Quantize` takes them for ``weight_bits``.
        bytes: what the weights then take, packed.
        error: the sum of the layers' errors.
        measured: every layer at every width.
    """

    bits: dict[str, int]
    bytes: float
    error: float
    measured: tuple[Width, ...]


def allocate(
    model: Model,
    data: Any,
    size: float,
    *,
    widths: Sequence[int] = WIDTHS,
    samples: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Allocation:
    """Measure what each layer costs at each width, and choose by integer programming.

    The errors of layers are taken to add up, as in Hubara et al. 2021, "Accurate Post Training
    Quantization With Small Calibration Sets" (arXiv:2006.10518), section 4; the program is solved
    exactly (HiGHS).

    Args:
        model: the float model.
        data: anything that `edgewise.load_data` takes; labels are not needed.
        size: bytes that the weights of convolutions and linears may take, packed.
        widths: bits to choose from, 2 to 8.
        samples: calibration samples; the graph is run on them once for each layer and width.
        progress: called with the runs done and in all.

    Raises:
        StepError: the model is quantized already.
        InputError: a width out of range, or a size that the least width does not hold.
    """
    if model.quantized:
        raise StepError("the model is quantized already: allocate bits to the float model")
    if not widths or not all(2 <= bits <= 8 for bits in widths):
        raise InputError(f"widths must be 2 to 8 bits, found {list(widths)}")
    split = as_data(data, signature=model.signature).require("calibration")
    measured = _measure(model, together(model, split, samples), sorted(set(widths)), progress)
    return choose(measured, size)


def choose(measured: Sequence[Width], size: float) -> Allocation:
    """The best width of each layer within `size` bytes."""
    layers = list(dict.fromkeys(row.layer for row in measured))
    least = sum(min(r.bytes for r in measured if r.layer == name) for name in layers)
    if least > size:
        raise InputError(
            f"the weights take {least:,.0f} bytes at the least width: allow at least that, "
            f"found {size:,.0f}"
        )
    one_each = np.array([[row.layer == name for row in measured] for name in layers], float)
    total = np.array([[row.bytes for row in measured]])
    errors = np.array([row.error for row in measured])
    found = milp(
        errors / (errors.max() or 1.0),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(total, 0, size)],
        integrality=np.ones(len(measured)),
        bounds=(0, 1),
    )
    if found.x is None:
        raise InputError(f"no widths were found for {size:,.0f} bytes: {found.message}")
    chosen = [row for row, taken in zip(measured, found.x, strict=True) if taken > 0.5]
    return Allocation(
        {row.layer: row.bits for row in chosen},
        sum(row.bytes for row in chosen),
        sum(row.error for row in chosen),
        tuple(measured),
    )


def _measure(
    model: Model,
    inputs: tuple[Tensor, ...],
    widths: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> list[Width]:
    module = fold(model.module())
    nodes = _layers(module)
    with torch.no_grad():
        want = [y for y in module(*inputs) if y.is_floating_point()]
        variance = sum(float((y - y.mean()).square().sum()) for y in want) or 1.0
        rows = []
        for name, node in nodes.items():
            source = node.args[1]
            weight = constant(module, source).detach().clone()
            for bits in widths:
                set_constant(
                    module, source.target, _rounded(weight, CONVOLUTIONS[node.target], bits)
                )
                have = [y for y in module(*inputs) if y.is_floating_point()]
                pairs = zip(want, have, strict=True)
                error = sum(float((w - h).square().sum()) for w, h in pairs) / variance
                rows.append(Width(name, bits, error, weight.numel() * bits / 8))
                if progress is not None:
                    progress(len(rows), len(nodes) * len(widths))
            set_constant(module, source.target, weight)
    return rows


def _layers(module: fx.GraphModule) -> Mapping[str, fx.Node]:
    """The layers with constant weights, by name."""
    found = (n for n in module.graph.nodes if n.target in CONVOLUTIONS)
    return {layer(n): n for n in found if constant(module, n.args[1]) is not None}


def _rounded(weight: Tensor, axis: int, bits: int) -> Tensor:
    """The weight on the grid that `Quantize` gives it at so many bits."""
    scale = channel_scales(weight, axis, bits)
    zero, top = torch.zeros_like(scale, dtype=torch.int32), 2 ** (bits - 1) - 1
    return dequantize(quantize(weight, scale, zero, -top, top, axis), scale, zero, axis)

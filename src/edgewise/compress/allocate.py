"""Bits for each layer: few where the outputs bear it, within a budget."""

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
from ..graph.canonical import layer, shapes
from ..graph.cost import macs
from ..graph.fold import CONVOLUTIONS, constant, fold, set_constant
from ..math.affine import dequantize, quantize
from ..model import Model
from .grids import channel_scales
from .samples import together

__all__ = ["FLOAT", "Allocation", "Width", "allocate", "choose", "layers"]

WIDTHS = (2, 3, 4, 5, 6, 8)
FLOAT = 32  # a layer of so many bits is left in float
READ = 8  # bits of what an integer layer reads

Costs = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Width:
    """One layer with weights of so many bits.

    Attributes:
        error: squared difference of the model's outputs from the float model's when only this
            layer is quantized, relative to their variance.
        cost: in the unit of the budget: bytes of its weights, bit operations, microseconds.
    """

    layer: str
    bits: int
    error: float
    cost: float


@dataclass(frozen=True)
class Allocation:
    """The widths with the least sum of errors within a budget.

    Attributes:
        bits: layer -> bits, as `Quantize` takes them for ``weight_bits``.
        keep_float: layers to leave in float, as `Quantize` takes them.
        cost: of all layers then, in the unit of the budget.
        error: the sum of the layers' errors.
        measured: every layer at every width.
    """

    bits: dict[str, int]
    keep_float: tuple[str, ...]
    cost: float
    error: float
    measured: tuple[Width, ...]


def allocate(
    model: Model,
    data: Any,
    budget: float,
    *,
    cost: str | Costs = "bytes",
    widths: Sequence[int] = WIDTHS,
    samples: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Allocation:
    """Measure what each layer costs at each width, and choose by integer programming.

    The errors of layers, and their costs, are taken to add up, as in Hubara et al. 2021, "Accurate
    Post Training Quantization With Small Calibration Sets" (arXiv:2006.10518), section 4; the
    program is solved exactly (HiGHS).

    Args:
        model: the float model.
        data: anything that `edgewise.load_data` takes; labels are not needed.
        budget: what the layers may cost together.
        cost: ``"bytes"`` (of weights, packed), ``"bit-operations"`` (multiply-accumulates of one
            sample, times the bits of both factors), or what was measured: layer -> bits -> cost,
            as `edgewise.layer_costs` measures microseconds on a runtime.
        widths: bits to choose from, 2 to 8, and 32 for float; of measured costs, theirs.
        samples: calibration samples; the graph is run on them once for each layer and width.
        progress: called with the runs done and in all.

    Raises:
        StepError: the model is quantized already.
        InputError: a width out of range, a layer without a cost, or a budget that is not met even
            with the cheapest width of every layer.
    """
    if model.quantized:
        raise StepError("the model is quantized already: allocate bits to the float model")
    if not isinstance(cost, str):
        widths = sorted({bits for of in cost.values() for bits in of})
    elif cost not in COSTS:
        raise InputError(f"unknown cost '{cost}': choose one of {', '.join(COSTS)}, or give costs")
    if not widths or not all(2 <= bits <= 8 or bits == FLOAT for bits in widths):
        raise InputError(f"widths must be 2 to 8 bits or {FLOAT}, found {list(widths)}")
    split = as_data(data, signature=model.signature).require("calibration")
    inputs = together(model, split, samples)
    return choose(_measure(model, inputs, sorted(set(widths)), cost, progress), budget)


def choose(measured: Sequence[Width], budget: float) -> Allocation:
    """The best width of each layer within a budget."""
    names = list(dict.fromkeys(row.layer for row in measured))
    least = sum(min(r.cost for r in measured if r.layer == name) for name in names)
    if least > budget:
        raise InputError(
            f"the layers take {least:,.0f} at the least widths: allow at least that, found "
            f"{budget:,.0f}"
        )
    one_each = np.array([[row.layer == name for row in measured] for name in names], float)
    total = np.array([[row.cost for row in measured]])
    errors = np.array([row.error for row in measured])
    found = milp(
        errors / (errors.max() or 1.0),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(total, 0, budget)],
        integrality=np.ones(len(measured)),
        bounds=(0, 1),
    )
    if found.x is None:
        raise InputError(f"no widths were found for {budget:,.0f}: {found.message}")
    chosen = [row for row, taken in zip(measured, found.x, strict=True) if taken > 0.5]
    return Allocation(
        {row.layer: row.bits for row in chosen if row.bits != FLOAT},
        tuple(row.layer for row in chosen if row.bits == FLOAT),
        sum(row.cost for row in chosen),
        sum(row.error for row in chosen),
        tuple(measured),
    )


def _measure(
    model: Model,
    inputs: tuple[Tensor, ...],
    widths: Sequence[int],
    cost: str | Costs,
    progress: Callable[[int, int], None] | None,
) -> list[Width]:
    module = fold(model.module())
    nodes = layers(module)
    price = _price(module, model, nodes, cost)
    # A layer in float also reads floats; beside it, one of 8 bits must answer for what it reads.
    reads = FLOAT in widths
    with torch.no_grad():
        want = _outputs(module, inputs, None)
        variance = sum(float((y - y.mean()).square().sum()) for y in want) or 1.0
        rows = []
        for name, node in nodes.items():
            source = node.args[1]
            weight = constant(module, source).detach().clone()
            for bits in widths:
                error = 0.0
                if bits != FLOAT:
                    rounded = _rounded(weight, CONVOLUTIONS[node.target], bits)
                    set_constant(module, source.target, rounded)
                    pairs = zip(
                        want, _outputs(module, inputs, node if reads else None), strict=True
                    )
                    error = sum(float((w - h).square().sum()) for w, h in pairs) / variance
                rows.append(Width(name, bits, error, price(name, bits)))
                if progress is not None:
                    progress(len(rows), len(nodes) * len(widths))
            set_constant(module, source.target, weight)
    return rows


def _price(
    module: fx.GraphModule, model: Model, nodes: Mapping[str, fx.Node], cost: str | Costs
) -> Callable[[str, int], float]:
    """What a layer costs at so many bits."""
    if not isinstance(cost, str):
        if missing := sorted(set(nodes) - set(cost)):
            raise InputError(
                f"no cost was given of {', '.join(missing[:3])}: measure the layers of this model"
            )
        return lambda name, bits: cost[name][bits]
    known = shapes(module, model.signature, 1)

    def shape(node: fx.Node) -> tuple[int, ...]:
        return tuple(known[node].shape)

    return lambda name, bits: COSTS[cost](nodes[name], shape, bits)


def _bytes(node: fx.Node, shape: Callable[[fx.Node], tuple[int, ...]], bits: int) -> float:
    return float(np.prod(shape(node.args[1]))) * bits / 8


def _bit_operations(node: fx.Node, shape: Callable[[fx.Node], tuple[int, ...]], bits: int) -> float:
    return float(macs(node, shape)) * bits * (FLOAT if bits == FLOAT else READ)


COSTS = {"bytes": _bytes, "bit-operations": _bit_operations}


def _outputs(
    module: fx.GraphModule, inputs: tuple[Tensor, ...], rounds: fx.Node | None
) -> list[Tensor]:
    """What the graph gives; the node `rounds` reads 8 bits, from its least to its largest."""

    class Rounding(fx.Interpreter):
        def run_node(self, node: fx.Node):
            if node is rounds:
                value, *rest = self.map_nodes_to_values(node.args, node)
                return node.target(_in_bytes(value), *rest, **node.kwargs)
            return super().run_node(node)

    found = module(*inputs) if rounds is None else Rounding(module).run(*inputs)
    return [y for y in found if y.is_floating_point()]


def _in_bytes(value: Tensor) -> Tensor:
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    scale = (high - low) / (2**READ - 1) or 1.0
    return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 2**READ - 1)


def layers(module: fx.GraphModule) -> Mapping[str, fx.Node]:
    """The layers with constant weights, by name."""
    found = (n for n in module.graph.nodes if n.target in CONVOLUTIONS)
    return {layer(n): n for n in found if constant(module, n.args[1]) is not None}


def _rounded(weight: Tensor, axis: int, bits: int) -> Tensor:
    """The weight on the grid that `Quantize` gives it at so many bits."""
    scale = channel_scales(weight, axis, bits)
    zero, top = torch.zeros_like(scale, dtype=torch.int32), 2 ** (bits - 1) - 1
    return dequantize(quantize(weight, scale, zero, -top, top, axis), scale, zero, axis)

"""The grids that `Quantize` plans: a range for every value, scales for every weight.

Scales are widened a little where that takes the ties out of a layer's rounding
(`edgewise.math.rounding`), so that every runtime computes the very integers that the Model does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx

from ..graph.fold import CONVOLUTIONS, constant
from ..graph.placement import Placement, fused_clamp
from ..math.affine import (
    affine_limits,
    affine_parameters,
    fixed_point_parameters,
    power_of_two,
    symmetric_parameters,
)
from ..math.ranges import least_error, least_power
from ..math.rate import common_steps
from ..math.rounding import DENOMINATORS, without_ties

__all__ = [
    "Range", "WeightScales", "activation_ranges", "channel_scales", "fit_products", "fit_sums",
    "scales", "weight_scales",
]  # fmt: skip

aten = torch.ops.aten


@dataclass(frozen=True)
class Range:
    """The values (by node name) that share one grid, and that grid.

    Its integers lie in [128 - 2^bits, 127], those of 16 bits in [-2^15, 2^15 - 1].
    """

    values: tuple[str, ...]
    low: float
    high: float
    scale: float
    zero_point: int
    bits: int = 8

    @property
    def limits(self) -> tuple[int, int]:
        """The least and largest integer."""
        return (-(2**15), 2**15 - 1) if self.bits == 16 else affine_limits(self.bits)


@dataclass(frozen=True)
class WeightScales:
    """One weight: symmetric, one scale a channel along `axis`, or one in all (axis None).

    Its integers lie in [-(2^(bits - 1) - 1), 2^(bits - 1) - 1].
    """

    weight: str
    reader: str
    axis: int | None
    scales: tuple[float, ...]
    bits: int = 8


def scales(ranges: tuple[Range, ...]) -> dict[str, float]:
    """The scale of each value, by name."""
    return {value: row.scale for row in ranges for value in row.values}


def activation_ranges(
    module: fx.GraphModule,
    placement: Placement,
    spans: Sequence[tuple[float, float]],
    bits: Sequence[int],
    powers: bool = False,
) -> tuple[Range, ...]:
    """The grid of each group of values, from the (low, high) that it should span and its bits.

    Affine; symmetric where the values have 16 bits, as kernels for int16 have it. With scales that
    are `powers` of two, symmetric or of numbers that are never negative.
    """
    ranges = []
    for group, (low, high), width in zip(placement.groups, spans, bits, strict=True):
        if powers and group.fixed is None:
            scale, zero_point = fixed_point_parameters(low, high)
        elif width == 16:
            scale, zero_point = symmetric_parameters(torch.tensor(max(-low, high)), 2**15 - 1)
        else:
            ends = torch.tensor(low), torch.tensor(high)
            scale, zero_point = affine_parameters(*ends, *affine_limits(width))
        ranges.append(Range(group.values, low, high, scale.item(), int(zero_point), width))
    if powers:
        return tuple(ranges)
    settled = {i for i, group in enumerate(placement.groups) if group.fixed is not None}
    return fit_sums(module, ranges, settled)


def fit_sums(
    module: fx.GraphModule, ranges: Sequence[Range], settled: Collection[int]
) -> tuple[Range, ...]:
    """The ranges, some a little wider, so that no sum of two of their values falls on a tie.

    Args:
        module: without fake-quantize nodes.
        settled: the ranges that may not move.
    """
    return _Additions(list(ranges), set(settled)).without_ties(module)


class _Additions:
    """Takes the ties out of sums: s_a / s_y = p / d and s_b / s_y = q / d, with d odd.

    In the order of the graph, so that along a chain of residual blocks each output is fitted to
    the sum before it, and the branch that joins is fitted to both.
    """

    def __init__(self, ranges: list[Range], settled: set[int]):
        self.ranges = ranges
        self.settled = settled  # scales that may not move any more
        self.group_of = {value: i for i, row in enumerate(ranges) for value in row.values}

    def without_ties(self, module: fx.GraphModule) -> tuple[Range, ...]:
        for node in module.graph.nodes:
            if node.target not in (aten.add.Tensor, aten.sub.Tensor):
                continue
            names = [a.name for a in node.args[:2] if isinstance(a, fx.Node)]
            names.append((fused_clamp(node) or node).name)
            groups = [self.group_of.get(name) for name in names]
            if len(set(groups)) == 3 and None not in groups:
                self._fit(*groups)
        return tuple(self.ranges)

    def _fit(self, a: int, b: int, y: int) -> None:
        if a in self.settled:
            a, b = b, a
        if a in self.settled or (b in self.settled and y in self.settled):
            return
        scale = {i: self.ranges[i].scale for i in (a, b, y)}
        # s_y first, where b is settled and y is free; then both inputs in parts of s_y.
        if b in self.settled:
            part = np.floor(scale[b] / scale[y] * DENOMINATORS).clip(min=1)
            output = np.maximum(scale[b] * DENOMINATORS / part, scale[y])
        else:
            part = np.ceil(scale[b] / scale[y] * DENOMINATORS)
            output = np.full_like(DENOMINATORS, scale[y])
        first = np.ceil(scale[a] / output * DENOMINATORS)
        widened = np.stack(
            [first * output / DENOMINATORS / scale[a], part * output / DENOMINATORS / scale[b],
             output / scale[y]]
        )  # fmt: skip
        best = int(np.argmin(widened.max(0)))
        for group, factor in zip((a, b, y), widened[:, best], strict=True):
            if group not in self.settled:
                row = self.ranges[group]
                self.ranges[group] = replace(row, scale=float(np.float32(row.scale * factor)))
                self.settled.add(group)


def weight_scales(
    module: fx.GraphModule,
    placement: Placement,
    scale_of: Mapping[str, float],
    bits_of: Mapping[str, int],
    powers: bool = False,
) -> Iterator[WeightScales]:
    """The scales of every quantized weight, one row for each layer that reads it.

    Args:
        powers: of two.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    for name, axis in placement.weights:
        weight = constant(module, nodes[name]).detach()
        for reader in nodes[name].users:
            if axis is None:
                scale, _ = symmetric_parameters(weight.abs().amax())
                scale = power_of_two(scale) if powers else scale
                yield WeightScales(name, reader.name, None, (scale.item(),))
                continue
            bits = bits_of.get(reader.name, 8)
            scale = channel_scales(weight, axis, bits, powers)
            bias = constant(module, reader.args[2]) if len(reader.args) > 2 else None
            if bias is not None:
                # The bias becomes an int32 of scale `input scale * weight scale`: a channel of
                # almost no weight must not make it overflow.
                least = bias.detach().abs() / (scale_of[reader.args[0].name] * 2**30)
                scale = torch.maximum(scale, least)
            if powers:
                fitted = power_of_two(scale).numpy()
            else:
                fitted = fit_products(reader, scale, scale_of)
            yield WeightScales(name, reader.name, axis, tuple(map(float, fitted)), bits)


def fit_products(reader: fx.Node, scale: Tensor, scale_of: Mapping[str, float]) -> np.ndarray:
    """A weight's scales (float32), a little wider, so that the reader's outputs fall on no tie.

    Args:
        reader: the convolution or linear, in a graph without fake-quantize nodes.
        scale: float32, one a channel.
        scale_of: of what it reads and gives, by name.
    """
    output = scale_of.get((fused_clamp(reader) or reader).name)
    if output is None or reader.target not in CONVOLUTIONS:
        return scale.numpy()
    step = scale_of[reader.args[0].name] / output
    return np.float32(without_ties(scale.double().numpy() * step) / step)


def channel_scales(weight: Tensor, axis: int, bits: int, powers: bool = False) -> Tensor:
    """The scale (float32) of each channel's symmetric grid of so many bits.

    Weights of 8 bits that are on a grid already stay on it. With fewer bits, or scales that are
    `powers` of two, the largest weights are clipped where that lowers the squared error.
    """
    rows = weight.movedim(axis, 0).flatten(1)
    if powers:
        return least_power(rows, bits)
    if bits < 8:
        return least_error(rows, bits)
    magnitude = rows.abs().amax(1)
    scale = symmetric_parameters(torch.maximum(magnitude, magnitude.max() * 2**-20))[0]
    given = common_steps(rows)
    return torch.where(given > scale, given, scale)

"""What flows through a graph on calibration samples, and the range that each grid should span."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..data import Split
from ..errors import DataError
from ..graph.fold import CONVOLUTIONS
from ..graph.placement import Group, Placement
from ..math.affine import affine_limits, affine_parameters
from ..math.ranges import RANGES

__all__ = ["JUDGED", "METHODS", "Seen", "observe", "spans"]

METHODS = (*RANGES, "moving-average", "auto")
BATCH = 8  # samples run at once: what flows between layers stays in the processor's caches
KEPT = 1 << 16  # numbers that are kept of a value, however many samples there are
MEMORY = 0.9  # of the moving average, per batch (arXiv:1712.05877, section 3.1 leaves it open)
JUDGED = 16  # samples on which "auto" compares ranges


@dataclass
class Seen:
    """What is known of one value.

    Attributes:
        low, high: over all samples.
        average: of the batches' ends, later ones counting more.
        kept: numbers drawn evenly from all samples.
    """

    low: Tensor
    high: Tensor
    average: tuple[Tensor, Tensor]
    kept: list[Tensor]

    def add(self, low: Tensor, high: Tensor) -> None:
        self.low, self.high = torch.minimum(low, self.low), torch.maximum(high, self.high)
        a, b = self.average
        self.average = MEMORY * a + (1 - MEMORY) * low, MEMORY * b + (1 - MEMORY) * high


class _Observer(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, watched: frozenset[str], kept: int):
        super().__init__(module)
        self.watched = watched
        self.kept = kept  # numbers of each value to keep of each batch
        self.seen: dict[str, Seen] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if node.name in self.watched:
            flat = _in_memory_order(value)
            low, high = torch.aminmax(flat)
            if node.name in self.seen:
                self.seen[node.name].add(low, high)
            else:
                self.seen[node.name] = Seen(low, high, (low, high), [])
            if self.kept:
                # A stride that divides no power of two walks through all channels and places.
                stride = max(1, flat.numel() // self.kept) | 1
                self.seen[node.name].kept.append(flat[::stride][: self.kept].clone())
        return value


def observe(
    module: fx.GraphModule, placement: Placement, calibration: Split, most: int, keep: bool
) -> dict[str, Seen]:
    """Run calibration samples through a float graph and look at the watched values.

    Args:
        most: samples to look at.
        keep: whether to keep numbers besides the ends.

    Raises:
        DataError: a value that is NaN or infinite.
    """
    batches = -(-min(most, len(calibration)) // BATCH)
    observer = _Observer(module, placement.watched, KEPT // batches if keep else 0)
    with torch.no_grad():
        left = most
        for inputs, _ in calibration.batches(BATCH):
            observer.run(*(_channels_last(torch.from_numpy(array[:left])) for array in inputs))
            left -= len(inputs[0])
            if left <= 0:
                break
    for name, seen in observer.seen.items():
        if not (torch.isfinite(seen.low) and torch.isfinite(seen.high)):
            raise DataError(
                f"'{name}' becomes NaN or infinite on the calibration samples: check that they are "
                "normalised as in training"
            )
    return observer.seen


def spans(
    module: fx.GraphModule,
    placement: Placement,
    seen: dict[str, Seen],
    method: str,
    bits: Sequence[int],
    inputs: tuple[Tensor, ...] = (),
) -> list[tuple[float, float]]:
    """The (low, high) that the grid of each group should span.

    Args:
        bits: of each group's grid.
        method: one of `METHODS`; ``"auto"`` takes for each group the range with the least error
            at the outputs of the layers that read it, run on `inputs`.
    """
    if method != "auto":
        return [
            _span(group, seen, method, width)
            for group, width in zip(placement.groups, bits, strict=True)
        ]
    offers = [
        {m: _span(group, seen, m, width) for m in (*RANGES, "moving-average")}
        for group, width in zip(placement.groups, bits, strict=True)
    ]
    judged = _judged(module, placement, offers, bits, inputs)
    return [
        offer[min(errors, key=errors.__getitem__) if errors else "mse"]
        for offer, errors in zip(offers, judged, strict=True)
    ]


def _span(group: Group, seen: dict[str, Seen], method: str, bits: int) -> tuple[float, float]:
    if group.fixed is not None:
        return group.fixed
    known = [seen[value] for value in group.values if value in seen]
    if method == "moving-average":
        low = min(float(s.average[0]) for s in known)
        high = max(float(s.average[1]) for s in known)
    else:
        low, high = min(float(s.low) for s in known), max(float(s.high) for s in known)
    if method in RANGES and method != "minmax":
        low, high = RANGES[method](torch.cat([n for s in known for n in s.kept]), low, high, bits)
    return min([low, *group.constants]), max([high, *group.constants])


class _Judge(fx.Interpreter):
    """Runs the float graph; tries every offered range at each layer that reads the value."""

    def __init__(
        self,
        module: fx.GraphModule,
        offers: dict[str, dict[str, tuple[float, float]]],
        bits: dict[str, int],
    ):
        super().__init__(module)
        self.offers = offers
        self.bits = bits
        self.errors: dict[str, dict[str, float]] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        source = node.args[0] if node.target in CONVOLUTIONS else None
        if source is None or source.name not in self.offers:
            return value
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        power = float((value**2).sum()) or 1.0
        tried: dict[tuple[float, float], float] = {}
        errors = self.errors.setdefault(source.name, {})
        for method, ends in self.offers[source.name].items():
            if ends not in tried:
                rounded = _rounded(args[0], *ends, self.bits[source.name])
                have = node.target(rounded, *args[1:], **kwargs)
                tried[ends] = float(((have - value) ** 2).sum()) / power
            errors[method] = errors.get(method, 0.0) + tried[ends]
        return value


def _judged(
    module: fx.GraphModule,
    placement: Placement,
    offers: list[dict[str, tuple[float, float]]],
    bits: Sequence[int],
    inputs: Iterable[Tensor],
) -> list[dict[str, float]]:
    """For each group, the error of each method at the layers that read it (none: no such layer)."""
    by_value = {
        value: offer
        for group, offer in zip(placement.groups, offers, strict=True)
        if group.fixed is None
        for value in group.values
    }
    width_of = {
        value: width
        for group, width in zip(placement.groups, bits, strict=True)
        for value in group.values
    }
    judge = _Judge(module, by_value, width_of)
    with torch.no_grad():
        judge.run(*(_channels_last(x[:JUDGED]) for x in inputs))
    totals = []
    for group in placement.groups:
        found = [judge.errors[value] for value in group.values if value in judge.errors]
        totals.append({m: sum(e[m] for e in found) for m in found[0]} if found else {})
    return totals


def _rounded(x: Tensor, low: float, high: float, bits: int) -> Tensor:
    least, most = affine_limits(bits)
    scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high), least, most)
    return torch.round(x / scale).clamp(least - zero_point, most - zero_point) * scale


def _in_memory_order(x: Tensor) -> Tensor:
    """All elements in one axis, as they lie: so aminmax takes a twentieth of the time."""
    return x.permute(sorted(range(x.ndim), key=lambda axis: -x.stride(axis))).reshape(-1)


def _channels_last(x: Tensor) -> Tensor:
    """The order of axes in memory for which the CPU's convolutions are fastest."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

"""Quantize: integers instead of floats, for weights and for what flows between layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch

import torch
from torch import Tensor, fx

from ..capabilities import Capabilities, Support
from ..data import Data, Split
from ..errors import DataError, InputError, StepError
from ..graph.canonical import FAKE_QUANTIZE, layer, shapes
from ..graph.fold import CONVOLUTIONS, constant, fold
from ..graph.placement import Placement, place
from ..model import Model
from ..step import Plan, Step
from .grids import Range, WeightScales, activation_ranges, scales, weight_scales
from .schemes import scheme_of
from .weights import WeightPlan, apply_weights, plan_weights

__all__ = ["Quantize", "QuantizePlan"]

BATCH = 8  # samples run at once: what flows between layers stays in the processor's caches


@dataclass(frozen=True)
class QuantizePlan(Plan):
    """Every grid that `Quantize` will put into the graph, and what stays float with its reason."""

    scheme: str
    activations: tuple[Range, ...]
    weights: tuple[WeightScales, ...]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantize(Step):
    """Post-training quantization.

    The result is the same float graph, batch-norm folded, with fake-quantize nodes in it. For
    ``"int8"``, weights symmetric per output channel in [-127, 127], activations affine per tensor
    in [-128, 127], their ranges the least and largest value over the calibration samples. The
    other schemes (`edgewise.compress.weights`) need no data.

    Attributes:
        scheme: ``"int8"``, ``"int8-dynamic"``, ``"int4-dynamic"``, ``"int8-weights"``,
            ``"int4-weights"`` or ``"float16"``.
        samples: at most so many calibration samples are looked at.
        keep_float: layers to leave in float, as names or patterns (``"layer1.*"``).
        target: what the runtime can take (`edgewise.capabilities`): the plan is made for its fast
            kernels, refused where it has none, and warns where they are slower than float.
        group: inputs that share one scale of a 4-bit weight; None for what the target likes best.
    """

    scheme: str = "int8"
    samples: int = 256
    keep_float: tuple[str, ...] = ()
    target: Capabilities | None = None
    group: int | None = None

    def __post_init__(self):
        grouped = scheme_of(self.scheme).grouped
        if self.group is not None and (self.group < 1 or not grouped):
            raise InputError(
                f"group must be at least 1, and is for schemes of 4 bits: found {self.group} for "
                f"'{self.scheme}'"
            )
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, found {self.samples}")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError("the model is quantized already: start from the float model")
        if self.target is None:
            return
        support = self.target.support(self.scheme)
        if support.speed == "none":
            raise StepError(f"{self.target.runtime} does not run '{self.scheme}': {support.reason}")
        if self.group is not None and support.groups and self.group not in support.groups:
            raise StepError(
                f"{self.target.runtime} has no kernel for groups of {self.group}: choose one of "
                f"{', '.join(map(str, support.groups))}"
            )
        if support.speed == "slow":
            message = f"'{self.scheme}' is slower than float on {self.target.runtime}"
            warnings.warn(f"{message}: {support.reason}", stacklevel=3)

    def plan(self, model: Model, data: Data | None) -> QuantizePlan | WeightPlan:
        scheme = scheme_of(self.scheme)
        if scheme.activations != "static":
            module = fold(model.module())
            kept = self._keeps_float(module)
            return plan_weights(module, scheme, kept, self.group, self._support())
        if data is None:
            raise DataError("quantization needs calibration samples: give data=")
        calibration = data.require("calibration")
        module = fold(model.module())
        placement = place(module, shapes(module, model.signature, 2), self._keeps_float(module))
        bounds = _observe(module, placement, self._batches(calibration))
        activations = activation_ranges(module, placement, bounds)
        weights = tuple(weight_scales(module, placement, scales(activations)))
        return QuantizePlan(self.scheme, activations, weights, placement.skipped)

    def apply(self, model: Model, plan: QuantizePlan | WeightPlan) -> Model:
        module = fold(model.module())
        if isinstance(plan, WeightPlan):
            return Model(apply_weights(module, plan), model.signature)
        nodes = {node.name: node for node in module.graph.nodes}
        scale_of = scales(plan.activations)
        for row in plan.weights:
            _snap_bias(module, nodes[row.reader], scale_of, row)
        for row in plan.activations:
            # Values on one grid read the same two buffers.
            grid = _register(module, row.values[0], torch.tensor(row.scale), row.zero_point)
            for name in row.values:
                _insert(module, nodes[name], list(nodes[name].users), grid, (-128, 127, None))
        for row in plan.weights:
            scale = torch.tensor(row.scales if row.axis is not None else row.scales[0])
            grid = _register(module, row.weight, scale, 0)
            _insert(module, nodes[row.weight], [nodes[row.reader]], grid, (-127, 127, row.axis))
        return Model(module, model.signature)

    def _support(self) -> Support | None:
        return None if self.target is None else self.target.support(self.scheme)

    def _keeps_float(self, module: fx.GraphModule) -> frozenset[str]:
        """Names of the nodes that `keep_float` matches.

        Raises:
            InputError: a pattern matches no layer; the closest names are suggested.
        """
        from difflib import get_close_matches

        layers = {n.name: layer(n) for n in module.graph.nodes if n.op == "call_function"}
        kept: set[str] = set()
        for pattern in self.keep_float:
            found = {name for name, of in layers.items() if fnmatch(of, pattern)}
            if not found:
                close = get_close_matches(pattern, sorted(set(layers.values())), n=3, cutoff=0.4)
                hint = f": did you mean {' or '.join(close)}?" if close else ""
                raise InputError(f"keep_float '{pattern}' matches no layer{hint}")
            kept |= found
        return frozenset(kept)

    def _batches(self, calibration: Split) -> Iterator[tuple[Tensor, ...]]:
        left = self.samples
        for inputs, _ in calibration.batches(BATCH):
            yield tuple(torch.from_numpy(array[:left]) for array in inputs)
            left -= len(inputs[0])
            if left <= 0:
                return


class _Observer(fx.Interpreter):
    """Runs the graph and keeps the least and largest value of every watched node."""

    def __init__(self, module: fx.GraphModule, watched: frozenset[str]):
        super().__init__(module)
        self.watched = watched
        self.bounds: dict[str, tuple[Tensor, Tensor]] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if node.name in self.watched:
            low, high = torch.aminmax(_in_memory_order(value.detach()))
            if node.name in self.bounds:
                seen = self.bounds[node.name]
                low, high = torch.minimum(low, seen[0]), torch.maximum(high, seen[1])
            self.bounds[node.name] = low, high
        return value


def _observe(
    module: fx.GraphModule, placement: Placement, batches: Iterator[tuple[Tensor, ...]]
) -> dict[str, tuple[float, float]]:
    """Least and largest value of each watched node over all batches.

    Raises:
        DataError: a value that is NaN or infinite.
    """
    observer = _Observer(module, placement.watched)
    with torch.no_grad():
        for inputs in batches:
            observer.run(*(_channels_last(x) for x in inputs))
    bounds = {name: (low.item(), high.item()) for name, (low, high) in observer.bounds.items()}
    for name, (low, high) in bounds.items():
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise DataError(
                f"'{name}' becomes NaN or infinite on the calibration samples: check that they are "
                "normalised as in training"
            )
    return bounds


def _in_memory_order(x: Tensor) -> Tensor:
    """All elements in one axis, as they lie: so aminmax takes a twentieth of the time."""
    return x.permute(sorted(range(x.ndim), key=lambda axis: -x.stride(axis))).reshape(-1)


def _channels_last(x: Tensor) -> Tensor:
    """The order of axes in memory for which the CPU's convolutions are fastest."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _snap_bias(
    module: fx.GraphModule, reader: fx.Node, scale_of: dict[str, float], row: WeightScales
) -> None:
    """Put a bias on the grid of the int32 that runtimes hold it in: input scale * weight scale."""
    node = reader.args[2] if reader.target in CONVOLUTIONS and len(reader.args) > 2 else None
    bias = constant(module, node)
    if bias is None or len(node.users) > 1:
        return
    step = scale_of[reader.args[0].name] * torch.tensor(row.scales, dtype=torch.float64)
    bias.data = (torch.round(bias.data.double() / step) * step).float()


def _register(module: fx.GraphModule, name: str, scale: Tensor, zero_point: int) -> tuple[str, str]:
    """Add a grid as two buffers and return their names."""
    stem = name
    while hasattr(module, f"{stem}_scale"):
        stem += "_"
    module.register_buffer(f"{stem}_scale", scale)
    module.register_buffer(
        f"{stem}_zero_point", torch.full_like(scale, zero_point, dtype=torch.int32)
    )
    return f"{stem}_scale", f"{stem}_zero_point"


def _insert(
    module: fx.GraphModule,
    node: fx.Node,
    readers: list[fx.Node],
    grid: tuple[str, str],
    rest: tuple[int, int, int | None],
) -> None:
    """Put a fake-quantize between `node` and its `readers`."""
    graph = module.graph
    order = {n: i for i, n in enumerate(graph.nodes)}
    with graph.inserting_before(min(readers, key=order.__getitem__)):
        arguments = (node, *(graph.get_attr(name) for name in grid), *rest)
        fake = graph.call_function(FAKE_QUANTIZE, arguments, name=f"{node.name}_fake_quantize")
    for reader in readers:
        reader.replace_input_with(node, fake)

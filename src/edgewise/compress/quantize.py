"""Quantize: integers instead of floats, for weights and for what flows between layers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from ..data import Data
from ..errors import DataError, InputError, StepError
from ..graph.canonical import FAKE_QUANTIZE, layer, recorded_shapes, shapes
from ..graph.fold import CONVOLUTIONS, average_whole, constant, fold
from ..graph.placement import Placement, place
from ..model import Model
from ..step import Interval, Plan, Step, searched
from ..support import Capabilities, Support
from .grids import Range, WeightScales, activation_ranges, scales, weight_scales
from .names import matching
from .observe import JUDGED, METHODS, observe, spans
from .schemes import scheme_of
from .weights import WeightPlan, apply_weights, plan_weights

__all__ = ["Quantize", "QuantizePlan"]

# Option -> the schemes that it belongs to.
BITS = {"weight_bits": ("int8", "int8-pow2", "int8-weights"), "activation_bits": ("int8",)}
WIDEST = {"int8-weights": 16}  # bits, of schemes that are not bound to a byte

# Schemes that make a file faster or smaller on some runtime.
SEARCHED = ("int8", "int8-dynamic", "int4-dynamic", "int8-weights", "int4-weights", "float16")


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
        scheme: ``"int8"``, ``"int8-pow2"`` (scales are powers of two), ``"16x8"`` (activations of
            16 bits), ``"int8-dynamic"``, ``"int4-dynamic"``, ``"int8-weights"``,
            ``"int4-weights"``, ``"int4-affine"`` (with zero points), ``"float16"``,
            ``"bfloat16"``, ``"float8-e4m3"`` or ``"float8-e5m2"``.
        samples: at most so many calibration samples are looked at.
        keep_float: layers to leave in float, as names or patterns (``"layer1.*"``).
        target: what the runtime can take (`edgewise.capabilities`): the plan is made for its fast
            kernels, refused where it has none, and warns where they are slower than float.
        group: inputs that share one scale of a 4-bit weight; None for what the target likes best.
        weight_bits: of the weights under ``"int8"``, 2 to 8: one number, or patterns of layers with
            a number each (``{"layer3.*": 4}``, the others 8). Runtimes store and run them as 8
            bits; what shrinks is the file once it is compressed. Under ``"int8-weights"``, 2 to
            16; a file holds those of more than 8 as float32.
        ranges: what an activation's grid spans: ``"minmax"``, ``"moving-average"``,
            ``"percentile"``, ``"mse"``, ``"entropy"`` or ``"octav"``; ``"auto"`` tries all of them
            and takes for each value what changes the outputs of its readers least.
        activation_bits: of what convolutions and linears read under ``"int8"``, 2 to 8, given like
            `weight_bits`; what they do not read keeps 8 bits. For training at low precision:
            runtimes hold such values in 8 bits and clamp them.
    """

    scheme: str = searched("int8", *SEARCHED)
    samples: int = 256
    keep_float: tuple[str, ...] = ()
    target: Capabilities | None = None
    group: int | None = None
    weight_bits: int | dict[str, int] = searched(8, within=Interval(3, 8, 1))
    ranges: str = searched("minmax", "minmax", "auto")
    activation_bits: int | dict[str, int] = 8

    def __post_init__(self):
        for option, takes in BITS.items():
            widest = WIDEST.get(self.scheme, 8)
            for bits in _by_pattern(getattr(self, option)).values():
                if not 2 <= bits <= widest:
                    raise InputError(f"{option} must be 2 to {widest}, found {bits}")
            if self.scheme not in takes and getattr(self, option) != 8:
                raise InputError(f"{option} belongs to {', '.join(takes)}, not to '{self.scheme}'")
        grouped = scheme_of(self.scheme).grouped
        if self.group is not None and (self.group < 1 or not grouped):
            raise InputError(
                f"group must be at least 1, and is for schemes of 4 bits: found {self.group} for "
                f"'{self.scheme}'"
            )
        if self.ranges not in METHODS:
            raise InputError(f"unknown ranges '{self.ranges}': choose one of {', '.join(METHODS)}")
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
        if support.speed == "float" and max(_by_pattern(self.weight_bits).values()) > 8:
            raise StepError(
                f"{self.target.runtime} has no kernel for weights of more than 8 bits: leave the "
                "target out, and its file holds them as float32"
            )
        if self.group is not None and support.groups and self.group not in support.groups:
            raise StepError(
                f"{self.target.runtime} has no kernel for groups of {self.group}: choose one of "
                f"{', '.join(map(str, support.groups))}"
            )
        if support.speed == "slow":
            message = f"'{self.scheme}' is slower than float on {self.target.runtime}"
            warnings.warn(f"{message} (latency by float's: {support.reason})", stacklevel=3)
        if support.dynamic and "conv" not in support.layers and _convolves(model):
            warnings.warn(
                f"convolutions stay in float under '{self.scheme}': quantized at run time they are "
                f"slower than float on {self.target.runtime}; 'int8' with data quantizes them, too",
                stacklevel=3,
            )

    def plan(self, model: Model, data: Data | None) -> QuantizePlan | WeightPlan:
        scheme = scheme_of(self.scheme)
        if scheme.activations != "static":
            module = fold(model.module())
            kept = self._keeps_float(module)
            bits = self._bits(module, "weight_bits") if self.scheme in WIDEST else {}
            return plan_weights(
                module, model.signature, scheme, kept, self.group, self._support(), bits
            )
        if data is None:
            raise DataError("quantization needs calibration samples: give data=")
        calibration = data.require("calibration")
        module = _folded(model)
        placement = place(module, shapes(module, model.signature, 2), self._keeps_float(module))
        seen = observe(module, placement, calibration, self.samples, self.ranges != "minmax")
        inputs = tuple(map(torch.from_numpy, calibration.take(JUDGED)[0]))
        widths = self._widths(module, placement, scheme.width)
        ends = spans(module, placement, seen, self.ranges, widths, inputs)
        activations = activation_ranges(module, placement, ends, widths, scheme.power_of_two)
        bits = self._bits(module, "weight_bits")
        weights = weight_scales(module, placement, scales(activations), bits, scheme.power_of_two)
        return QuantizePlan(self.scheme, activations, tuple(weights), placement.skipped)

    def apply(self, model: Model, plan: QuantizePlan | WeightPlan) -> Model:
        if isinstance(plan, WeightPlan):
            return Model(apply_weights(fold(model.module()), plan), model.signature)
        module = _folded(model)
        nodes = {node.name: node for node in module.graph.nodes}
        scale_of = scales(plan.activations)
        for row in plan.weights:
            _snap_bias(module, nodes[row.reader], scale_of, row)
        for row in plan.activations:
            # Values on one grid read the same two buffers.
            grid = _register(module, row.values[0], torch.tensor(row.scale), row.zero_point)
            for name in row.values:
                _insert(module, nodes[name], list(nodes[name].users), grid, (*row.limits, None))
        for row in plan.weights:
            scale = torch.tensor(row.scales if row.axis is not None else row.scales[0])
            grid = _register(module, row.weight, scale, 0)
            top = 2 ** (row.bits - 1) - 1
            _insert(module, nodes[row.weight], [nodes[row.reader]], grid, (-top, top, row.axis))
        return Model(module, model.signature)

    def _support(self) -> Support | None:
        return None if self.target is None else self.target.support(self.scheme)

    def _bits(self, module: fx.GraphModule, option: str) -> dict[str, int]:
        """The bits asked for each operator, by name, where a pattern matches it."""
        return {
            name: bits
            for pattern, bits in _by_pattern(getattr(self, option)).items()
            for name in _operators(module, option, pattern)
        }

    def _widths(self, module: fx.GraphModule, placement: Placement, usual: int) -> list[int]:
        """The bits of each group of values: the most that a layer reading one of them asks for."""
        asked = self._bits(module, "activation_bits")
        nodes = {node.name: node for node in module.graph.nodes}
        widths = []
        for group in placement.groups:
            readers = {user for value in group.values for user in nodes[value].users}
            found = [asked.get(r.name, usual) for r in readers if r.target in CONVOLUTIONS]
            narrow = found and usual == 8 and group.fixed is None
            widths.append(max(found) if narrow else usual)
        return widths

    def _keeps_float(self, module: fx.GraphModule) -> frozenset[str]:
        """Names of the nodes that `keep_float` matches."""
        found = (_operators(module, "keep_float", pattern) for pattern in self.keep_float)
        return frozenset(name for names in found for name in names)


def _convolves(model: Model) -> bool:
    """Whether it has a convolution."""
    kinds = set(CONVOLUTIONS) - {torch.ops.aten.linear.default}
    return any(node.target in kinds for node in model.graph.graph.nodes)


def _folded(model: Model) -> fx.GraphModule:
    module = model.module()
    average_whole(module, recorded_shapes(module, model.signature))
    return fold(module)


def _by_pattern(bits: int | dict[str, int]) -> dict[str, int]:
    return bits if isinstance(bits, dict) else {"*": bits}


def _operators(module: fx.GraphModule, option: str, pattern: str) -> list[str]:
    """Names of the operators whose layer the pattern matches.

    Raises:
        InputError: it matches none; the closest names are suggested.
    """
    layers = {n.name: layer(n) for n in module.graph.nodes if n.op == "call_function"}
    found = set(matching(option, pattern, set(layers.values())))
    return [name for name, of in layers.items() if of in found]


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

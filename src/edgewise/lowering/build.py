"""Build a Program from a Model's graph: sizes fixed, constants folded, quantization marked."""

from __future__ import annotations

import math
import operator
from dataclasses import replace

import numpy as np
import torch
from torch import fx

from ..errors import UnsupportedOperator
from ..graph.canonical import FAKE_QUANTIZE, layer, shapes
from ..math.affine import fake_quantize_dynamic, quantize
from ..record import Signature
from . import aten_moves, aten_recurrent  # noqa: F401  (they add rows to TABLE)
from .aten import TABLE, Emit
from .merge import merge
from .program import NO_CLAMP, QUANTIZABLE, VALUE_PRESERVING, Dynamic, Op, Program, Quant, Tensor

__all__ = ["build", "dequantized", "untranslatable"]

# Computed with in float here, so that their gains and shifts are wanted as real numbers.
NORMALISATIONS = frozenset(
    {torch.ops.aten.batch_norm.default, torch.ops.aten.layer_norm.default,
     torch.ops.aten.group_norm.default}
)  # fmt: skip

# Between phases a fake-quantize is an operator of its own.
FAKE, FAKE_DYNAMIC = "fake", "fake_dynamic"
DYNAMIC = fake_quantize_dynamic._opoverload
WEIGHTED = frozenset({"conv", "conv_transpose", "linear"})
FUSES_CLAMP = frozenset({"conv", "conv_transpose", "linear", "add", "sub", "mul"})


def build(module: fx.GraphModule, signature: Signature, batch: int) -> Program:
    """The Program of a folded graph (`edgewise.graph.fold`) at one batch size.

    Raises:
        UnsupportedOperator: an operator that no Program kind covers; names it and its layer.
        ModelError: the graph does not run.
    """
    inputs, outputs, ops = _translate(module, shapes(module, signature, batch), signature)
    ops = _take_dynamic(_fuse_clamps(ops, outputs), outputs)
    ops, outputs = _resolve_quantization(ops, outputs)
    return Program(inputs, outputs, tuple(_live(merge(ops), outputs)))


# --- from nodes to operators --------------------------------------------------------------------


def _translate(
    module: fx.GraphModule, known: dict[fx.Node, object], signature: Signature
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], list[Op]]:
    values: dict[fx.Node, object] = {}  # Tensor, tuple of Tensors, number, or a plain argument
    emit = Emit()
    inputs: list[Tensor] = []
    outputs: tuple[Tensor, ...] = ()
    for node in module.graph.nodes:
        if node.op == "placeholder":
            spec = signature.inputs[len(inputs)]
            values[node] = Tensor(spec.name, tuple(known[node].shape), spec.dtype)
            inputs.append(values[node])
        elif node.op == "get_attr":
            values[node] = emit.constant(operator.attrgetter(node.target)(module), node.target)
        elif node.op == "output":
            outputs = tuple(values[a] for a in node.args[0])
        elif isinstance(known[node], int | float):
            values[node] = known[node]
        elif node.target is operator.getitem:
            values[node] = values[node.args[0]][node.args[1]]
        elif node.target is FAKE_QUANTIZE:
            values[node] = _fake(emit, node, [fx.node.map_arg(a, values.get) for a in node.args])
        elif node.target is DYNAMIC:
            x, *how = [values[node.args[0]], *node.args[1:]]
            values[node] = Tensor(node.name, x.shape)
            attrs = {"dynamic": Dynamic(*how)}
            emit.ops.append(Op(FAKE_DYNAMIC, (x,), values[node], attrs, layer(node)))
        elif _is_constant(node, values):
            real = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: _real(values[n]))
            values[node] = _constants(emit, node.target(*real[0], **real[1]), node.name)
        else:
            emit.begin(node.name, layer(node), known[node])
            values[node] = _call(emit, node, values)
    return tuple(inputs), outputs, emit.ops


def untranslatable(module: fx.GraphModule, signature: Signature) -> dict[str, str]:
    """The layers of a folded graph whose operator no Program kind covers, each with the reason."""
    known = shapes(module, signature, 1)
    constants: set[fx.Node] = set()  # what is computed once, when the Program is built
    found = {}
    for node in module.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if isinstance(known[node], int | float) or constants.issuperset(node.all_input_nodes):
            constants.add(node)
        elif node.target not in (operator.getitem, FAKE_QUANTIZE, DYNAMIC, *TABLE):
            found[layer(node)] = _no_kind(node)
    return found


def _no_kind(node: fx.Node) -> str:
    return (
        f"operator {node.target} at layer '{layer(node)}' cannot be lowered to any runtime: "
        "write the layer with other operators, or keep it out of the exported model"
    )


def _call(emit: Emit, node: fx.Node, values: dict[fx.Node, object]) -> object:
    function = TABLE.get(node.target)
    if function is None:
        raise UnsupportedOperator(_no_kind(node))
    arguments = {}
    for i, declared in enumerate(node.target._schema.arguments):
        if i < len(node.args):
            value = node.args[i]
        else:
            value = node.kwargs.get(declared.name, declared.default_value)
        known = fx.node.map_arg(value, values.__getitem__)
        arguments[declared.name] = _plain(known) if node.target in NORMALISATIONS else known
    return function(emit, **arguments)


def _plain(value: object) -> object:
    """A quantized constant as the real numbers that it stands for; anything else as it is."""
    if isinstance(value, Tensor) and value.data is not None and value.quant is not None:
        return Tensor(value.name, value.shape, value.dtype, None, dequantized(value))
    return value


def _is_constant(node: fx.Node, values: dict[fx.Node, object]) -> bool:
    """Whether every tensor that the node reads is a float or integer constant."""
    return all(
        not isinstance(v, tuple)
        and (not isinstance(v, Tensor) or (v.data is not None and v.quant is None))
        for v in (values[n] for n in node.all_input_nodes)
    )


def _real(value: object) -> object:
    return torch.from_numpy(value.data) if isinstance(value, Tensor) else value


def _constants(emit: Emit, value: object, name: str) -> object:
    if isinstance(value, torch.Tensor):
        return emit.constant(value, name)
    return tuple(_constants(emit, item, f"{name}/{i}") for i, item in enumerate(value))


def _fake(emit: Emit, node: fx.Node, arguments: list) -> Tensor:
    x, scale, zero_point, quant_min, quant_max, axis = arguments
    dtype = "int8" if quant_min >= -128 and quant_max <= 127 else "int16"
    grid = Quant(scale.data, zero_point.data, dtype, axis)
    if x.data is not None:
        integers = quantize(
            torch.from_numpy(x.data), *map(_real, (scale, zero_point)), quant_min, quant_max, axis
        )
        return Tensor(x.name, x.shape, "float32", grid, integers.numpy().astype(dtype))
    output = Tensor(node.name, x.shape, "float32", grid)
    attrs = {"clamp": NO_CLAMP}
    ends = np.iinfo(dtype)
    if quant_min > ends.min or quant_max < ends.max:  # fewer bits than are stored
        limits = np.array([quant_min, quant_max]) - int(zero_point.data)
        attrs = {"clamp": tuple((limits * np.float64(scale.data)).tolist())}
    emit.ops.append(Op(FAKE, (x,), output, attrs, layer(node)))
    return output


# --- clamps -------------------------------------------------------------------------------------


def _readers(ops: list[Op], outputs: tuple[Tensor, ...]) -> dict[str, list[Op | None]]:
    """Tensor name -> the operators that read it; None stands for the Program's output."""
    readers: dict[str, list[Op | None]] = {t.name: [None] for t in outputs}
    for op in ops:
        for tensor in {t.name: t for t in op.inputs if t is not None}.values():
            readers.setdefault(tensor.name, []).append(op)
    return readers


def _fuse_clamps(ops: list[Op], outputs: tuple[Tensor, ...]) -> list[Op]:
    readers = _readers(ops, outputs)
    fused: set[int] = set()
    result = []
    for op in ops:
        if id(op) in fused:
            continue
        if op.kind in FUSES_CLAMP:
            (reader, *others) = readers.get(op.output.name, [None])
            if reader is not None and not others and reader.kind == "clamp":
                fused.add(id(reader))
                attrs = {**op.attrs, "clamp": reader.attrs["clamp"]}
                op = Op(op.kind, op.inputs, reader.output, attrs, op.layer)
        result.append(op)
    return result


# --- quantization -------------------------------------------------------------------------------


def _take_dynamic(ops: list[Op], outputs: tuple[Tensor, ...]) -> list[Op]:
    """Make what is rounded at run time an attribute of the linears that read it."""
    rounded: dict[str, Op] = {}
    result = []
    for op in ops:
        if op.kind == FAKE_DYNAMIC:
            rounded[op.output.name] = op
            continue
        taken = [t.name for t in op.inputs if t is not None and t.name in rounded]
        if taken:
            weight = op.inputs[1] if len(op.inputs) > 1 else None
            alone = taken == [op.inputs[0].name] and op.kind == "linear"
            if not alone or weight.data is None or weight.quant is None:
                raise UnsupportedOperator(_only_linears(op.layer))
            before = rounded[taken[0]]
            op = Op(op.kind, (before.inputs[0], *op.inputs[1:]), op.output,
                    {**op.attrs, **before.attrs}, op.layer)  # fmt: skip
        result.append(op)
    for tensor in outputs:
        if tensor.name in rounded:
            raise UnsupportedOperator(_only_linears(rounded[tensor.name].layer))
    return result


def _only_linears(name: str) -> str:
    return (
        f"layer '{name}' reads values quantized at run time and is no linear with quantized "
        "weights: lower the model that Quantize gave"
    )


def _resolve_quantization(
    ops: list[Op], outputs: tuple[Tensor, ...]
) -> tuple[list[Op], tuple[Tensor, ...]]:
    """Make each operator whole: integer throughout or float throughout, borders explicit."""
    readers = _readers(ops, outputs)
    stored: dict[str, Tensor] = {}  # tensor of the float graph -> how it is really stored
    floats: dict[str, Tensor] = {}  # quantized tensor -> its dequantized twin
    held: dict[str, tuple[float, float]] = {}  # quantized tensor -> what its numbers are clamped to
    result: list[Op] = []

    def add(op: Op, fake: Op | None = None) -> None:
        """Add an operator, and what keeps its output within the limits of its fake-quantize."""
        limits = {held.get(t.name) for t in op.inputs if t is not None and t.data is None}
        known = limits.pop() if op.kind in VALUE_PRESERVING and len(limits) == 1 else None
        clamp = NO_CLAMP if fake is None else fake.attrs["clamp"]
        if clamp in (NO_CLAMP, known):
            result.append(op)
        elif "clamp" in op.attrs:
            both = tuple(zip(op.attrs["clamp"], clamp, strict=True))
            bounds = {"clamp": (max(both[0]), min(both[1]))}
            result.append(Op(op.kind, op.inputs, op.output, {**op.attrs, **bounds}, op.layer))
        else:
            wide = replace(op.output, name=f"{op.output.name}/wide")
            result.append(replace(op, output=wide))
            result.append(Op("clamp", (wide,), op.output, {"clamp": clamp}, op.layer))
        if fake is not None or known is not None:
            held[op.output.name] = clamp if fake is not None else known

    def as_float(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        tensor = stored.get(tensor.name, tensor)
        if tensor.quant is None:
            return tensor
        if tensor.data is not None:
            return Tensor(tensor.name, tensor.shape, tensor.dtype, None, dequantized(tensor))
        if tensor.name not in floats:
            twin = Tensor(f"{tensor.name}/float", tensor.shape, tensor.dtype)
            result.append(Op("dequantize", (tensor,), twin, {}, tensor.name))
            floats[tensor.name] = twin
        return floats[tensor.name]

    for op in ops:
        inputs = tuple(None if t is None else stored.get(t.name, t) for t in op.inputs)
        if op.kind == FAKE:
            (x,) = inputs
            if stored.get(op.output.name) is not None:
                continue  # the operator before gives the quantized value itself
            if x.quant is not None and x.quant.same(op.output.quant):
                if held.get(x.name, NO_CLAMP) == op.attrs["clamp"]:
                    stored[op.output.name] = x
                else:
                    add(Op("clamp", (x,), op.output, {"clamp": NO_CLAMP}, op.layer), op)
                continue
            add(Op("quantize", (as_float(x),), op.output, {}, op.layer), op)
            continue
        whole = _integer_inputs(op, inputs)
        fakes = [r for r in readers.get(op.output.name, []) if r is not None and r.kind == FAKE]
        alone = len(readers.get(op.output.name, [])) == 1 and len(fakes) == 1
        fake = None
        if whole is not None and op.kind in VALUE_PRESERVING:
            grid = _activations(whole)[0].quant
            same = alone and fakes[0].output.quant.same(grid)
            name = fakes[0].output.name if same else op.output.name
            output = Tensor(name, op.output.shape, "float32", grid)
            fake = fakes[0] if same else None
            stored[op.output.name] = stored[name] = output
        elif whole is not None and alone:
            fake = fakes[0]
            output = fake.output
            stored[op.output.name] = stored[output.name] = output
        else:
            whole = tuple(as_float(t) for t in op.inputs)
            weight = op.inputs[1] if op.kind in WEIGHTED else None
            wide = weight is None or (weight.quant is not None and weight.quant.dtype == "int16")
            if not wide and inputs[0].quant is None and weight.data is not None:
                whole = (whole[0], _narrowest(op.inputs[1]), *whole[2:])
            output = op.output
        add(Op(op.kind, whole, output, op.attrs, op.layer), fake)
    return result, tuple(as_float(t) for t in outputs)


def _integer_inputs(op: Op, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
    """The inputs with which the operator runs on integers, None when it cannot."""
    if op.kind not in QUANTIZABLE:
        return None
    whole = []
    for i, tensor in enumerate(inputs):
        is_bias = i == 2 and op.kind in ("conv", "conv_transpose", "linear")
        if tensor is None or tensor.quant is not None or is_bias:
            whole.append(tensor)
        elif tensor.data is not None and tensor.data.size == 1 and tensor.dtype == "float32":
            whole.append(_scalar_on_grid(tensor))
        else:
            return None
    activations = _activations(tuple(whole))
    if not activations:
        return None
    if op.kind in VALUE_PRESERVING and not all(
        t.quant.same(activations[0].quant) for t in activations
    ):
        return None
    return tuple(whole)


def _activations(inputs: tuple[Tensor | None, ...]) -> list[Tensor]:
    return [t for t in inputs if t is not None and t.data is None and t.quant is not None]


def _scalar_on_grid(tensor: Tensor) -> Tensor:
    """A single number is exact on a grid of its own: 127 or -127 steps."""
    number = float(tensor.data.reshape(()))
    grid = Quant(np.float32(abs(number) / 127 or 1.0).reshape(()), np.zeros((), np.int32))
    integers = np.full(tensor.shape, round(math.copysign(127, number)) if number else 0, np.int8)
    return Tensor(tensor.name, tensor.shape, "float32", grid, integers)


def dequantized(tensor: Tensor) -> np.ndarray:
    """The real numbers (float32) of a quantized constant."""
    quant, shape = tensor.quant, tensor.data.shape
    scale, zero_point = (quant.along(v, shape) for v in (quant.scale, quant.zero_point))
    return ((tensor.data.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _narrowest(weight: Tensor) -> Tensor:
    """A quantized weight as int4, where its integers (and zero points) go into four bits."""
    quant = weight.quant
    if quant is None or not all(v.min() >= -8 and v.max() <= 7 for v in
                                (weight.data, quant.zero_point)):  # fmt: skip
        return weight
    return replace(weight, quant=replace(quant, dtype="int4"))


def _live(ops: list[Op], outputs: tuple[Tensor, ...]) -> list[Op]:
    """The operators that an output depends on."""
    needed = {t.name for t in outputs}
    kept = []
    for op in reversed(ops):
        if op.output.name in needed:
            needed |= {t.name for t in op.inputs if t is not None}
            kept.append(op)
    return kept[::-1]

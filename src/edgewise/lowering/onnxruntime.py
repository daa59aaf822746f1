"""Program -> ONNX, in the idiom for which ONNX Runtime's CPU kernels (MLAS) are fast.

Quantized operators are written as DequantizeLinear -> operator -> QuantizeLinear, which ONNX
Runtime fuses into integer kernels when it loads the file:

* Activations are stored as uint8 (our int8 + 128), weights as int8: x86 multiplies unsigned by
  signed bytes, and signed activations miss the fast kernels.
* A bias is int32 of scale ``input scale * weight scale``, else the convolution stays float.
* Where a clamp's bounds are the ends of the grid, nothing is written for it; elsewhere the stored
  integers are clamped, behind the QuantizeLinear, so that the operator before it still fuses.
* What only moves values works on the stored integers.
* From one grid to another goes an addition of zero: of two QuantizeLinear in a row ONNX Runtime
  makes one, on a grid of its own choice.
* A float convolution or Gemm between DequantizeLinear and QuantizeLinear would be taken for one
  that someone forgot to quantize: ONNX Runtime's WeightBiasQuantization rounds its weights to
  int8, per tensor. It passes over inputs that are dequantized with a scale for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError
from .build import build
from .onnx_ops import OPS, Graph, described, dtype_number, helper, level
from .onnx_weights import has_kernel, linear
from .program import NO_CLAMP, VALUE_PRESERVING, Op, Program, Quant, Tensor, check_widths

if TYPE_CHECKING:
    import torch

    from ..record import Signature

__all__ = ["check", "to_onnx", "write"]

# Read by onnxruntime 1.22 and later (Gelu came with 20), and the file format of that time.
OPSET, IR_VERSION = 20, 9
# A protobuf message, and so a file without companions, ends at 2 GiB.
LARGEST_FILE = 2**31 - 2**20
# Half of int32's range for the bias leaves the other half for the sum of products.
LARGEST_BIAS = 2**30
# Quantized kinds that ONNX Runtime has integer kernels for; the others run as float.
INTEGER = frozenset(
    {
        "conv", "linear", "matmul", "add", "mul", "sigmoid", "leaky_relu", "softmax", "avg_pool",
        "mean",
    }
)  # fmt: skip
# Float kinds whose weights would be rounded; a matmul because it may become a Gemm.
SHIELDED = frozenset({"conv", "conv_transpose", "linear", "matmul"})
ZERO = Tensor("zero", (), "float32", Quant(np.ones((), np.float32), np.zeros((), np.int32)),
              np.zeros((), np.int8))  # fmt: skip


def write(
    module: torch.fx.GraphModule,
    signature: Signature,
    batch: int,
    path: Path,
    *,
    half: bool = False,
) -> dict[str, str]:
    """Lower a canonical graph to an ``.onnx`` file at `path`; no tensor is laid out anew.

    Raises:
        UnsupportedOperator: an operator that cannot be written, with its layer.
        ModelError: weights too large for the file format, or for float16 when `half` is set.
    """
    path.write_bytes(to_onnx(build(module, signature, batch), half=half).SerializeToString())
    return {}


def check(program: Program) -> None:
    """Raise `UnsupportedOperator` where the Program cannot be written."""
    to_onnx(program)


def to_onnx(program: Program, *, half: bool = False):
    """The Program as an ``onnx.ModelProto``; inputs, outputs and parameters keep their names.

    Args:
        half: store float weights as float16, cast back to float32 when the file is loaded.

    Raises:
        UnsupportedOperator: an operator or width that cannot be written, with its layer.
        ModelError: weights too large for the file format, or for float16 when `half` is set.
    """
    writer = _Writer(half)
    for op in program.ops:
        for simple in _simplify(op):
            writer.write(simple)
    outputs = [writer.output(tensor) for tensor in program.outputs]
    graph = helper.make_graph(
        writer.graph.nodes,
        "edgewise",
        [described(t) for t in program.inputs],
        [described(t) for t in outputs],
        list(writer.graph.initializers.values()),
    )
    size = sum(t.ByteSize() for t in writer.graph.initializers.values())
    if size > LARGEST_FILE:
        raise ModelError(
            f"the weights take {size / 2**30:.1f} GiB and an .onnx file ends at 2 GiB: quantize "
            "the model, or lower it with half=True"
        )
    return helper.make_model(
        graph,
        producer_name="edgewise",
        ir_version=IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", OPSET),
            *(helper.make_opsetid(d, 1) for d in {n.domain for n in writer.graph.nodes} if d),
        ],
    )


def _simplify(op: Op) -> Iterator[Op]:
    """The operator in terms of those that are written as one."""
    x, y = op.inputs[0], op.output
    if has_kernel(op):
        yield op
    elif op.kind == "linear" and len(x.shape) != 2:
        # Only Gemm has a bias inside; a reshape moves nothing.
        rows = Tensor(f"{y.name}.rows", (math.prod(x.shape[:-1]), x.shape[-1]), quant=x.quant)
        flat = Tensor(f"{y.name}.flat", (rows.shape[0], y.shape[-1]), quant=y.quant)
        yield replace(op, kind="reshape", inputs=(x,), output=rows, attrs={})
        yield replace(op, inputs=(rows, *op.inputs[1:]), output=flat)
        yield replace(op, kind="reshape", inputs=(flat,), output=y, attrs={})
    elif op.kind == "conv" and y.quant is not None and _wants_fourth_channel(op):
        weight = op.inputs[1]
        more = ((0, 0), (0, 4 - x.shape[1]), *((0, 0),) * (len(x.shape) - 2))
        four = replace(x, name=f"{y.name}.four", shape=(x.shape[0], 4, *x.shape[2:]))
        data = np.pad(weight.data, more)
        weight = replace(weight, shape=data.shape, data=data)
        zeros = {"padding": more, "mode": "constant", "value": 0.0}
        yield replace(op, kind="pad", inputs=(x,), output=four, attrs=zeros)
        yield replace(op, inputs=(four, weight, *op.inputs[2:]))
    elif op.kind == "mean" and not op.attrs["keepdim"]:
        axes = {axis % len(x.shape) for axis in op.attrs["axes"]}
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
        kept = Tensor(f"{y.name}.kept", shape, quant=y.quant)
        yield replace(op, output=kept, attrs={**op.attrs, "keepdim": True})
        yield replace(op, kind="reshape", inputs=(kept,), output=y, attrs={})
    elif y.quant is None or op.kind == "quantize" or op.kind in INTEGER or _moves(op):
        yield op
    elif op.kind == "clamp":
        yield replace(op, kind="add", inputs=(x, ZERO))
    else:
        inputs = list(op.inputs)
        for i, t in enumerate(inputs):
            if t is not None and t.quant is not None:
                inputs[i] = Tensor(f"{y.name}.in{i}", t.shape)
                yield replace(op, kind="dequantize", inputs=(t,), output=inputs[i], attrs={})
        result = Tensor(f"{y.name}.float", y.shape)
        yield replace(op, inputs=tuple(inputs), output=result)
        yield replace(op, kind="quantize", inputs=(result,), output=y, attrs={})


def _wants_fourth_channel(op: Op) -> bool:
    """Whether a convolution of an image or signal gains by channels of zeros.

    MLAS's direct integer convolution takes groups of 4 channels, to at least 16; the others are
    unfolded first. Here the stem of MobileNetV2 took 458 us with 3 channels, 221 with 4. Four
    times the work is too much for one channel under a large kernel.
    """
    outputs, channels, *kernel = op.inputs[1].shape
    small = channels > 1 or math.prod(kernel) <= 9
    return op.attrs["groups"] == 1 and channels < 4 and outputs >= 16 and small


def _moves(op: Op) -> bool:
    """Whether the operator gives integers that it takes, on the same grid."""
    same = op.kind == "clamp" and op.inputs[0].quant.same(op.output.quant)
    return same or op.kind in VALUE_PRESERVING


class _Writer:
    """Appends operators to a graph, in which a quantized tensor's name is its integers'."""

    def __init__(self, half: bool):
        self.graph = Graph()
        self.half = half
        # Dequantized value -> the quantized tensor that it is of; written when it is first read.
        self.twins: dict[str, Tensor] = {}
        self.dequantized: set[str] = set()
        self.outputs: set[str] = set()

    def write(self, op: Op) -> None:
        """Append one operator, quantized or not."""
        x, out = op.inputs[0], op.output
        self.graph.layer = op.layer or out.name
        check_widths(op, "onnxruntime")
        twin = self.twins.get(x.name)
        if op.kind == "dequantize" and x.data is None:
            self.twins[out.name] = x
        elif op.kind == "reshape" and twin is not None:
            self.twins[out.name] = replace(out, name=f"{out.name}.stored", quant=twin.quant)
            self.write(replace(op, inputs=(twin,), output=self.twins[out.name]))
        elif op.kind == "quantize" and twin is not None:
            self.write(replace(op, kind="add", inputs=(twin, ZERO)))
        else:
            self.graph.name_last(self._value(op), out.name)

    def _value(self, op: Op) -> str:
        graph, out, clamp = self.graph, op.output, op.attrs.get("clamp", NO_CLAMP)
        if op.kind == "dequantize":
            return self._folded(op.inputs[0])
        if op.kind == "quantize":
            return self._quantized(self.stored(op.inputs[0]), out.quant)
        if has_kernel(op):
            value = linear(graph, op, *(self.stored(t) for t in (op.inputs[0], op.inputs[2])))
            return self._clamped(value, out, *clamp)
        if out.quant is None:
            return self._clamped(OPS[op.kind](graph, op, self._floats(op)), out, *clamp)
        if _moves(op):
            value = OPS[op.kind](graph, op, [self.stored(t) for t in op.inputs])
        else:
            value = self._quantized(OPS[op.kind](graph, op, self._operands(op)), out.quant)
        return self._clamped_levels(value, out.quant, *clamp)

    def _quantized(self, value: str, quant: Quant) -> str:
        return self.graph.node("QuantizeLinear", value, *self._grid(quant))

    def output(self, tensor: Tensor) -> Tensor:
        """Make the tensor an output of the graph; one that is given twice gets a second name."""
        name = value = self.stored(tensor)
        while name in self.outputs:
            name += ".again"
        if name != value:
            self.graph.name_last(self.graph.node("Identity", value), name)
        self.outputs.add(name)
        return replace(tensor, name=name)

    def stored(self, tensor: Tensor | None, weight: bool = False) -> str | None:
        """A tensor as the file holds it: integers where it is quantized.

        Args:
            weight: of a float operator, which takes real numbers.
        """
        if tensor is None:
            return None
        if tensor.name in self.twins and tensor.name not in self.dequantized:
            self.dequantized.add(tensor.name)
            self.graph.name_last(self._real(self.twins[tensor.name]), tensor.name)
        if tensor.data is None:
            return tensor.name
        if tensor.quant is not None and weight:
            return self._folded(tensor)
        if tensor.quant is not None:
            unsigned = (tensor.data.astype(np.int16) + 128).astype(np.uint8)
            return self.graph.constant(tensor.name, unsigned)
        data = np.asarray(tensor.data)
        if self.half and data.dtype == np.float32 and data.size > max(data.shape, default=1):
            return self._halved(tensor.name, data)
        return self.graph.constant(tensor.name, data)

    def _floats(self, op: Op) -> list[str | None]:
        """A float operator's inputs; see the end of this module's introduction."""
        twin = self.twins.get(op.inputs[0].name)
        # Of two computed values nothing is rounded, and MatMul takes no scales for each channel.
        computed = op.kind == "matmul" and op.inputs[1].data is None
        if twin is None or op.kind not in SHIELDED or computed:
            return [self.stored(t, weight=True) for t in op.inputs]
        axis = next((a for a, size in enumerate(twin.shape) if size > 1), 0)
        size = twin.shape[axis]
        scale = np.full(size, twin.quant.scale, np.float32)
        zero_point = np.full(size, int(twin.quant.zero_point) + 128, np.uint8)
        x = self.graph.node(
            "DequantizeLinear",
            self.stored(twin),
            self.graph.constant(f"{twin.name}.scale", scale),
            self.graph.constant(f"{twin.name}.zero_point", zero_point),
            axis=axis,
        )
        return [x, *(self.stored(t, weight=True) for t in op.inputs[1:])]

    def _real(self, tensor: Tensor | None) -> str | None:
        """An integer kernel's input: the real numbers of a quantized tensor."""
        if tensor is None or tensor.quant is None:
            return self.stored(tensor)
        return self.graph.node("DequantizeLinear", self.stored(tensor), *self._grid(tensor.quant))

    def _operands(self, op: Op) -> list[str | None]:
        """An integer kernel's inputs; the bias as int32."""
        if op.kind not in ("conv", "linear"):
            return [self._real(t) for t in op.inputs]
        x, weight, bias = op.inputs
        if bias is None:
            return [self._real(x), self._weight(weight.name, weight.data, weight.quant), None]
        integers, quant, scale = _with_bias(weight, bias.data, x.quant)
        levels = np.rint(bias.data / scale).astype(np.int32)
        step = self.graph.constant(f"{bias.name}.scale", scale.astype(np.float32))
        return [
            self._real(x),
            self._weight(weight.name, integers, quant),
            self.graph.node(
                "DequantizeLinear", self.graph.constant(bias.name, levels), step, axis=0
            ),
        ]

    def _weight(self, name: str, integers: np.ndarray, quant: Quant) -> str:
        return self.graph.node(
            "DequantizeLinear",
            self.graph.constant(name, integers.astype(np.int8)),
            self.graph.constant(f"{name}.scale", quant.scale.astype(np.float32)),
            self.graph.constant(f"{name}.zero_point", quant.zero_point.astype(np.int8)),
            **({} if quant.axis is None else {"axis": quant.axis}),
        )

    def _folded(self, constant: Tensor) -> str:
        """A constant's real numbers, which are computed once when the file is loaded.

        A DequantizeLinear would run at each inference where no integer kernel takes it in.
        """
        quant, data = constant.quant, constant.data.astype(np.int8)
        grouped = quant.scale.ndim == 2
        if grouped:
            data = data.reshape(*quant.scale.shape, -1)
        integers = self.graph.constant(constant.name, data)
        value = self.graph.node("Cast", integers, to=dtype_number("float32"))
        for kind, parameter in (("Sub", quant.zero_point), ("Mul", quant.scale)):
            shape = [-1 if a == quant.axis else 1 for a in range(data.ndim)]
            numbers = np.asarray(parameter, np.float32)
            numbers = numbers[..., None] if grouped else numbers.reshape(shape)
            name = f"{constant.name}.{'scale' if kind == 'Mul' else 'zero_point'}"
            value = self.graph.node(kind, value, self.graph.constant(name, numbers))
        if grouped:
            value = self.graph.node("Reshape", value, self.graph.integers(constant.shape))
        return value

    def _grid(self, quant: Quant) -> tuple[str, str]:
        """Scale and zero point of an activation as constants."""
        zero_point = self.graph.literal(int(quant.zero_point) + 128, "uint8")
        return self.graph.literal(quant.scale, "float32"), zero_point

    def _halved(self, name: str, data: np.ndarray) -> str:
        with np.errstate(over="ignore"):
            half = data.astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError(
                f"weight '{name}' reaches {np.abs(data).max():.3g} and float16 ends at 65504: "
                "lower the model with half=False"
            )
        return self.graph.node("Cast", self.graph.constant(name, half), to=dtype_number("float32"))

    def _clamped(self, value: str, out: Tensor, low: float, high: float) -> str:
        """The bounds of a float (or integer) operator."""
        if (low, high) == NO_CLAMP:
            return value
        if (low, high) == (0, math.inf) and out.dtype == "float32":
            return self.graph.node("Relu", value)
        bounds = (None if math.isinf(b) else self.graph.literal(b, out.dtype) for b in (low, high))
        return self.graph.node("Clip", value, *bounds)

    def _clamped_levels(self, value: str, quant: Quant, low: float, high: float) -> str:
        """The bounds of a quantized operator, on its stored integers.

        Rounding is monotonic, so this is the same as rounding what a float clamp gives.
        """
        bounds = level(low, quant), level(high, quant)
        if bounds == (0, 255):
            return value
        return self.graph.node("Clip", value, *(self.graph.literal(b, "uint8") for b in bounds))


def _with_bias(
    weight: Tensor, bias: np.ndarray, inputs: Quant
) -> tuple[np.ndarray, Quant, np.ndarray]:
    """A weight's integers and grid, and the bias's scale, such that the bias fits in int32.

    A channel that pruning emptied may have a bias that is enormous on the grid of its weights.
    Its weights then take a coarser grid; what they lose is less than the bias's own rounding.
    """
    quant, integers = weight.quant, weight.data
    own = quant.scale.astype(np.float64)
    needed = np.abs(bias.astype(np.float64)) / (float(inputs.scale) * LARGEST_BIAS)
    scale = np.maximum(own, needed if quant.axis is not None else needed.max()).astype(np.float32)
    if (scale > quant.scale).any():
        along = [-1 if axis == quant.axis else 1 for axis in range(integers.ndim)]
        zero_point = quant.zero_point.reshape(along)
        steps = np.rint((integers - zero_point) * (own / scale).reshape(along))
        integers = steps + zero_point
        quant = replace(quant, scale=scale)
    return integers, quant, scale.astype(np.float64) * float(inputs.scale)

"""Program operators as core aten calls: one small function a row of `OPS`.

A function takes the graph under construction, the operator and its inputs (fx nodes that hold
real numbers, None for an absent bias) and returns the node of the result. Which aten operator is
called decides where it runs: what XNNPACK's partitioner recognises runs there, anything else in
ExecuTorch's portable kernels, between two calls of XNNPACK.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
import torch
from torch import fx, nn

from ..errors import UnsupportedOperator
from .program import Op

__all__ = ["OPS", "Graph"]

aten = torch.ops.aten
LARGEST = torch.finfo(torch.float32).max
OPS: dict[str, Callable[..., fx.Node]] = {}


class Graph:
    """An fx graph under construction, with the constants that it reads."""

    def __init__(self) -> None:
        self.nodes = fx.Graph()
        self.root = nn.Module()
        self.layer = ""
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, target: object, *args, **kwargs) -> fx.Node:
        """A call of an aten operator, known to the user as part of `layer`."""
        node = self.nodes.call_function(target, args, kwargs)
        node.meta["layer"] = self.layer
        return node

    def part(self, results: fx.Node, index: int) -> fx.Node:
        """One of an operator's several results."""
        return self(operator.getitem, results, index)

    def first(self, results: fx.Node) -> fx.Node:
        """The first of an operator's several results."""
        return self.part(results, 0)

    def constant(self, value: np.ndarray) -> fx.Node:
        """A constant tensor; equal ones are stored once, which spares ExecuTorch many nodes."""
        value = np.asarray(value)
        key = value.dtype.str, value.shape, value.tobytes()
        name = self._constants.setdefault(key, f"constant{len(self._constants)}")
        if not hasattr(self.root, name):
            self.root.register_buffer(name, torch.from_numpy(value.copy()))
        return self.nodes.get_attr(name)

    def number(self, value: float, rank: int) -> fx.Node:
        """A float32 constant that broadcasts against tensors of this rank."""
        return self.constant(np.full((1,) * rank, value, np.float32))

    def reshape(self, x: fx.Node, shape) -> fx.Node:
        return self(aten.view_copy.default, x, [int(s) for s in shape])

    def clamp(self, x: fx.Node, low: float, high: float) -> fx.Node:
        """ReLU and hard-tanh are the clamps that XNNPACK fuses into the operator before."""
        if (low, high) == (-math.inf, math.inf):
            return x
        if (low, high) == (0.0, math.inf):
            return self(aten.relu.default, x)
        return self(aten.hardtanh.default, x, max(low, -LARGEST), min(high, LARGEST))

    def pad(self, x: fx.Node, pairs, value: float = 0.0) -> fx.Node:
        """Constant padding, a (before, after) pair for each of the last axes."""
        flat = [int(n) for pair in reversed(pairs) for n in pair]
        if not any(flat):
            return x
        return self(aten.constant_pad_nd.default, x, flat, float(value))

    def fail(self, op: Op, why: str) -> UnsupportedOperator:
        return UnsupportedOperator(
            f"{op.kind} at layer '{op.layer or op.output.name}' cannot be lowered to ExecuTorch: "
            f"{why}"
        )


def row(*kinds: str):
    """Register a function for these kinds."""

    def register(function):
        for kind in kinds:
            OPS[kind] = function
        return function

    return register


# --- convolutions and products ------------------------------------------------------------------


@row("conv")
def convolution(graph, op, x, weight, bias):
    a = op.attrs
    if len(a["stride"]) > 2:
        raise graph.fail(op, "it has convolutions of one and two dimensions only")
    both = [min(pair) for pair in a["padding"]]
    x = graph.pad(x, _beyond(a["padding"], both))
    none = [0] * len(both)
    return graph(
        aten.convolution.default, x, weight, bias,
        list(a["stride"]), both, list(a["dilation"]), False, none, a["groups"],
    )  # fmt: skip


def _beyond(padding, both: list[int]) -> list[tuple[int, int]]:
    """What is left of (before, after) padding when an operator pads `both` sides by itself."""
    return [(lo - b, hi - b) for (lo, hi), b in zip(padding, both, strict=True)]


@row("conv_transpose")
def transposed_convolution(graph, op, x, weight, bias):
    a = op.attrs
    if any(lo != hi for lo, hi in a["padding"]):
        raise graph.fail(op, "its padding is not the same on both sides")
    return graph(
        aten.convolution.default, x, weight, bias,
        list(a["stride"]), [lo for lo, _ in a["padding"]], list(a["dilation"]),
        True, list(a["output_padding"]), a["groups"],
    )  # fmt: skip


@row("linear")
def linear(graph, op, x, weight, bias):
    if op.inputs[1].data is not None:
        return graph(aten.linear.default, x, weight, bias)
    # XNNPACK packs weights when the file is loaded: computed ones are not for `linear`.
    turned = graph(aten.permute_copy.default, weight, [1, 0])
    rows = graph.reshape(x, (math.prod(op.inputs[0].shape[:-1]), op.inputs[0].shape[-1]))
    y = graph.reshape(graph(aten.mm.default, rows, turned), op.output.shape)
    return y if bias is None else graph(aten.add.Tensor, y, bias)


@row("matmul")
def matmul(graph, op, a, b):
    """XNNPACK multiplies batches of matrices of rank 3."""
    left, right = op.inputs[0].shape, op.inputs[1].shape
    rows = 1 if len(left) == 1 else left[-2]
    columns = 1 if len(right) == 1 else right[-1]
    lead = np.broadcast_shapes(left[:-2], right[:-2])
    if len(right) <= 2:  # one matrix for all rows
        rows, lead = math.prod(left[:-1]), ()
        left = (rows, left[-1])
        a = graph.reshape(a, left)
    a = _batch(graph, a, left, lead, (rows, left[-1]))
    b = _batch(graph, b, right, lead, (left[-1], columns))
    return graph.reshape(graph(aten.bmm.default, a, b), op.output.shape)


def _batch(graph, x, shape, lead, matrix) -> fx.Node:
    if shape[:-2] != lead:
        x = graph.reshape(x, (*shape[:-2], *matrix))
        x = graph(aten.expand_copy.default, x, [*lead, *matrix])
    return graph.reshape(x, (math.prod(lead), *matrix))


# --- element by element -------------------------------------------------------------------------

for kind, target in {
    "add": aten.add.Tensor, "sub": aten.sub.Tensor, "mul": aten.mul.Tensor,
    "div": aten.div.Tensor, "pow": aten.pow.Tensor_Tensor,
    "maximum": aten.maximum.default, "minimum": aten.minimum.default,
}.items():  # fmt: skip
    row(kind)(lambda graph, op, a, b, target=target: graph(target, a, b))

for kind, target in {
    "neg": aten.neg, "abs": aten.abs, "exp": aten.exp, "log": aten.log, "sqrt": aten.sqrt,
    "rsqrt": aten.rsqrt, "erf": aten.erf, "sin": aten.sin, "cos": aten.cos, "floor": aten.floor,
    "sigmoid": aten.sigmoid, "tanh": aten.tanh, "hardswish": aten.hardswish,
}.items():  # fmt: skip
    row(kind)(lambda graph, op, x, target=target.default: graph(target, x))


@row("clamp")
def clamp(graph, op, x):
    return x  # the attribute `clamp` says it all


@row("silu")
def silu(graph, op, x):
    return graph(aten.mul.Tensor, x, graph(aten.sigmoid.default, x))


@row("hardsigmoid")
def hardsigmoid(graph, op, x):
    """ReLU6(x + 3) / 6; aten's own is decomposed with detours through other dtypes."""
    rank = len(op.output.shape)
    x = graph.clamp(graph(aten.add.Tensor, x, graph.number(3, rank)), 0.0, 6.0)
    return graph(aten.mul.Tensor, x, graph.number(1 / 6, rank))


@row("gelu")
def gelu(graph, op, x):
    """XNNPACK has the exact one; the other is ``x sigmoid(sqrt(8 / pi) (x + 0.044715 x^3))``."""
    if op.attrs["approximate"] == "none":
        return graph(aten.gelu.default, x)
    rank, slope = len(op.output.shape), math.sqrt(8 / math.pi)
    inner = graph(
        aten.mul.Tensor, graph(aten.mul.Tensor, x, x), graph.number(0.044715 * slope, rank)
    )
    inner = graph(aten.add.Tensor, inner, graph.number(slope, rank))
    return graph(aten.mul.Tensor, x, graph(aten.sigmoid.default, graph(aten.mul.Tensor, inner, x)))


@row("elu")
def elu(graph, op, x):
    """``max(x, 0) + alpha (exp(min(x, 0)) - 1)``, for XNNPACK's own is not offered yet."""
    rank = len(op.output.shape)
    less = graph(aten.exp.default, graph.clamp(x, -math.inf, 0.0))
    less = graph(aten.sub.Tensor, less, graph.number(1, rank))
    less = graph(aten.mul.Tensor, less, graph.number(op.attrs["alpha"], rank))
    return graph(aten.add.Tensor, graph(aten.relu.default, x), less)


@row("leaky_relu")
def leaky_relu(graph, op, x):
    return graph(aten.leaky_relu.default, x, op.attrs["slope"])


@row("softplus")
def softplus(graph, op, x):
    """``max(x, 0) + log(1 + exp(-|x|))``: each of these runs in XNNPACK and none overflows."""
    less = graph(aten.exp.default, graph(aten.neg.default, graph(aten.abs.default, x)))
    one = graph.number(1, len(op.output.shape))
    tail = graph(aten.log.default, graph(aten.add.Tensor, less, one))
    return graph(aten.add.Tensor, graph(aten.relu.default, x), tail)


@row("softmax")
def softmax(graph, op, x):
    """XNNPACK normalises over the last axis, which of four is the channels' in its own order."""
    axis, shape = op.attrs["axis"], op.output.shape
    rank = len(shape)
    order = [i for i in range(rank) if i != axis] + [axis]
    if axis != rank - 1:
        x = graph(aten.permute_copy.default, x, order)
    if rank > 2:
        x = graph.reshape(x, (-1, shape[axis]))
    x = graph(aten._softmax.default, x, min(rank, 2) - 1, False)
    if rank > 2:
        x = graph.reshape(x, [shape[i] for i in order])
    if axis != rank - 1:
        x = graph(aten.permute_copy.default, x, [order.index(i) for i in range(rank)])
    return x


@row("log_softmax")
def log_softmax(graph, op, x):
    return graph(aten._log_softmax.default, x, op.attrs["axis"], False)


@row("layer_norm")
def layer_norm(graph, op, x, weight, bias):
    shape = list(op.output.shape[-op.attrs["axes"] :])
    return graph.first(
        graph(aten.native_layer_norm.default, x, shape, weight, bias, op.attrs["eps"])
    )


# --- pooling and reductions ---------------------------------------------------------------------


@row("max_pool")
def max_pool(graph, op, x):
    a = op.attrs
    kernel, stride, dilation = list(a["kernel"]), list(a["stride"]), list(a["dilation"])
    both = [min(*pair, k // 2) for pair, k in zip(a["padding"], kernel, strict=True)]
    x = graph.pad(x, _beyond(a["padding"], both), -LARGEST)
    if all(s <= k for s, k in zip(stride, kernel, strict=True)):
        return graph(aten.max_pool2d.default, x, kernel, stride, both, dilation)
    # Windows with gaps between them are not for XNNPACK.
    return graph.first(
        graph(aten.max_pool2d_with_indices.default, x, kernel, stride, both, dilation)
    )


@row("avg_pool")
def avg_pool(graph, op, x):
    x = graph(aten.avg_pool2d.default, x, list(op.attrs["kernel"]), list(op.attrs["stride"]))
    if op.attrs["shares"] is None:
        return x
    return graph(aten.mul.Tensor, x, graph.constant(op.attrs["shares"]))


@row("mean")
def mean(graph, op, x):
    return graph(aten.mean.dim, x, list(op.attrs["axes"]), op.attrs["keepdim"])


@row("sum")
def sum_(graph, op, x):
    return graph(aten.sum.dim_IntList, x, list(op.attrs["axes"]), op.attrs["keepdim"])


@row("amax")
def amax(graph, op, x):
    return graph(aten.amax.default, x, list(op.attrs["axes"]), op.attrs["keepdim"])


@row("amin")
def amin(graph, op, x):
    return graph(aten.amin.default, x, list(op.attrs["axes"]), op.attrs["keepdim"])


# --- what moves values --------------------------------------------------------------------------


@row("concat")
def concat(graph, op, *inputs):
    return graph(aten.cat.default, list(inputs), op.attrs["axis"])


@row("pad")
def pad(graph, op, x):
    pairs, mode = op.attrs["padding"], op.attrs["mode"]
    if mode == "constant":
        return graph.pad(x, pairs, op.attrs["value"])
    axes = [i for i, pair in enumerate(pairs) if any(pair)]
    count = len(pairs) - min(axes, default=len(pairs))
    rank = len(pairs)
    if count > 3 or rank - count < 1:
        raise graph.fail(op, f"it has {mode} padding of the last three axes only")
    flat = [int(n) for pair in reversed(pairs[-count:]) for n in pair]
    name = {"reflect": "reflection_pad", "edge": "replication_pad"}[mode]
    lead = op.inputs[0].shape[: rank - count]
    shape = (1, math.prod(lead), *op.inputs[0].shape[rank - count :])
    padded = graph(getattr(aten, f"{name}{count}d").default, graph.reshape(x, shape), flat)
    return graph.reshape(padded, op.output.shape)


@row("slice")
def slice_(graph, op, x):
    a = op.attrs
    for axis, size in enumerate(op.inputs[0].shape):
        start, stop, step = a["start"][axis], a["stop"][axis], a["step"][axis]
        if (start, stop, step) != (0, size, 1):
            x = graph(aten.slice_copy.Tensor, x, axis, start, stop, step)
    return x


@row("reshape")
def reshape(graph, op, x):
    return graph.reshape(x, op.attrs["shape"])


@row("permute")
def permute(graph, op, x):
    return graph(aten.permute_copy.default, x, list(op.attrs["order"]))


@row("expand")
def expand(graph, op, x):
    shape, size = op.inputs[0].shape, op.output.shape
    if op.output.dtype != "float32":
        return graph(aten.expand_copy.default, x, list(size))
    # XNNPACK broadcasts only inside arithmetic.
    shape = (1,) * (len(size) - len(shape)) + shape
    ones = [n if have == 1 else 1 for have, n in zip(shape, size, strict=True)]
    return graph(
        aten.mul.Tensor, graph.reshape(x, shape), graph.constant(np.ones(ones, np.float32))
    )


@row("gather")
def gather(graph, op, table, indices):
    return graph(aten.embedding.default, table, indices)


@row("resize")
def resize(graph, op, x):
    shape, size = op.inputs[0].shape, list(op.attrs["size"])
    if len(size) == 1:
        x, size = graph.reshape(x, (*shape[:2], 1, shape[2])), [1, *size]
    if len(size) != 2:
        raise graph.fail(op, "it resizes images and signals only")
    if op.attrs["mode"] == "nearest":
        x = graph(aten.upsample_nearest2d.vec, x, size, None)
    else:
        x = graph(aten.upsample_bilinear2d.vec, x, size, op.attrs["align_corners"], None)
    return x if len(shape) == 4 else graph.reshape(x, op.output.shape)


@row("cast")
def cast(graph, op, x):
    return graph(aten._to_copy.default, x, dtype=getattr(torch, op.attrs["dtype"]))

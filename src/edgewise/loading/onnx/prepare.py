"""Before any torch operator: fold constants, lay weights out as PyTorch does, settle grids.

A constant made from another is named ``"name\\0how"``, which no name of a file is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ...errors import ModelError
from .graph import Graph, Node
from .qoperators import dynamic_products, written_out
from .quantized import OFFSETS, stored_dtype
from .rows import ROWS, Op
from .values import Constant, Stored, as_tensor

__all__ = ["UNFOLDED", "Prepared", "prepare"]

LEAST_ROOM = 2**22
# Where a constant is a weight, whatever node it comes from: kind -> inputs.
WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1),
    "edgewise:Linear": (1, 2), "PRelu": (1,), "edgewise:Weight": (0,),
}  # fmt: skip
# Where it is none: statistics and grids.
SETTINGS = {
    "BatchNormalization": (3, 4), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2),
    "edgewise:Weight": (1, 2), "Resize": (1, 2), "Upsample": (1,), "Clip": (1, 2), "Pad": (2,),
}  # fmt: skip
# The result is still the tensor that the file names.
KEEP_NAME = {"Transpose", "Reshape", "Cast", "DequantizeLinear", "Identity", "Unsqueeze", "Squeeze"}
REAL = {
    "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization",
    "RMSNormalization", "PRelu",
}  # fmt: skip
UNFOLDED = {"QuantizeLinear", "DequantizeLinear", "edgewise:Weight", "DynamicQuantizeLinear"}


@dataclass
class Prepared(Graph):
    """A graph with folded constants.

    Attributes:
        weights: those of its constants that are trained.
        shown: constant -> the name that it gets in the Model.
    """

    weights: set[str]
    shown: dict[str, str]


def prepare(graph: Graph) -> Prepared:
    """Fold what depends on constants alone; give products and grids the form that torch has.

    Raises:
        ModelError: an operator that cannot be computed.
    """
    return _Preparation(graph).run()


class _Preparation:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.constants = dict(graph.constants)
        self.weights = {
            name for name, value in self.constants.items() if value.ndim and _may_train(value)
        }
        # Elements that folding may make: as much again as there is, many times over.
        self.room = LEAST_ROOM + 16 * sum(value.numel() for value in self.constants.values())
        self.called: dict[str, str] = {}
        self.nodes: list[Node] = []
        self.producer: dict[str, Node] = {}

    def run(self) -> Prepared:
        nodes = dynamic_products(self.graph.nodes, self.constants)
        nodes = [part for node in nodes for part in written_out(node, self.constants)]
        self.readers = Counter(name for node in nodes for name in node.inputs)
        self.readers.update(self.graph.outputs)
        for node in nodes:
            if not self.fold(node):
                for form in (_real, _weight, _grid, _linear):
                    node = form(self, node) or node
                self.add(node)
        self._join_biases()
        shown = {name: self.shown(name) for name in self.constants}
        return Prepared(
            self.graph.inputs,
            self.graph.outputs,
            self.constants,
            self.nodes,
            self._trained(),
            shown,
        )

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self.producer.update(dict.fromkeys(node.outputs, node))

    def fold(self, node: Node) -> bool:
        """Compute a node whose inputs are constants."""
        names = [name for name in node.inputs if name]
        wide = (
            node.kind == "DequantizeLinear"
            and node.inputs[0] in self.constants
            and (self.constants[node.inputs[0]].dtype == torch.int32)
        )
        if (
            (node.kind in UNFOLDED and not wide)
            or node.kind not in ROWS
            or ROWS[node.kind].random
            or not all(name in self.constants for name in names)
            or any(isinstance(a, Graph) for a in node.attributes.values())
            or (not names and node.kind != "Constant")
        ):
            return False
        op = Op(node, None, False, _refuse, _refuse)
        given = [Constant.of(self.constants[n]) if n else None for n in node.inputs]
        try:
            with torch.no_grad():
                if node.kind not in ("Constant", "Identity"):
                    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                        fake = op.run(_constants(given, mode))
                    self.room -= sum(as_tensor(v).numel() for v in fake if v is not None)
                    if self.room < 0:
                        raise op.fail("its result has too many elements")
                results = op.run(_constants(given))
        except ModelError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise op.fail(reason) from error
        if any(isinstance(r, Stored | list) for r in results):
            return False
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                value = value.tensor if isinstance(value, Constant) else as_tensor(value)
                self.constants[name] = value.contiguous()
                if node.kind in KEEP_NAME:
                    self.called[name] = self.shown(names[0]).removesuffix("_quantized")
                if any(source in self.weights for source in names) and _may_train(value):
                    self.weights.add(name)
        return True

    def shown(self, name: str) -> str:
        """The name that a constant gets in the Model."""
        return self.called.get(name) or name.partition("\0")[0]

    def constant(self, name: str, how: str, value: torch.Tensor) -> str:
        """Add a constant made from another, once."""
        key = f"{name}\0{how}"
        self.constants.setdefault(key, value)
        self.called[key] = self.shown(name)
        if name in self.weights:
            self.weights.add(key)
        return key

    def transposed(self, name: str) -> str | None:
        """The transposed matrix of a constant, quantized or not; None for any other value."""
        if name in self.constants:
            if self.constants[name].ndim != 2:
                return None
            return self.constant(name, "transposed", self.constants[name].t().contiguous())
        node = self.producer.get(name)
        if node is None or node.kind != "edgewise:Weight":
            return None
        matrix = self.transposed(node.inputs[0])
        if matrix is None:
            return None
        result = f"{name}\0transposed"
        if result not in self.producer:
            axis = node.attributes["axis"]
            attributes = {**node.attributes, "axis": None if axis is None else 1 - axis}
            inputs = (matrix, *node.inputs[1:])
            self.add(replace(node, inputs=inputs, outputs=(result,), attributes=attributes))
        return result

    def _join_biases(self) -> None:
        """A product and the addition of a constant row to it are one linear layer."""
        readers = Counter(name for node in self.nodes for name in node.inputs)
        readers.update(self.graph.outputs)
        joined: set[int] = set()
        for i, node in enumerate(self.nodes):
            if node.kind != "Add" or len(node.inputs) != 2:
                continue
            for product, bias in (node.inputs, node.inputs[::-1]):
                source, row = self.producer.get(product), self.constants.get(bias)
                if source is None or row is None or readers[product] != 1:
                    continue
                if source.kind != "edgewise:Linear" or len(source.inputs) != 2:
                    continue
                if row.shape == (self.rows(source.inputs[1]),):
                    both = replace(source, inputs=(*source.inputs, bias), outputs=node.outputs)
                    self.nodes[i] = both
                    self.producer[node.outputs[0]] = both
                    joined.add(id(source))
                    break
        self.nodes = [node for node in self.nodes if id(node) not in joined]

    def rows(self, name: str) -> int | None:
        """How many rows a constant matrix has, quantized or not; None for any other value."""
        node = self.producer.get(name)
        if node is not None and node.kind == "edgewise:Weight":
            name = node.inputs[0]
        value = self.constants.get(name)
        return value.shape[0] if value is not None and value.ndim == 2 else None

    def _trained(self) -> set[str]:
        trained = set(self.weights)
        for node in self.nodes:
            for i in WEIGHTS.get(node.kind, ()):
                name = node.inputs[i] if i < len(node.inputs) else ""
                if name in self.constants and _may_train(self.constants[name]):
                    trained.add(name)
        for node in self.nodes:
            for i in SETTINGS.get(node.kind, ()):
                trained.discard(node.inputs[i] if i < len(node.inputs) else "")
        return trained


def _refuse(*_: Any) -> Any:
    raise ModelError("a subgraph is not folded")


def _constants(given: list[Constant | None], mode: FakeTensorMode | None = None) -> list:
    return [
        None
        if v is None
        else Constant(v.numbers, v.tensor if mode is None else mode.from_tensor(v.tensor))
        for v in given
    ]


def _may_train(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 1 and bool(torch.isfinite(value).all())


# --- forms --------------------------------------------------------------------------------------


def _real(work: _Preparation, node: Node) -> Node | None:
    """What normalises takes real numbers; that they lie on a grid says nothing there."""
    if node.kind not in REAL:
        return None
    inputs = list(node.inputs)
    for i, name in enumerate(inputs):
        source = work.producer.get(name)
        if i and source is not None and source.kind == "edgewise:Weight":
            inputs[i] = source.inputs[0]
    return replace(node, inputs=tuple(inputs))


def _weight(work: _Preparation, node: Node) -> Node | None:
    """Stored integers that are constant: a weight, real, and the grid that it lies on."""
    if node.kind != "DequantizeLinear" or not all(n in work.constants for n in node.inputs if n):
        return None
    stored, scale = (work.constants[name] for name in node.inputs[:2])
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    zero_point = work.constants[zero] if zero else torch.zeros_like(scale, dtype=stored.dtype)
    if stored.dtype not in (torch.int8, torch.uint8) or node.attributes.get("block_size", 0):
        return None
    if scale.numel() != zero_point.numel() or scale.ndim > 1:
        return None
    offset = OFFSETS[stored.dtype]
    axis = None
    if scale.numel() > 1:
        axis = int(node.attributes.get("axis", 1)) % max(stored.ndim, 1)
        if stored.ndim == 0 or stored.shape[axis] != scale.numel():
            return None
    shape = [-1 if i == axis else 1 for i in range(stored.ndim)]
    levels = stored.to(torch.int32) - offset
    zero_point = zero_point.to(torch.int32) - offset
    real = (levels - zero_point.reshape(shape)).float() * scale.float().reshape(shape)
    low = -127 if not levels.numel() or int(levels.min()) > -128 else -128
    name = node.inputs[0].removesuffix("_quantized").removesuffix("_int8")
    flat = () if axis is None else (-1,)
    inputs = (
        work.constant(name, "real", real),
        work.constant(node.inputs[1], "grid", scale.float().reshape(flat)),
        work.constant(zero or f"{node.inputs[1]}_zero_point", "grid", zero_point.reshape(flat)),
    )
    attributes = {"axis": axis, "low": low, "high": 127}
    return replace(node, kind="edgewise:Weight", inputs=inputs, attributes=attributes)


def _grid(work: _Preparation, node: Node) -> Node | None:
    """Scale and zero point of activations as buffers in the form of `fake_quantize`."""
    if node.kind not in ("QuantizeLinear", "DequantizeLinear") or node.attributes.get("block_size"):
        return None
    scale_name, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""
    if scale_name not in work.constants or (zero and zero not in work.constants):
        return None
    scale, zero_point = work.constants[scale_name], work.constants.get(zero)
    if scale.dtype != torch.float32 or scale.ndim > 1:
        return None
    if node.kind == "QuantizeLinear":
        dtype = stored_dtype(node, None if zero_point is None else Constant.of(zero_point))
    else:
        dtype = torch.uint8 if zero_point is None else zero_point.dtype
    if dtype not in OFFSETS or (zero_point is None and node.kind == "DequantizeLinear"):
        return None
    if zero_point is None:
        zero_point = torch.zeros(scale.shape, dtype=torch.int32)
    flat = () if scale.numel() == 1 else (-1,)
    ours = (zero_point.to(torch.int32) - OFFSETS[dtype]).reshape(flat)
    inputs = (
        node.inputs[0],
        work.constant(scale_name, "grid", scale.reshape(flat)),
        work.constant(zero or f"{scale_name}_zero_point", f"grid{dtype}", ours),
    )
    attributes = {**node.attributes, "edgewise.ours": 1, "edgewise.dtype": dtype}
    return replace(node, inputs=inputs, attributes=attributes)


def _linear(work: _Preparation, node: Node) -> Node | None:
    """A product with a constant matrix, as PyTorch's linear: the weight is (out, in)."""
    attributes = node.attributes
    if node.kind == "MatMul" and len(node.inputs) == 2:
        matrix, rest = work.transposed(node.inputs[1]), ()
    elif (
        node.kind == "Gemm"
        and not attributes.get("transA", 0)
        and attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
        and len(node.inputs) in (2, 3)
    ):
        matrix = node.inputs[1]
        if not attributes.get("transB", 0):
            matrix = work.transposed(matrix)
        elif work.rows(matrix) is None:
            return None
        rest = tuple(name for name in node.inputs[2:] if name)
        if rest and matrix is not None:
            rest = _row(work, rest[0], matrix)
    else:
        return None
    if matrix is None or rest is None or node.inputs[0] in work.constants:
        return None
    return replace(
        node, kind="edgewise:Linear", inputs=(node.inputs[0], matrix, *rest), attributes={}
    )


def _row(work: _Preparation, bias: str, matrix: str) -> tuple[str, ...] | None:
    """A Gemm's constant addend as a bias, None where it is none."""
    width, value = work.rows(matrix), work.constants.get(bias)
    if value is None or width is None:
        return None
    if value.shape == (width,):
        return (bias,)
    if value.numel() == width and value.ndim == 2 and value.shape[0] == 1:
        return (work.constant(bias, "row", value.reshape(width)),)
    return None

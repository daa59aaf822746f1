"""Reading ``.onnx`` files that nobody vouches for: bounded, nothing executed.

The format: https://github.com/onnx/onnx/blob/main/docs/IR.md. This is the only file of the front
door that imports the ``onnx`` package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from ...errors import MissingExtra, ModelError
from .graph import Graph, Input, Node
from .values import Constant

try:
    from google.protobuf.message import DecodeError
    from onnx import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        TypeProto,
        defs,
        external_data_helper,
        helper,
        numpy_helper,
    )
except ImportError:
    raise MissingExtra("onnx", "compress") from None

__all__ = ["body", "read"]

OLDEST = 7
NEWEST = defs.onnx_opset_version()
# A protobuf message ends at 2 GiB; weights beside it may be larger, each bounded by this.
LARGEST_FILE, LARGEST_TENSOR = 2**31, 2**33
MOST_NODES, DEEPEST = 20_000, 8
DOMAINS = {"": "", "ai.onnx": ""}

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
}
NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


def read(path: Path) -> Graph:
    """The graph of a file, with its weights.

    Raises:
        ModelError: the file is damaged, hostile, too large, or of an operator set that is unknown.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ModelError(f"{path.name} takes {size:,} bytes, an ONNX file ends at 2 GiB")
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise ModelError(
            f"{path.name} is not an ONNX file, or is damaged: export it anew"
        ) from None
    if not model.HasField("graph"):
        raise ModelError(f"{path.name} holds no graph: it is not an ONNX file, or is damaged")
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        versions[DOMAINS.get(entry.domain, entry.domain)] = entry.version
    if not OLDEST <= versions.get("", OLDEST) <= NEWEST:
        raise ModelError(
            f"{path.name} uses operator set {versions['']}: {OLDEST} to {NEWEST} can be read; "
            "export it with one of these"
        )
    reader = _Reader(path, versions, {(f.domain, f.name): f for f in model.functions})
    return reader.graph(model.graph, {}, 0)


class _Reader:
    """Turns messages into values; checks names, order, sizes and depth on the way."""

    def __init__(
        self,
        path: Path,
        versions: Mapping[str, int],
        functions: Mapping[tuple[str, str], FunctionProto],
    ):
        self.path = path
        self.versions = versions
        self.functions = functions
        self.count = 0

    def fail(self, why: str) -> ModelError:
        return ModelError(f"{self.path.name} cannot be read: {why}")

    def text(self, *names: Any) -> None:
        """Refuse bytes that are no text, which protobuf lets through."""
        if not all(isinstance(name, str) for name in names):
            raise self.fail("a name in it is no text; it is damaged")

    def graph(self, proto: GraphProto, outside: Mapping[str, Any], depth: int) -> Graph:
        """`outside`: the names that a subgraph may read of the graphs around it."""
        if proto.sparse_initializer:
            raise self.fail("it has sparse initializers; store them dense")
        constants: dict[str, torch.Tensor] = {}
        for tensor in proto.initializer:
            if tensor.name in constants:
                raise self.fail(f"initializer '{tensor.name}' is there twice")
            constants[tensor.name] = self.tensor(tensor)
        inputs = [self.input(v) for v in proto.input if v.name not in constants]
        known = {*outside, *constants, *(i.name for i in inputs), ""}
        nodes = self.nodes(proto.node, self.versions, known, depth)
        outputs = [v.name for v in proto.output]
        for name in outputs:
            if name not in known or not name:
                raise self.fail(f"its output '{name}' is computed by no node")
        return Graph(inputs, outputs, constants, nodes)

    def nodes(
        self,
        protos: Iterable[NodeProto],
        versions: Mapping[str, int],
        known: set[str],
        depth: int,
    ) -> list[Node]:
        """Nodes in order, functions of the file written out; `known` grows by their outputs."""
        if depth > DEEPEST:
            raise self.fail(f"its graphs or functions are nested more than {DEEPEST} deep")
        nodes = []
        for proto in protos:
            self.count += 1
            self.text(proto.name, proto.op_type, proto.domain, *proto.input, *proto.output)
            if self.count > MOST_NODES:
                raise self.fail(f"it has more than {MOST_NODES:,} nodes")
            name = proto.name or next(iter(proto.output), "") or proto.op_type
            for value in proto.input:
                if value not in known:
                    raise self.fail(
                        f"node '{name}' ({proto.op_type}) reads '{value}', which nothing before it "
                        "computes"
                    )
            for value in proto.output:
                if value and value in known:
                    raise self.fail(f"'{value}' is computed twice, the second time by '{name}'")
            domain = DOMAINS.get(proto.domain, proto.domain)
            function = self.functions.get((proto.domain, proto.op_type))
            if function is not None:
                nodes += self.call(function, proto, name, depth)
            else:
                kind = f"{domain}:{proto.op_type}" if domain else proto.op_type
                attributes = {a.name: self.attribute(a, known, depth) for a in proto.attribute}
                version = versions.get(domain, NEWEST if not domain else 1)
                nodes.append(
                    Node(kind, name, tuple(proto.input), tuple(proto.output), attributes, version)
                )
            known.update(proto.output)
        return nodes

    def call(self, function: FunctionProto, at: NodeProto, name: str, depth: int) -> list[Node]:
        """The body of a function that the file brings along, its values renamed."""
        versions = {DOMAINS.get(e.domain, e.domain): e.version for e in function.opset_import}
        defaults = {a.name: a for a in function.attribute_proto}
        given = {**defaults, **{a.name: a for a in at.attribute}}
        names = {"": ""}
        names.update(zip(function.input, (*at.input, *[""] * len(function.input)), strict=False))
        names.update(zip(function.output, at.output, strict=False))
        protos = self.bound(function.node, given, names, f"{name}/")
        # A function's body sees its inputs alone: what is renamed is known, or computed in it.
        return self.nodes(protos, versions, {"", *at.input}, depth + 1)

    def bound(
        self,
        nodes: Iterable[NodeProto],
        given: Mapping[str, AttributeProto],
        names: dict[str, str],
        prefix: str,
    ) -> list[NodeProto]:
        """Copies of a function's nodes, with its attributes given and its values renamed."""
        protos = []
        for proto in nodes:
            copy = NodeProto()
            copy.CopyFrom(proto)
            copy.name = f"{prefix}{proto.name or proto.op_type}"
            copy.input[:] = [names.get(value, value) for value in proto.input]
            for value in proto.output:
                names.setdefault(value, f"{prefix}{value}" if value else "")
            copy.output[:] = [names[value] for value in proto.output]
            del copy.attribute[:]
            for attribute in proto.attribute:
                source = attribute
                if attribute.ref_attr_name:
                    source = given.get(attribute.ref_attr_name)
                if source is None:
                    continue
                copy.attribute.add().CopyFrom(source)
                copy.attribute[-1].name = attribute.name
                if source.type == AttributeProto.GRAPH:
                    graph = copy.attribute[-1].g
                    own = [*(v.name for v in graph.input), *(t.name for t in graph.initializer)]
                    inner = {**names, **dict(zip(own, own, strict=True))}
                    inside = self.bound(graph.node, given, inner, prefix)
                    del graph.node[:]
                    graph.node.extend(inside)
                    for value in graph.output:
                        value.name = inner.get(value.name, value.name)
            protos.append(copy)
        return protos

    def attribute(self, proto: AttributeProto, known: Iterable[str], depth: int) -> Any:
        self.text(proto.name)
        if proto.type == AttributeProto.TENSOR:
            return Constant.of(self.tensor(proto.t))
        if proto.type == AttributeProto.GRAPH:
            if depth >= DEEPEST:
                raise self.fail(f"its graphs are nested more than {DEEPEST} deep")
            return self.graph(proto.g, dict.fromkeys(known), depth + 1)
        try:
            value = helper.get_attribute_value(proto)
        except ValueError as error:
            raise self.fail(f"attribute '{proto.name}': {error}") from None
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, Sequence) and not isinstance(value, str):
            return tuple(v.decode(errors="replace") if isinstance(v, bytes) else v for v in value)
        return value

    def input(self, proto: Any) -> Input:
        """A graph's input: a dense tensor of a dtype that torch has."""
        kind = proto.type
        self.text(proto.name, *(d.dim_param for d in kind.tensor_type.shape.dim))
        if kind.WhichOneof("value") is None:
            return Input(proto.name)
        if not kind.HasField("tensor_type"):
            raise self.fail(f"input '{proto.name}' is a {kind.WhichOneof('value')}, not a tensor")
        if kind.tensor_type.elem_type not in DTYPES:
            raise self.fail(
                f"input '{proto.name}' has {_named(kind.tensor_type.elem_type)} elements"
            )
        dtype = DTYPES[kind.tensor_type.elem_type]
        if not kind.tensor_type.HasField("shape"):
            return Input(proto.name, None, dtype)
        shape: list[int | str] = []
        for axis, size in enumerate(kind.tensor_type.shape.dim):
            if size.HasField("dim_value") and not 0 <= size.dim_value < 2**40:
                raise self.fail(
                    f"input '{proto.name}' has the size {size.dim_value} in axis {axis}"
                )
            shape.append(size.dim_value if size.HasField("dim_value") else size.dim_param or "?")
        return Input(proto.name, tuple(shape), dtype)

    def tensor(self, proto: TensorProto) -> torch.Tensor:
        """A tensor's elements, after its claims were compared with what is really there."""
        self.text(
            proto.name,
            *(e.key for e in proto.external_data),
            *(e.value for e in proto.external_data),
        )
        if proto.data_type not in DTYPES:
            raise self.fail(f"tensor '{proto.name}' has {_named(proto.data_type)} elements")
        dtype, shape = DTYPES[proto.data_type], tuple(proto.dims)
        if any(size < 0 for size in shape):
            raise self.fail(f"tensor '{proto.name}' has the negative size {min(shape)}")
        count = math.prod(shape)
        if count * dtype.itemsize > LARGEST_TENSOR:
            raise self.fail(f"tensor '{proto.name}' claims {count:,} elements")
        if proto.HasField("segment"):
            raise self.fail(f"tensor '{proto.name}' is stored in segments")
        if external_data_helper.uses_external_data(proto):
            raw = self.external(proto, count * dtype.itemsize)
        elif proto.HasField("raw_data"):
            raw = proto.raw_data
        else:
            field = helper.tensor_dtype_to_field(proto.data_type)
            found = len(getattr(proto, field))
            if found != count:
                raise self.fail(f"tensor '{proto.name}' has {found:,} of {count:,} elements")
            array = numpy_helper.to_array(proto)
            raw = np.ascontiguousarray(array).tobytes()
        if len(raw) != count * dtype.itemsize:
            raise self.fail(
                f"tensor '{proto.name}' has {len(raw):,} of {count * dtype.itemsize:,} bytes"
            )
        if not count:
            return torch.empty(shape, dtype=dtype)
        if dtype == torch.bool:  # any byte but 0 is true; torch wants 1
            return torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(shape) != 0
        return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)

    def external(self, proto: TensorProto, size: int) -> bytes:
        """Bytes of a file beside the model: inside its folder, behind no symbolic link."""
        entries = {e.key: e.value for e in proto.external_data}
        location = PurePosixPath(entries.get("location", "").replace("\\", "/"))
        where = f"tensor '{proto.name}' lies in '{location}'"
        outside = location.is_absolute() or ".." in location.parts or ":" in str(location)
        if outside or not location.parts:
            raise self.fail(f"{where}: weights are read from inside the model's folder only")
        folder = self.path.parent
        target = folder
        for part in location.parts:
            target = target / part
            if target.is_symlink():
                raise self.fail(f"{where}, which is a symbolic link: put the file itself there")
        if not target.is_file():
            raise self.fail(f"{where}, which is not there: keep it beside the model")
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", size))
        except ValueError:
            raise self.fail(f"{where} at an offset that is no number") from None
        if length != size or offset < 0 or offset + size > target.stat().st_size:
            raise self.fail(f"{where}, which has no {size:,} bytes for it at {offset:,}")
        with target.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _named(number: int) -> str:
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else "no"


def body(node: Node, inputs: Sequence[tuple[torch.dtype, Sequence[int]] | None]) -> Graph | None:
    """What an operator is in terms of simpler ones, as its definition in ONNX says.

    Args:
        inputs: dtype and shape of each input, None for one that is left out.

    Returns:
        A graph with as many inputs, or None where the definition has no such body.
    """
    if ":" in node.kind or not defs.has(node.kind):
        return None
    try:
        schema = defs.get_schema(node.kind, node.version, "")
    except defs.SchemaError:
        return None
    proto = helper.make_node(node.kind, node.inputs, node.outputs)
    for name, value in node.attributes.items():
        if isinstance(value, Constant | Graph):
            return None
        proto.attribute.append(helper.make_attribute(name, value))
    if schema.has_context_dependent_function:
        types = []
        for given in inputs:
            kind = TypeProto()
            if given is not None:
                kind = helper.make_tensor_type_proto(NUMBERS[given[0]], list(given[1]))
            types.append(kind.SerializeToString())
        raw = schema.get_context_dependent_function(proto.SerializeToString(), types)
        function = FunctionProto()
        function.ParseFromString(raw)
    elif schema.has_function:
        function = schema.function_body
    else:
        return None
    given = {a.name: a for a in proto.attribute}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            given.setdefault(name, attribute.default_value)
    reader = _Reader(Path(node.kind), {"": node.version}, {})
    protos = reader.bound(function.node, given, {}, "")
    nodes = reader.nodes(protos, reader.versions, {"", *function.input}, 0)
    wanted = [
        name if i < len(node.outputs) and node.outputs[i] else ""
        for i, name in enumerate(function.output)
    ]
    return Graph([Input(name) for name in function.input], wanted, {}, nodes)

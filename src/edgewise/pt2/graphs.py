"""A graph as plain data, and the only place where data from a file become a `GraphModule`.

fx writes Python source from a graph's names and arguments and executes it, and attributes of a
`GraphModule` live beside its methods. So `build` takes nothing on trust:

- node names are ASCII identifiers that mean nothing else in the generated source;
- attribute names are dotted words that are no attribute of a module yet;
- operators come from the list in `operators`, keyword arguments from the operator's schema;
- arguments are numbers, plain words, references to earlier nodes, or constants from `CONSTANTS`.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
import torch
from torch import fx

from ..errors import ModelError
from . import operators

__all__ = ["CONSTANTS", "Constant", "Graph", "Node", "Ref", "Value", "build", "describe"]

MAX_NODES = 10_000
MAX_LIST = 4096
# Digits (in bits) that arithmetic on sizes may reach; products of products soon have millions.
MAX_BITS = 512

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,499}")
# One part of a dotted attribute name: "0" in a Sequential, "block-1" in a ModuleDict. fx writes
# those that are no identifiers between double quotes.
PART = re.compile(r"[A-Za-z0-9_:/+ -]{1,200}")
# Strings that operators take: "same", "tanh", "bij,bjk->bik"; none that could end a literal.
WORD = re.compile(r"[A-Za-z0-9_ ,.>-]{0,200}")

# Names with a meaning in the source that fx writes (torch.fx.graph._illegal_names, and `self`).
RESERVED = frozenset(
    {*keyword.kwlist, *dir(builtins), "self", "torch", "inf", "nan", "NoneType", "device"}
    | {"fx_pytree", "pytree"}
)
# Every attribute that a module has by itself, `_modules` and `forward` among them.
_EMPTY = fx.GraphModule({}, fx.Graph())

DTYPES = {
    d: getattr(torch, d)
    for d in (
        "float32", "float64", "float16", "bfloat16", "uint8", "int8", "int16", "int32", "int64",
        "bool", "complex64", "complex128",
    )
}  # fmt: skip
CONSTANTS: dict[str, object] = {
    **DTYPES,
    "strided": torch.strided,
    "cpu": torch.device("cpu"),
    "contiguous_format": torch.contiguous_format,
    "preserve_format": torch.preserve_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
}


class Ref(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="is", tag="node"):
    """The value of an earlier node."""

    name: str


class Constant(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="is", tag="constant"
):
    """A value that JSON has no form for, by its name in `CONSTANTS`."""

    name: str


Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Item = Ref | Constant | bool | Int | float | str | None
Items = Annotated[list[Item], msgspec.Meta(max_length=MAX_LIST)]
Value = Ref | Constant | bool | Int | float | str | None | Items


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One value of the graph.

    Attributes:
        name: unique in the graph.
        op: an input, a parameter or buffer, or the result of an operator.
        target: of an attribute, its dotted name; of a call, the operator's name.
        args, kwargs: of a call.
    """

    name: str
    op: Literal["input", "attribute", "call"]
    target: str = ""
    args: tuple[Value, ...] = ()
    kwargs: dict[str, Value] = {}


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The nodes in the order of computation, and the names of those that are given out."""

    nodes: Annotated[list[Node], msgspec.Meta(max_length=MAX_NODES)]
    outputs: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_LIST)]


def describe(module: fx.GraphModule) -> Graph:
    """The graph of a canonical module as data.

    Raises:
        ModelError: an operator or an argument that a file cannot hold; names the node.
    """
    nodes, outputs = [], []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            nodes.append(Node(node.name, "input"))
        elif node.op == "get_attr":
            nodes.append(Node(node.name, "attribute", node.target))
        elif node.op == "call_function":
            args = tuple(_describe(a, node) for a in node.args)
            kwargs = {k: _describe(v, node) for k, v in node.kwargs.items()}
            nodes.append(Node(node.name, "call", operators.name_of(node.target), args, kwargs))
        elif node.op == "output":
            outputs = [n.name for n in node.args[0]]
        else:
            raise ModelError(f"'{node.name}' is a {node.op}: a Model's graph has only operators")
    return Graph(nodes, outputs)


def _describe(value: object, node: fx.Node) -> Value:
    if isinstance(value, fx.Node):
        return Ref(value.name)
    if isinstance(value, list | tuple):
        return [_describe(v, node) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return Constant(str(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for name, constant in CONSTANTS.items():
        if type(value) is type(constant) and value == constant:
            return Constant(name)
    raise ModelError(f"'{node.name}' has an argument that a file cannot hold: {value!r}")


def build(
    program: Graph, tensors: Mapping[str, torch.Tensor], *, in_place: bool = False
) -> fx.GraphModule:
    """Make the module of a graph that may come from anyone.

    Args:
        tensors: what the graph's attributes are called and hold, all of them and no others.
        in_place: also take in-place operators (see `operators.resolve`).

    Raises:
        ModelError: naming the node or the attribute and what is wrong with it.
    """
    return _Builder(tensors, in_place).build(program)


class _Builder:
    def __init__(self, tensors: Mapping[str, torch.Tensor], in_place: bool):
        self.tensors = tensors
        self.in_place = in_place
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.bits: dict[str, int] = {}  # node name -> digits of its number, in bits

    def build(self, program: Graph) -> fx.GraphModule:
        if len(program.nodes) > MAX_NODES:
            raise ModelError(f"the graph has {len(program.nodes)} nodes, more than {MAX_NODES}")
        self._check_attributes(program)
        for node in program.nodes:
            self._add(node)
        self.graph.output(tuple(self._value(Ref(name), "the output") for name in program.outputs))
        return fx.GraphModule(dict(self.tensors), self.graph, class_name="Model").eval()

    def _check_attributes(self, program: Graph) -> None:
        used = {node.target for node in program.nodes if node.op == "attribute"}
        if used != set(self.tensors):
            name = sorted(used ^ set(self.tensors))[0]
            raise ModelError(
                f"the graph and the weights differ: only one of them has '{name:.200}'"
            )
        for name in used:
            check_attribute(name)
            parts = name.split(".")
            for n in range(1, len(parts)):
                if ".".join(parts[:n]) in used:
                    raise ModelError(f"'{name}' lies inside the tensor '{'.'.join(parts[:n])}'")

    def _add(self, node: Node) -> None:
        check_name(node.name)
        if node.name in self.values:
            raise ModelError(f"the graph has two nodes named '{node.name}'")
        if node.op != "call" and (node.args or node.kwargs):
            raise ModelError(f"'{node.name}' is no call, but has arguments")
        if node.op == "input":
            made = self.graph.create_node("placeholder", node.name, name=node.name)
        elif node.op == "attribute":
            made = self.graph.create_node("get_attr", node.target, name=node.name)
        else:
            made = self._call(node)
        if made.name != node.name:
            raise ModelError(f"'{node.name}' cannot be the name of a node")
        self.values[node.name] = made

    def _call(self, node: Node) -> fx.Node:
        target = operators.resolve(node.target, in_place=self.in_place)
        where = f"'{node.name}' ({node.target})"
        args = [self._value(a, where) for a in node.args]
        kwargs = {k: self._value(v, where) for k, v in node.kwargs.items()}
        if node.target in operators.ARITHMETIC:
            self._check_arithmetic(node, where)
        else:
            _bind(target._schema, args, kwargs, where)
        return self.graph.create_node("call_function", target, tuple(args), kwargs, node.name)

    def _check_arithmetic(self, node: Node, where: str) -> None:
        """Python integers have no largest value; these stay below `MAX_BITS`."""
        row = operators.ARITHMETIC[node.target]
        if len(node.args) != row.arity or node.kwargs:
            raise ModelError(f"{where} takes {row.arity} arguments, found {len(node.args)}")
        if not all(isinstance(a, Ref | int | float) for a in node.args):
            raise ModelError(f"{where} takes numbers")
        if node.target == "operator.getitem" and (
            not isinstance(node.args[0], Ref) or type(node.args[1]) is not int
        ):
            raise ModelError(f"{where} takes an earlier node and an integer")
        digits = [self.bits.get(a.name, 64) if isinstance(a, Ref) else 64 for a in node.args]
        self.bits[node.name] = sum(digits) if row.product else max(digits) + 1
        if self.bits[node.name] > MAX_BITS:
            raise ModelError(f"{where} makes numbers that are too large to be sizes")

    def _value(self, value: Value, where: str) -> object:
        if isinstance(value, Ref):
            if value.name not in self.values:
                raise ModelError(f"{where} reads '{value.name:.200}', which is no earlier node")
            return self.values[value.name]
        if isinstance(value, Constant):
            if value.name not in CONSTANTS:
                raise ModelError(f"{where} has an unknown constant '{value.name:.200}'")
            return CONSTANTS[value.name]
        if isinstance(value, list):
            return [self._value(v, where) for v in value]
        if isinstance(value, str) and not WORD.fullmatch(value):
            raise ModelError(
                f"{where} has a string argument that no operator takes: {value!r:.200}"
            )
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise ModelError(f"{where} has an integer of more than 64 bits")
        return value


def _bind(
    schema: torch.FunctionSchema, args: list[object], kwargs: dict[str, object], where: str
) -> None:
    """Check arguments against a schema; those that must be given are moved into their places.

    Raises:
        ModelError: too many, too few, unknown ones, or no node to change or to view.
    """
    rows = schema.arguments
    if len(args) > len(rows) or any(row.kwarg_only for row in rows[: len(args)]):
        raise ModelError(f"{where} takes at most {len(rows)} arguments, found {len(args)}")
    for row in rows[len(args) :]:
        if row.name not in kwargs or row.has_default_value() or row.kwarg_only:
            break
        args.append(kwargs.pop(row.name))
    free = {row.name: row for row in rows[len(args) :] if not keyword.iskeyword(row.name)}
    missing = [n for n, row in free.items() if not row.has_default_value() and n not in kwargs]
    if missing:
        raise ModelError(f"{where} lacks the argument '{missing[0]}'")
    if unknown := sorted(kwargs.keys() - free.keys()):
        raise ModelError(f"{where} does not take an argument '{unknown[0]:.200}'")
    # Only arithmetic takes a number for its first tensor (2 - x); views and changes need a node.
    if rows and rows[0].alias_info is not None and not isinstance(args[0], fx.Node):
        raise ModelError(f"{where} needs a node as '{rows[0].name}', found {args[0]!r:.200}")


def check_name(name: str) -> None:
    """Refuse a node name that is no ASCII identifier, or that means something in Python.

    Raises:
        ModelError: with the name.
    """
    if not NAME.fullmatch(name) or name in RESERVED:
        raise ModelError(f"'{name:.200}' cannot be the name of a node")


def check_attribute(name: str) -> None:
    """Refuse a dotted parameter or buffer name that could replace what a module is made of.

    Raises:
        ModelError: with the name.
    """
    parts = name.split(".")
    for part in parts:
        if (
            not PART.fullmatch(part)
            or keyword.iskeyword(part)
            or part.startswith("__")
            or hasattr(_EMPTY, part)
        ):
            raise ModelError(
                f"'{name:.200}' cannot be the name of a weight: '{part:.200}' is not a plain word, "
                "or is a part of every module; rename that layer"
            )
    if len(parts) > 32:
        raise ModelError(f"the weight '{name:.200}' lies more than 32 modules deep")

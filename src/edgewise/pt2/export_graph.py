"""From the JSON of an exported program to the plain graph that `graphs.build` takes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ..errors import ModelError
from . import export_schema as schema
from . import graphs, operators
from .graphs import Constant, Graph, Node, Ref, Value

__all__ = ["Translation", "translate"]

# Checks without a result: they hold for every graph that runs (torch's exporter adds them).
ASSERTIONS = {
    "aten._assert_tensor_metadata.default",
    "aten._assert_scalar.default",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
}
# The one buffer that BatchNorm changes in training and nothing reads.
COUNTER = "num_batches_tracked"
# Input specs that name a tensor of the state dict or a constant, and where they keep the name.
ATTRIBUTES = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}
NUMBERS = {"as_sym_int", "as_sym_float", "as_sym_bool"}


@dataclass
class Translation:
    """A program's graph as plain data, with what the graph does not say.

    Attributes:
        nodes, outputs: of the `Graph`.
        inputs: the user's inputs: name as the user gave it, and what it was exported with.
        layers: node name -> dotted name of the module that it stood in.
        dtypes: node name -> dtype that the exporter found, by its name in torch.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    inputs: list[tuple[str, schema.TensorMeta]] = field(default_factory=list)
    layers: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The graph without the attributes that nothing reads."""
        read = {ref.name for node in self.nodes for ref in _refs(node)} | set(self.outputs)
        nodes = [n for n in self.nodes if n.op != "attribute" or n.name in read]
        return Graph(nodes, self.outputs)


def translate(program: schema.GraphModule) -> Translation:
    """Rewrite an exported program: weights are attributes, list results are taken apart.

    Raises:
        ModelError: it holds something that only Python code can make (objects, control flow,
            state that changes), or contradicts itself.
    """
    return _Translator(program).result


class _Translator:
    def __init__(self, program: schema.GraphModule):
        self.metas = program.graph.tensor_values
        self.names: dict[str, str] = {}
        self.result = Translation()
        for name, meta in self.metas.items():
            if meta.dtype in schema.DTYPES:
                self.result.dtypes[self._name(name)] = schema.DTYPES[meta.dtype]
        _pairs(program.graph.inputs, program.signature.input_specs, "inputs")
        for argument, spec in zip(program.graph.inputs, program.signature.input_specs, strict=True):
            self._input(argument, spec)
        for node in program.graph.nodes:
            self._node(node)
        _pairs(program.graph.outputs, program.signature.output_specs, "outputs")
        for argument, spec in zip(
            program.graph.outputs, program.signature.output_specs, strict=True
        ):
            self._output(argument, spec)
        if not self.result.outputs:
            raise ModelError("the program gives out no tensor")

    def _name(self, name: str) -> str:
        """The name, or one free beside it where Python has taken it (``input`` -> ``input_1``)."""
        if name not in graphs.RESERVED:
            return name
        if name not in self.names:
            free = (f"{name}_{n}" for n in itertools.count(1))
            self.names[name] = next(n for n in free if n not in self.metas)
        return self.names[name]

    def _input(self, argument: schema.Argument, spec: schema.InputSpec) -> None:
        kind, what = schema.only(spec)
        if kind in ATTRIBUTES:
            name = getattr(what, ATTRIBUTES[kind])
            self.result.nodes.append(Node(self._name(what.arg.name), "attribute", name))
        elif kind == "user_input":
            given, value = schema.only(argument)
            if given != "as_tensor" or value.name not in self.metas:
                raise ModelError(f"an input is given {given} where edgewise takes tensors only")
            self.result.nodes.append(Node(self._name(value.name), "input"))
            self.result.inputs.append((value.name, self.metas[value.name]))
        elif kind != "constant_input":  # fixed when the program was exported, so it is not read
            raise ModelError(
                f"the program needs a {kind} as input, an object that only Python code can make: "
                "export a module of tensors only"
            )

    def _output(self, argument: schema.Argument, spec: schema.OutputSpec) -> None:
        kind, what = schema.only(spec)
        if kind == "buffer_mutation" and what.buffer_name.endswith(COUNTER):
            return
        if kind != "user_output":
            raise ModelError(
                f"the program changes its own state or inputs ({kind}): export it in eval mode, "
                "without updates in forward"
            )
        given, value = schema.only(argument)
        if given == "as_tensor":
            self.result.outputs.append(self._name(value.name))
        elif given != "as_none":
            raise ModelError(f"the program gives out {given} where edgewise takes tensors only")

    def _node(self, node: schema.Node) -> None:
        target = node.target.removeprefix("torch.ops.")
        target = f"operator.{target[10:]}" if target.startswith("_operator.") else target
        if target in ASSERTIONS:
            return
        if target.startswith("higher_order."):
            raise ModelError(
                f"the program uses {target} (control flow, or a block under no_grad or autocast): "
                "export a module without it"
            )
        results = [schema.only(output) for output in node.outputs]
        single = results[0] if len(results) == 1 else ("", None)
        if single[0] == "as_tensor":
            name = self._name(single[1].name)
        elif single[0] in NUMBERS:
            name = self._name(self._symbol(single[1], target))
        else:
            name = self._name(node.name or f"values_{len(self.result.nodes)}")
        args, kwargs = self._arguments(node, target)
        self.result.nodes.append(Node(name, "call", target, args, kwargs))
        if (layer := _layer(node)) is not None:
            self.result.layers[name] = layer
        if single[0] == "as_tensors":
            self._take_apart(name, [("as_tensor", item) for item in single[1]])
        elif len(results) > 1:
            self._take_apart(name, results)

    def _take_apart(self, name: str, results: list[tuple[str, object]]) -> None:
        """A getitem for each of an operator's several results."""
        for i, (kind, value) in enumerate(results):
            if kind == "as_tensor":
                item = Node(self._name(value.name), "call", "operator.getitem", (Ref(name), i))
                self.result.nodes.append(item)
                if name in self.result.layers:
                    self.result.layers[item.name] = self.result.layers[name]
            elif kind != "as_none":
                raise ModelError(f"'{name:.200}' gives out {kind} among several results")

    def _arguments(
        self, node: schema.Node, target: str
    ) -> tuple[tuple[Value, ...], dict[str, Value]]:
        """Arguments by position and by name, as the exporter found them."""
        given = {a.name: a for a in node.inputs}
        if target in operators.ARITHMETIC:
            return tuple(self._value(a.arg) for a in node.inputs), {}
        found = operators.resolve(target, in_place=True)
        rows = found._schema.arguments
        if len(given) < len(node.inputs) or not given.keys() <= {row.name for row in rows}:
            raise ModelError(f"{target} is given arguments that it does not take, or one twice")
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        for i, row in enumerate(rows):
            if row.name not in given:
                continue
            value = self._value(given[row.name].arg)
            if given[row.name].kind == schema.POSITIONAL and i == len(args):
                args.append(value)
            else:
                kwargs[row.name] = value
        return tuple(args), kwargs

    def _value(self, argument: schema.Argument) -> Value:
        kind, value = schema.only(argument)
        if kind in _PLAIN:
            return value
        if kind in _TABLES:
            number = value.type if kind == "as_device" else value
            if number not in _TABLES[kind]:
                raise ModelError(f"an argument has the {kind[3:]} {number!r:.80}, not one for CPUs")
            return Constant(_TABLES[kind][number])
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return Ref(self._name(value.name))
        if kind == "as_optional_tensor":
            return self._optional(value)
        if kind == "as_float":
            return _real(value)
        if kind in NUMBERS:
            return self._number(value)
        items = _LISTS.get(kind)
        if items is None:
            raise ModelError(
                f"an argument is {kind}, which only Python code can make: export a module of "
                "tensors and numbers only"
            )
        return [items(self, item) for item in value]

    def _optional(self, value: schema.OptionalTensor) -> Value:
        kind, tensor = schema.only(value)
        return Ref(self._name(tensor.name)) if kind == "as_tensor" else None

    def _number(self, value: schema.SymInt | schema.SymFloat | schema.SymBool) -> Value:
        kind, found = schema.only(value)
        if kind == "as_name":
            return Ref(self._name(found))
        return _real(found) if kind == "as_float" else found

    def _symbol(self, value: schema.SymInt, target: str) -> str:
        kind, name = schema.only(value)
        if kind != "as_name":
            raise ModelError(f"{target} gives a number without a name")
        return name


_PLAIN = {"as_int", "as_bool", "as_string", "as_ints", "as_bools"}
_TABLES = {
    "as_scalar_type": schema.DTYPES,
    "as_memory_format": schema.MEMORY_FORMATS,
    "as_layout": schema.LAYOUTS,
    "as_device": {"cpu": "cpu"},
}
_LISTS = {
    "as_tensors": lambda self, item: Ref(self._name(item.name)),
    "as_optional_tensors": _Translator._optional,
    "as_floats": lambda self, item: _real(item),
    "as_sym_ints": _Translator._number,
    "as_sym_floats": _Translator._number,
    "as_sym_bools": _Translator._number,
}


def _real(value: float | str) -> Value:
    """JSON has no infinity and no NaN; torch writes them as words."""
    words = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}
    return Constant(words[value]) if isinstance(value, str) else value


def _layer(node: schema.Node) -> str | None:
    """The innermost module's dotted name; None when the file gives none, or none that is plain."""
    fields = node.metadata.get("nn_module_stack", "").split(";")[-1].split(",")
    # torch writes one word three times for the nodes that it inserted itself
    if len(fields) != 3 or fields[0] == fields[1]:
        return None
    is_plain = all(graphs.PART.fullmatch(part) for part in fields[1].split(".")) or not fields[1]
    return fields[1] if is_plain else None


def _refs(node: Node) -> list[Ref]:
    flat: list[Value] = []
    for value in (*node.args, *node.kwargs.values()):
        flat.extend(value if isinstance(value, list) else [value])
    return [value for value in flat if isinstance(value, Ref)]


def _pairs(arguments: list, specs: list, what: str) -> None:
    if len(arguments) != len(specs):
        raise ModelError(f"the program has {len(arguments)} {what} and {len(specs)} specs of them")

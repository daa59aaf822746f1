"""A Keras model's configuration becomes a module: one submodule a layer, called as it says."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from ...errors import ModelError
from ...record import DTYPES, TensorSpec
from . import dense, sequences, shaping, spatial  # noqa: F401  (they fill LAYERS)
from .layer import Config, build
from .operations import operation
from .weights import Weights

__all__ = ["MODELS", "Network", "network"]

MODELS = frozenset({"Functional", "Model", "Sequential"})
MAX_LAYERS, MAX_DEPTH, MAX_INPUT = 10_000, 20, 1 << 27
KERAS = ("keras", "tf_keras", "tensorflow")  # packages whose classes are Keras' own


@dataclass(frozen=True)
class Network:
    """A model, or a model in a model: the module, its inputs, and how many outputs it has."""

    module: fx.GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: int


@dataclass(frozen=True)
class Ref:
    """One tensor of a model: what the n-th call of a layer gives."""

    layer: str
    call: int
    tensor: int


@dataclass
class Call:
    """One call of a layer; tensors among the arguments are `Ref`."""

    args: list[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def refs(self) -> Iterator[Ref]:
        yield from _refs(self.args)
        yield from _refs(self.kwargs)


def network(
    class_name: object, config: object, weights: Weights, generation: int, depth: int = 0
) -> Network:
    """Build a Sequential or functional model.

    Args:
        weights: of this model.
        generation: 2 or 3, the Keras that wrote the file.

    Raises:
        ModelError: a layer that cannot be built, or a graph that does not hang together.
    """
    if depth > MAX_DEPTH:
        raise ModelError(f"models lie in models more than {MAX_DEPTH} deep")
    entries = config.get("layers") if isinstance(config, Mapping) else None
    if not isinstance(class_name, str) or class_name not in MODELS or not isinstance(entries, list):
        raise ModelError(
            f"the model is of the class '{class_name}', whose code is not in the file: build it of "
            "Keras' own layers as a functional or Sequential model, or export it to ONNX"
        )
    if len(entries) > MAX_LAYERS:
        raise ModelError(f"the model has {len(entries)} layers, more than {MAX_LAYERS}")
    if not all(isinstance(e, Mapping) and isinstance(e.get("config"), Mapping) for e in entries):
        raise ModelError("the model's list of layers is damaged")
    assembly = _Assembly(str(config.get("name", "model")), weights, generation, depth)
    if class_name == "Sequential":
        return assembly.chain(entries)
    return assembly.graph_of(entries, config)


class _Assembly:
    def __init__(self, name: str, weights: Weights, generation: int, depth: int):
        self.name, self.weights, self.generation, self.depth = name, weights, generation, depth
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.inputs: list[TensorSpec] = []
        self.names: dict[str, str] = {}  # layer -> submodule
        self.parts: dict[str, int] = {}  # layer -> how many tensors a call gives, 0 for just one
        self.turns: dict[str, int] = {}  # class -> layers of it so far
        self.values: dict[tuple[str, int], fx.Node] = {}

    # --- layers ---------------------------------------------------------------------------

    def add(self, entry: Mapping[str, Any]) -> str:
        """Make the layer of an entry; gives its name."""
        values, class_name = entry["config"], str(entry.get("class_name"))
        name = str(entry.get("name") or values.get("name") or class_name)
        if name in self.names:
            raise ModelError(f"two layers of '{self.name}' are named '{name}'")
        config = Config(name, class_name, values, self.generation)
        module_name = str(entry.get("module") or "keras")
        _check_origin(config, module_name, str(entry.get("registered_name") or ""))
        self.parts[name] = 0
        # .h5 files leave the package out; a function, unlike a layer, cannot be trained.
        if ".ops" in module_name or (self.generation == 3 and "trainable" not in values):
            module = operation(config)
        else:
            turn = self.turns.get(class_name, 0)
            self.turns[class_name] = turn + 1
            own = self.weights.layer(name, class_name, turn)
            if class_name in MODELS:
                inner = network(class_name, values, own, self.generation, self.depth + 1)
                module = inner.module
                self.parts[name] = inner.outputs if inner.outputs > 1 else 0
            else:
                module = build(config, own)
                self.parts[name] = int(bool(values.get("return_state")))
        self.names[name] = _free(self.root, name)
        self.root.add_module(self.names[name], module)
        return name

    def input(self, entry: Mapping[str, Any]) -> fx.Node:
        """Make a placeholder for an input layer."""
        spec = _input_spec(entry["config"], self.depth)
        self.inputs.append(spec)
        return self.graph.placeholder(spec.name)

    def call(self, name: str, args: Any, kwargs: Any) -> fx.Node:
        return self.graph.call_module(self.names[name], tuple(args), dict(kwargs))

    def finish(self, outputs: list[fx.Node]) -> Network:
        if not outputs or not self.inputs:
            raise ModelError(f"'{self.name}' has no inputs or no outputs")
        self.graph.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
        module = fx.GraphModule(self.root, self.graph, class_name="Keras")
        return Network(module, tuple(self.inputs), len(outputs))

    # --- the two kinds of model -----------------------------------------------------------

    def chain(self, entries: list[Mapping[str, Any]]) -> Network:
        """Layer after layer. The first says the input's shape where there is no input layer."""
        if not entries:
            raise ModelError(f"'{self.name}' has no layers")
        if entries[0].get("class_name") == "InputLayer":
            value, entries = self.input(entries[0]), entries[1:]
        else:
            value = self.input(entries[0])
        for entry in entries:
            name = self.add(entry)
            value = self.call(name, [value], {})
            if self.parts[name]:
                value = self.graph.call_function(operator.getitem, (value, 0))
        return self.finish([value])

    def graph_of(self, entries: list[Mapping[str, Any]], config: Mapping[str, Any]) -> Network:
        calls: dict[tuple[str, int], Call] = {}
        inputs: dict[str, Mapping[str, Any]] = {}
        for entry in entries:
            if entry.get("class_name") == "InputLayer":
                name = str(entry.get("name") or entry["config"].get("name"))
                inputs[name] = entry
                continue
            name = self.add(entry)
            nodes = entry.get("inbound_nodes")
            for i, node in enumerate(nodes if isinstance(nodes, list) else []):
                calls[name, i] = _parsed(node, name)
        for ref in _layer_refs(config.get("input_layers")):
            if ref.layer not in inputs:
                raise ModelError(f"the input '{ref.layer}' of '{self.name}' is no input layer")
            self.values[ref.layer, 0] = self.input(inputs[ref.layer])
        outputs = list(_layer_refs(config.get("output_layers")))
        for ref in outputs:
            self.evaluate((ref.layer, ref.call), calls)
        return self.finish([self.tensor(ref) for ref in outputs])

    def evaluate(self, wanted: tuple[str, int], calls: dict[tuple[str, int], Call]) -> None:
        """Emit a call after all that it depends on."""
        stack, under_way = [wanted], set()
        while stack:
            key = stack[-1]
            if key in self.values:
                stack.pop()
                continue
            call = calls.get(key)
            if call is None:
                raise ModelError(f"call {key[1]} of the layer '{key[0]}' does not exist")
            needed = [k for ref in call.refs() if (k := (ref.layer, ref.call)) not in self.values]
            if any(k in under_way for k in needed):
                raise ModelError(f"the layers around '{key[0]}' form a circle")
            if needed:
                under_way.add(key)
                stack += needed
                continue
            args, kwargs = _mapped(call.args, self.tensor), _mapped(call.kwargs, self.tensor)
            if isinstance(getattr(self.root, self.names[key[0]]), fx.GraphModule):
                args, kwargs = [v for v in _flat(args) if isinstance(v, fx.Node)], {}
            self.values[key] = self.call(key[0], args, kwargs)
            under_way.discard(key)
            stack.pop()

    def tensor(self, ref: Ref) -> fx.Node:
        value = self.values[ref.layer, ref.call]
        if self.parts.get(ref.layer):
            return self.graph.call_function(operator.getitem, (value, ref.tensor))
        return value


def _check_origin(c: Config, module: str, registered: str) -> None:
    """Refuse what needs the user's code, by name."""
    if c.class_name in ("Lambda", "TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
        raise c.fail(
            "it holds code, which is never run: write it with Keras' own layers, or export the "
            "model to ONNX"
        )
    if c.class_name == "TorchModuleWrapper":
        raise c.fail("it holds a pickled module, which is never read: load that module itself")
    if module.split(".")[0] not in KERAS or ">" in registered or ">" in c.class_name:
        raise c.fail(
            f"its class '{registered or f'{module}.{c.class_name}'}' is not part of Keras, and its "
            "code is not in the file: write it with Keras' own layers, or export the model to ONNX"
        )


def _input_spec(values: Mapping[str, Any], depth: int) -> TensorSpec:
    """The input that an InputLayer (or the first layer of a Sequential) describes."""
    name = str(values.get("name", "input"))
    shape = values.get("batch_shape") or values.get("batch_input_shape")
    if depth and not isinstance(shape, list):
        shape = [None, 1]  # of a model in a model: its inputs come from outside
    if not isinstance(shape, list) or len(shape) < 2:
        raise ModelError(f"the input '{name}' has no shape: build the model before saving it")
    fixed = shape[1:]
    if not depth and not all(type(s) is int and s > 0 for s in fixed):
        raise ModelError(
            f"the input '{name}' has the shape {shape}: every axis but the batch needs a fixed "
            "size; save the model with an Input of that shape"
        )
    if not depth and math.prod(fixed) > MAX_INPUT:
        raise ModelError(f"the input '{name}' has the shape {shape}, more than {MAX_INPUT} numbers")
    dtype = values.get("dtype", "float32")
    if isinstance(dtype, Mapping):
        dtype = (dtype.get("config") or {}).get("name", "float32")
    dtype = {"float64": "float32", "float16": "float32", "bfloat16": "float32"}.get(dtype, dtype)
    if str(dtype).startswith("mixed"):
        dtype = "float32"
    if dtype not in DTYPES:
        raise ModelError(f"the input '{name}' has the dtype {dtype!r}: numbers are needed")
    name = "".join(ch if ch.isidentifier() or ch.isdigit() else "_" for ch in name)
    return TensorSpec(name if name.isidentifier() else f"input_{name}", (None, *fixed), dtype)


def _free(root: nn.Module, name: str) -> str:
    """A name for a submodule that nothing else has."""
    name = "".join(ch if ch.isalnum() or ch == "_" else "_" for ch in name) or "layer"
    while hasattr(root, name) or hasattr(fx.GraphModule, name):
        name += "_"
    return name


# --- the ways in which Keras 2 and 3 write calls ------------------------------------------------


def _parsed(node: Any, layer: str) -> Call:
    if isinstance(node, Mapping):
        return Call(_read(node.get("args", [])), _given(_read(node.get("kwargs", {}))))
    if not isinstance(node, list) or not node:
        raise ModelError(f"a call of the layer '{layer}' is damaged")
    entries = [node] if isinstance(node[0], str) else node
    refs, kwargs = [], {}
    for entry in entries:
        refs.append(_ref(entry))
        if len(entry) > 3 and isinstance(entry[3], Mapping):
            kwargs |= {k: _ref(v) if _is_ref(v) else v for k, v in entry[3].items()}
    return Call([refs[0] if len(refs) == 1 else refs], _given(kwargs))


def _given(kwargs: Any) -> dict[str, Any]:
    """Without what says nothing or belongs to training."""
    if not isinstance(kwargs, Mapping):
        raise ModelError("the arguments of a call are damaged")
    return {str(k): v for k, v in kwargs.items() if v is not None and k not in ("training", "mask")}


def _read(value: Any) -> Any:
    """Keras 3's JSON of arguments."""
    if isinstance(value, list):
        return [_read(v) for v in value]
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind == "__keras_tensor__":
        return _ref((config or {}).get("keras_history"))
    if kind == "__tuple__":
        return [_read(v) for v in value.get("items") or (config or {}).get("items", [])]
    if kind == "__ellipsis__":
        return Ellipsis
    if kind in ("slice", "__slice__"):
        found = config or {}
        return slice(found.get("start"), found.get("stop"), found.get("step"))
    if kind in ("__tensor__", "__numpy__"):
        return (config or {}).get("value")
    if kind is None:
        return {str(k): _read(v) for k, v in value.items()}
    raise ModelError(f"an argument of the class '{kind}' is not supported")


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 3
        and isinstance(value[0], str)
        and type(value[1]) is int
        and type(value[2]) is int
    )


def _ref(value: Any) -> Ref:
    if not _is_ref(value):
        raise ModelError(f"'{str(value)[:80]}' stands where a tensor of another layer belongs")
    return Ref(*value[:3])


def _layer_refs(value: Any) -> Iterator[Ref]:
    """Every tensor in a model's list (or dict) of inputs or outputs."""
    if _is_ref(value):
        yield _ref(value)
    elif isinstance(value, list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _layer_refs(item)


def _refs(value: Any) -> Iterator[Ref]:
    return (item for item in _flat(value) if isinstance(item, Ref))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _mapped(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_mapped(v, change) for v in value]
    return change(value) if isinstance(value, Ref) else value

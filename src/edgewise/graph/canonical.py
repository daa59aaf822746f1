"""The one form that every Model's graph has, and the form in which graphs are lowered."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import ModelError
from ..math.affine import fake_quantize
from ..math.codebook import lookup
from ..record import Signature, TensorSpec
from .inplace import InPlace

__all__ = [
    "FAKE_QUANTIZE",
    "LOOKUP",
    "bound",
    "canonical",
    "check",
    "check_weights",
    "layer",
    "recorded_shapes",
    "shapes",
    "signature_of",
    "sweep",
]

aten = torch.ops.aten
FAKE_QUANTIZE = fake_quantize._opoverload
LOOKUP = lookup._opoverload


def canonical(module: fx.GraphModule) -> fx.GraphModule:
    """Bring the module of an exported program into the form that `Model.graph` promises.

    Guards and counters are dropped, in-place operators become functional, train flags are off,
    nodes are named after the user's layers, and inputs and outputs are flat.

    Raises:
        ModelError: the graph calls modules or changes a tensor in place that others still read.
    """
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}  # node of the old graph -> its present value in the new
    in_place = InPlace(module.graph)
    for node in module.graph.nodes:
        if node.op == "call_module" and not node.users:
            continue  # _guards_fn: checks that `check_inputs` makes, with better sentences
        if node.op == "call_module":
            raise ModelError(
                f"the exported graph calls the submodule '{node.target}': export it flat"
            )
        if node.op == "call_function" and (_is_counter(node) or _is_assertion(node)):
            continue
        copied = graph.node_copy(node, lambda old: values[old])
        values[node] = copied
        if changed := in_place.follow(node):
            copied.target, same = changed
            values.update(dict.fromkeys(same, copied))
        _switch_off_training(copied)
        if copied.target is FAKE_QUANTIZE:
            copied.args = (*copied.args, None)[:6]  # export leaves out a last argument of None
        copied.meta = {k: v for k, v in node.meta.items() if k == "nn_module_stack"}
    _flatten_output(graph)
    _rename(graph)
    graph.eliminate_dead_code()
    result = fx.GraphModule(_attributes(module, graph), graph, class_name="Model")
    for node in result.graph.nodes:
        node.meta.clear()
    return result.eval()


def _is_counter(node: fx.Node) -> bool:
    """BatchNorm's ``num_batches_tracked += 1``, which nothing reads."""
    source = node.args[0] if node.args else None
    return (
        node.target is aten.add_.Tensor
        and isinstance(source, fx.Node)
        and source.op == "get_attr"
        and not node.users
    )


def _is_assertion(node: fx.Node) -> bool:
    """A check of shapes or dtypes that export wrote down; `check` makes its own."""
    name = getattr(node.target, "__name__", "")
    return not node.users and name.startswith(("_assert", "sym_constrain"))


def _switch_off_training(node: fx.Node) -> None:
    """Turn the train flag of batch_norm (argument 5) and dropout (argument 2) off."""
    at = {aten.batch_norm.default: 5, aten.dropout.default: 2, aten.feature_dropout.default: 2}
    if node.target in at:
        i = at[node.target]
        node.args = (*node.args[:i], False, *node.args[i + 1 :])


def _flatten_output(graph: fx.Graph) -> None:
    output = next(n for n in graph.nodes if n.op == "output")
    flat = []

    def collect(value):
        if isinstance(value, fx.Node):
            flat.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                collect(item)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for item in value:
                collect(item)

    collect(output.args[0])
    if not flat:
        raise ModelError("the model returns no tensor")
    output.args = (tuple(flat),)


def _rename(graph: fx.Graph) -> None:
    """Name each operator after the module it stands in: ``layer1_0_conv2d``."""
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if node.op != "call_function" or not stack:
            continue
        key, (path, _) = list(stack.items())[-1]
        if path == key:
            continue  # what export inserted itself stands in no module
        name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
        parts = [p for p in path.split(".") if p and p != "L__self__"]
        # `_` in front: an identifier may not begin with a digit, as a Sequential's path does.
        stem = "_".join([*parts, name])
        node._rename(stem if stem.isidentifier() else f"m_{stem}")


def _attributes(module: fx.GraphModule, graph: fx.Graph) -> dict[str, torch.Tensor]:
    """The parameters and buffers that the graph reads, own copies, contiguous."""
    found: dict[str, torch.Tensor] = {}
    for node in graph.nodes:
        if node.op != "get_attr":
            continue
        value = operator.attrgetter(node.target)(module)
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"'{node.target}' is a {type(value).__name__}, not a tensor")
        data = value.detach().clone(memory_format=torch.contiguous_format)
        trainable = isinstance(value, torch.nn.Parameter)
        found[node.target] = torch.nn.Parameter(data) if trainable else data
    return found


def sweep(module: fx.GraphModule) -> None:
    """Drop what nothing reads any more: nodes, then parameters and buffers; then recompile."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [n for n, _ in [*module.named_parameters(), *module.named_buffers()]]:
        if name not in used:
            owner, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(owner), leaf)
    module.recompile()


def layer(node: fx.Node) -> str:
    """The name the user knows: the module that owns the weight, else the node's own name."""
    for argument in node.all_input_nodes[1:]:
        while argument.op == "call_function" and argument.target in (FAKE_QUANTIZE, LOOKUP):
            argument = argument.args[0]
        name = str(argument.target).removesuffix(".codebook")
        if argument.op == "get_attr" and "." in name:
            return name.rpartition(".")[0]
    return node.name


class _Shapes(fx.Interpreter):
    """Runs a graph on tensors without data and keeps what each node gives."""

    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode):
        super().__init__(module)
        self.extra_traceback = False
        self.mode = mode
        self.values: dict[fx.Node, object] = {}

    def get_attr(self, target, args, kwargs):
        # torch remembers results for tensors without data, not for real ones: twice as fast.
        return self.mode.from_tensor(super().get_attr(target, args, kwargs))

    def run_node(self, node: fx.Node):
        try:
            value = super().run_node(node)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"the graph does not run at '{layer(node)}' ({node.target}): {reason}"
            ) from error
        self.values[node] = value
        return value


def shapes(module: fx.GraphModule, signature: Signature, batch: int) -> dict[fx.Node, object]:
    """What each node gives at this batch size: tensors without data (or integers, or tuples).

    Raises:
        ModelError: the graph does not run; the message names the layer.
    """
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        interpreter = _Shapes(module, mode)
        interpreter.run(*(empty(spec, batch) for spec in signature.inputs))
    return interpreter.values


def recorded_shapes(module: fx.GraphModule, signature: Signature) -> dict[fx.Node, tuple]:
    """The shape of what each node gives at batch 3; of a tuple the shapes; of a number ().

    3 is a prime, so that no other axis is likely to be taken for the batch. The graph of a Model
    carries them: `check` and `signature_of` write them down. They are not to be asked for a graph
    that was changed and not checked since.
    """
    if not all("shape" in node.meta for node in module.graph.nodes):
        _record(shapes(module, signature, 3))
    return {node: node.meta["shape"] for node in module.graph.nodes}


def _record(values: dict[fx.Node, object]) -> None:
    for node, value in values.items():
        node.meta["shape"] = _shape(value)


def _shape(value: object) -> tuple:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return tuple(map(_shape, value)) if isinstance(value, tuple | list) else ()


def bound(node: fx.Node) -> dict[str, object]:
    """The arguments of an operator by the names of its schema, defaults filled in."""
    rows = node.target._schema.arguments
    given = dict(zip((row.name for row in rows), node.args, strict=False)) | node.kwargs
    return {row.name: given.get(row.name, row.default_value) for row in rows}


def empty(spec: TensorSpec, batch: int) -> torch.Tensor:
    """A tensor of the spec's shape and dtype, its values undefined."""
    return torch.empty(
        [batch if s is None else s for s in spec.shape], dtype=getattr(torch, spec.dtype)
    )


def check(module: fx.GraphModule, signature: Signature) -> None:
    """Check that a graph runs at two batch sizes and gives what the signature says.

    Raises:
        ModelError: it does not, or a weight is NaN or infinite.
    """
    check_weights(module)
    found = _outputs(module, signature.inputs)
    want = tuple((s.shape, s.dtype) for s in signature.outputs)
    have = tuple((s.shape, s.dtype) for s in found)
    if want != have:
        raise ModelError(f"the graph gives {have}, its signature says {want}")


def check_weights(module: fx.GraphModule) -> None:
    """Refuse NaN and infinity in weights; minus infinity may stand in a buffer: it masks.

    Raises:
        ModelError: naming the first such tensor.
    """
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if not value.is_floating_point():
            continue
        sound = torch.isfinite(value)
        if not isinstance(value, torch.nn.Parameter):
            sound |= torch.isneginf(value)
        if not bool(sound.all()):
            raise ModelError(
                f"'{name}' contains NaN or infinity: the training diverged; load another checkpoint"
            )


def signature_of(module: fx.GraphModule, inputs: tuple[TensorSpec, ...]) -> Signature:
    """The signature of a canonical graph, given its inputs.

    Raises:
        ModelError: the graph does not run at another batch size, or gives no batch axis.
    """
    return Signature(inputs, _outputs(module, inputs))


def _outputs(module: fx.GraphModule, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Output specs, found by running at batch 2 and 3: the axis that follows is the batch."""
    output = next(n for n in module.graph.nodes if n.op == "output")
    runs = [shapes(module, Signature(inputs, ()), batch) for batch in (2, 3)]
    _record(runs[1])
    specs = []
    for i, node in enumerate(output.args[0]):
        two, three = (run[node] for run in runs)
        name = "output" if len(output.args[0]) == 1 else f"output{i}"
        if (
            two.ndim == 0
            or (two.shape[0], three.shape[0]) != (2, 3)
            or two.shape[1:] != three.shape[1:]
        ):
            raise ModelError(
                f"{name} has shape {tuple(two.shape)} for a batch of 2 and {tuple(three.shape)} "
                "for a batch of 3: axis 0 of every output must be the batch"
            )
        shape = (None, *two.shape[1:])
        specs.append(
            TensorSpec(name, shape, str(two.dtype).removeprefix("torch."), layout_of(shape))
        )
    return tuple(specs)


def layout_of(shape: tuple[int | None, ...]) -> str:
    """PyTorch's layout for tensors of this rank, where there is only one."""
    return {2: "NC", 4: "NCHW"}.get(len(shape), "")

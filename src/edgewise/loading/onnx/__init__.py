"""An ``.onnx`` file becomes a Model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import fx

from ...errors import ModelError
from ...graph.canonical import shapes as shapes_of
from ...graph.layout import channels_first
from ...model import Model
from ...record import Event, Signature, TensorSpec
from ..torch import load_module
from .file import read
from .graph import Graph
from .net import Net, identifier
from .prepare import Prepared, prepare

__all__ = ["load_onnx"]

LARGEST_SAMPLE = 2**28  # elements


def load_onnx(path: Path) -> Model:
    """Read an ONNX file, operator sets 7 to the newest that the installed ``onnx`` knows.

    Initializers keep their names; axis 0 of every input becomes the batch, also where the file
    fixes it; quantized tensors become real ones on their grid, marked by
    ``edgewise::fake_quantize``.

    Raises:
        ModelError: the file is damaged, hostile, or holds what a Model cannot; names the node.
        MissingExtra: the ``onnx`` package is not installed.
    """
    graph = read(path)
    try:
        batch = _batch(graph)
        prepared = prepare(graph)
        if batch is None:
            model = _exported(prepared, graph, None)
        else:
            try:
                model = _exported(prepared, graph, batch)
            except ModelError:
                model = _exported(prepared, graph, batch, batch_last=True)
    except (MemoryError, RecursionError):
        raise ModelError(f"{path.name}: it asks for more memory than there is") from None
    except ModelError as error:
        inner = error.__cause__ if isinstance(error.__cause__, ModelError) else error
        raise ModelError(f"{path.name}: {inner}") from error
    return replace(model, lineage=(Event("load", {"source": path.name}),))


def _exported(
    prepared: Prepared, graph: Graph, batch: int | None, batch_last: bool = False
) -> Model:
    net = Net(prepared, batch, batch_last)
    model = _named(load_module(net, _examples(graph)), graph)
    module = model.module()
    channels_first(module, model.signature.inputs)
    model = replace(model, graph=module, signature=_laid_out(module, model.signature))
    if batch is not None:
        _check_opened(net, model, batch)
    return model


def _batch(graph: Graph) -> int | None:
    """The batch size that the file fixes, None where it leaves it open.

    Raises:
        ModelError: an input whose shape is not known but for the batch.
    """
    sizes = set()
    if not graph.inputs:
        raise ModelError("the graph has no input")
    for given in graph.inputs:
        if not given.shape or given.dtype is None:
            raise ModelError(
                f"input '{given.name}' has no shape with a batch axis: export it with one"
            )
        for axis, size in enumerate(given.shape[1:], 1):
            if not isinstance(size, int) or size < 1:
                raise ModelError(
                    f"input '{given.name}' leaves axis {axis} open ('{size}'), only the batch may "
                    "be: fix it with  python -m onnxruntime.tools.make_dynamic_shape_fixed"
                )
        if math.prod(given.shape[1:]) > LARGEST_SAMPLE:
            raise ModelError(f"input '{given.name}' claims samples of {given.shape[1:]}")
        sizes.add(given.shape[0] if isinstance(given.shape[0], int) else None)
    if None in sizes:
        return None
    if len(sizes) > 1 or 0 in sizes:
        raise ModelError(f"its inputs have the batch sizes {sorted(sizes)}: they must share one")
    return sizes.pop()


def _examples(graph: Graph) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros(1, dtype=i.dtype).expand(1, *i.shape[1:]) for i in graph.inputs)


def _named(model: Model, graph: Graph) -> Model:
    """The Model with the file's names for inputs and outputs."""
    taken = {node.name for node in model.graph.graph.nodes}
    holders = [node for node in model.graph.graph.nodes if node.op == "placeholder"]
    inputs = []
    for node, spec, given in zip(holders, model.signature.inputs, graph.inputs, strict=True):
        taken.discard(node.name)
        node.name = node.target = identifier(given.name, taken)
        inputs.append(replace(spec, name=node.name))
    model.graph.graph.lint()
    model.graph.recompile()
    seen: set[str] = set()
    outputs = tuple(
        replace(spec, name=identifier(name, seen))
        for spec, name in zip(model.signature.outputs, graph.outputs, strict=True)
    )
    return replace(model, signature=replace(model.signature, inputs=tuple(inputs), outputs=outputs))


def _laid_out(module: fx.GraphModule, signature: Signature) -> Signature:
    """Images that are permuted at once, or at last, have their channels last."""
    holders = [node for node in module.graph.nodes if node.op == "placeholder"]
    output = next(node for node in module.graph.nodes if node.op == "output")

    def layout(spec: TensorSpec, permutes: list[fx.Node], order: list[int]) -> TensorSpec:
        last = permutes and all(
            n.target is torch.ops.aten.permute.default and list(n.args[1]) == order
            for n in permutes
        )
        return replace(spec, layout="NHWC") if last else spec

    inputs = (
        layout(spec, list(node.users), [0, 3, 1, 2])
        for spec, node in zip(signature.inputs, holders, strict=True)
    )
    outputs = (
        layout(spec, [node], [0, 2, 3, 1])
        for spec, node in zip(signature.outputs, output.args[0], strict=True)
    )
    return replace(signature, inputs=tuple(inputs), outputs=tuple(outputs))


def _check_opened(net: Net, model: Model, batch: int) -> None:
    """Compare with the file at its own batch size: opening it may not change what it computes.

    Raises:
        ModelError: it does.
    """
    known = shapes_of(model.graph, model.signature, 2 * batch)
    if max(v.numel() for v in known.values() if isinstance(v, torch.Tensor)) > LARGEST_SAMPLE:
        raise ModelError(f"it computes tensors of more than {LARGEST_SAMPLE:,} elements")
    generator = torch.Generator().manual_seed(0)
    twice = []
    for given in net.graph_.inputs:
        shape = (2 * batch, *given.shape[1:])
        if given.dtype.is_floating_point:
            twice.append(torch.randn(shape, generator=generator).to(given.dtype))
        else:
            twice.append(torch.randint(0, 2, shape, generator=generator).to(given.dtype))
    with torch.no_grad():
        opened = model.graph(*twice)
        for part in (slice(0, batch), slice(batch, None)):
            fixed = net(*(x[part] for x in twice))
            for found, want in zip(opened, fixed, strict=True):
                found = found[part]
                same = found.shape == want.shape and torch.allclose(
                    found.double(), want.double(), 1e-3, 1e-3, equal_nan=True
                )
                if not same:
                    raise ModelError(
                        f"it fixes the batch size to {batch} and computes something else for "
                        "others: export it with an open batch axis"
                    )

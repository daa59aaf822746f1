"""The same graph, untrained: what a network of that size learns from nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, fx

from ..errors import StepError
from ..graph.fold import CONVOLUTIONS
from ..model import Model
from ..record import Event

__all__ = ["fresh"]

aten = torch.ops.aten
NORMS = {
    aten.batch_norm.default, aten.layer_norm.default, aten.group_norm.default,
    aten.instance_norm.default, aten.rms_norm.default,
}  # fmt: skip


def fresh(model: Model, seed: int = 0) -> Model:
    """A Model of the same shape with random weights.

    Convolutions and linears as PyTorch starts them (He et al. 2015, arXiv:1502.01852, equation 14,
    for uniform numbers), norms as the identity, embeddings and all else normal.

    Raises:
        StepError: the model is quantized; its grids fit the weights that it has.
    """
    if model.quantized:
        raise StepError("the model is quantized: start from the float model")
    module = model.module()
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(module.named_parameters())
    statistics = dict(module.named_buffers())
    for node in module.graph.nodes:
        if node.op != "get_attr":
            continue
        reader, at = _reader(node)
        if node.target in parameters:
            _start(parameters.pop(node.target).data, module, reader, at, generator)
        elif reader is not None and reader.target is aten.batch_norm.default and at in (3, 4):
            statistics[node.target].fill_(at - 3)  # mean 0, variance 1
    result = replace(model, graph=module)
    return Model.of(module, like=result, event=Event("fresh", {"seed": seed}))


def _reader(node: fx.Node) -> tuple[fx.Node | None, int]:
    """The first operator that reads it, through what only moves it, and as which argument."""
    reader = next(iter(node.users), None)
    while reader is not None and reader.target in (aten.t.default, aten.transpose.int):
        node, reader = reader, next(iter(reader.users), None)
    at = reader.args.index(node) if reader is not None and node in reader.args else -1
    return reader, at


def _start(
    data: Tensor,
    module: fx.GraphModule,
    reader: fx.Node | None,
    at: int,
    generator: torch.Generator,
) -> None:
    target = None if reader is None else reader.target
    if target in NORMS:
        norm_weight = {aten.group_norm.default: 2, aten.layer_norm.default: 2,
                       aten.rms_norm.default: 2}.get(target, 1)  # fmt: skip
        data.fill_(1.0 if at == norm_weight else 0.0)
    elif target in CONVOLUTIONS:
        weight = data if at == 1 else module.get_parameter(reader.args[1].target)
        fan_in = weight[0].numel() if CONVOLUTIONS[target] == 0 else weight[:, 0].numel()
        bound = 1 / math.sqrt(max(1, fan_in))
        data.uniform_(-bound, bound, generator=generator)
    else:
        wide = 1.0 if target is aten.embedding.default else 0.02
        data.normal_(0, wide, generator=generator)

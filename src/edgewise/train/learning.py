"""The forms of a graph that a training runs: one learns, one is judged, over one set of weights.

A Model's graph is in eval mode and stays the graph that is handed back. What trains is a copy of
its nodes over the same parameters and buffers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from ..errors import InputError
from ..graph.canonical import FAKE_QUANTIZE
from ..graph.placement import FIXED
from ..math.affine import SMALLEST_SCALE

__all__ = ["Kept", "fix_scales", "free_scales", "judged", "learning", "logits"]

aten = torch.ops.aten
NORM = aten.batch_norm.default
DROPOUT = {aten.dropout.default: 2, aten.feature_dropout.default: 2}
MOMENTUM = 0.1  # of batch-norms' statistics, at least: Keras' 0.01 outlives a short training
PROBABILITIES = {
    aten.softmax.int,
    aten._softmax.default,
    aten.log_softmax.int,
    aten.sigmoid.default,
}


def judged(module: fx.GraphModule, taps: Sequence[str]) -> fx.GraphModule:
    """The same weights with other outputs: logits for probabilities, then the values in `taps`.

    Raises:
        InputError: a tap is no value of the graph.
    """
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, values)
    names = {old.name: new for old, new in values.items()}
    for tap in taps:
        if tap not in names:
            raise InputError(f"'{tap}' is no value of the graph: `inspect` lists them")
    graph.output((*map(logits, output), *(names[tap] for tap in taps)))
    graph.eliminate_dead_code()
    for node in graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default  # weights are laid out channels last
    return fx.GraphModule(module, graph)


def learning(
    module: fx.GraphModule, taps: Sequence[str], norms: bool, world: int
) -> fx.GraphModule:
    """`judged` in train mode: dropout drops, batch-norms see the batch (if `norms`).

    Args:
        world: the processes over which a batch is spread; batch-norms then see all of it.
    """
    result = judged(module, taps)
    for node in result.graph.nodes:
        if node.target in DROPOUT:
            node.args = (*node.args[: DROPOUT[node.target]], True)
        elif node.target is NORM and norms:
            momentum = max(node.args[6], MOMENTUM)
            node.args = (*node.args[:5], True, momentum, *node.args[7:])
            if world > 1:
                node.target = _batch_norm_over_processes
    result.recompile()
    return result


def logits(node: fx.Node) -> fx.Node:
    """What a softmax or sigmoid at the end was computed from; any other value itself.

    Losses want logits, and files from Keras often end in probabilities.
    """
    source = node
    while source.target is FAKE_QUANTIZE or source.target in PROBABILITIES:
        if source.target in PROBABILITIES:
            return source.args[0]
        source = source.args[0]
    return node


def free_scales(module: fx.GraphModule) -> list[str]:
    """Make parameters of the scales that may be learned; names them.

    Those that a runtime prescribes (of sigmoid and tanh) stay as they are.
    """
    freed: list[str] = []
    prescribed: set[str] = set()
    for node in module.graph.nodes:
        if node.target is not FAKE_QUANTIZE or node.args[1].op != "get_attr":
            continue
        name = node.args[1].target
        (prescribed.add if node.args[0].target in FIXED else freed.append)(name)
    names = sorted(set(freed) - prescribed)
    for name in names:
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        value = getattr(holder, leaf)
        delattr(holder, leaf)
        setattr(holder, leaf, nn.Parameter(value.detach().clone()))
    return names


def fix_scales(module: fx.GraphModule, names: Sequence[str]) -> None:
    """Make buffers of these scales again."""
    for name in names:
        owner, _, leaf = name.rpartition(".")
        holder = module.get_submodule(owner)
        value = getattr(holder, leaf).detach().clone()
        delattr(holder, leaf)
        holder.register_buffer(leaf, value)


class Kept:
    """Puts back after each step what training must not change.

    Exact zeros of weights stay zero (a sparse model stays sparse, a codebook keeps its zero), and
    scales stay positive.

    Args:
        scales: names of the learned ones.
    """

    def __init__(self, module: fx.GraphModule, scales: Sequence[str]):
        self.weights = [
            p
            for name, p in module.named_parameters()
            if name not in scales and (p.ndim > 1 or name.endswith("codebook"))
        ]
        self.scales = [module.get_parameter(name) for name in scales]
        self.look()

    def look(self) -> None:
        """Take the zeros that there are now as those to be kept."""
        self.masks: list[tuple[nn.Parameter, Tensor]] = [
            (p, p.detach() != 0) for p in self.weights if not bool(p.detach().all())
        ]

    @torch.no_grad()
    def __call__(self) -> None:
        for parameter, mask in self.masks:
            parameter.mul_(mask)
        for scale in self.scales:
            scale.abs_().clamp_(min=SMALLEST_SCALE)


def _batch_norm_over_processes(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor:
    """Batch-norm with the statistics of the whole batch, all processes' parts of it together.

    torch's SyncBatchNorm is for GPUs alone.
    """
    from torch.distributed.nn.functional import all_reduce

    axes = [i for i in range(x.ndim) if i != 1]
    count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
    sums = all_reduce(torch.stack([x.sum(axes), x.square().sum(axes)]))
    of_batch = sums[0] / count
    spread = sums[1] / count - of_batch.square()
    with torch.no_grad():
        mean.lerp_(of_batch, momentum)
        var.lerp_(spread * (count / (count - 1)), momentum)
    shape = [1, -1, *[1] * (x.ndim - 2)]
    y = (x - of_batch.reshape(shape)) * torch.rsqrt(spread + eps).reshape(shape)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)

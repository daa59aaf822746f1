"""A trained `nn.Module` becomes a Model."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ModelError
from ..graph.canonical import canonical, check_weights, layout_of, signature_of
from ..model import Model
from ..record import Event, TensorSpec

__all__ = ["load_module"]


def load_module(net: nn.Module, example: torch.Tensor | tuple[torch.Tensor, ...]) -> Model:
    """Export a module once and keep the graph.

    Args:
        net: the trained module; it is exported in eval mode and left as it was.
        example: one input, or a tuple of them, batch axis first; the values do not matter.

    Raises:
        ModelError: the module cannot be exported, fixes its batch size, or holds NaN or infinity.
    """
    examples = example if isinstance(example, tuple) else (example,)
    if not all(isinstance(e, torch.Tensor) and e.ndim for e in examples):
        raise ModelError(
            "example must be a tensor, or a tuple of tensors, with the batch axis first"
        )
    was_training = net.training
    net.eval()
    try:
        # Batch 1 would be taken for a constant by the exporter, so it sees two samples.
        doubled = tuple(torch.cat([e[:1], e[:1]]) for e in examples)
        program = torch.export.export(
            net,
            doubled,
            dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in doubled),
            strict=False,
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{type(net).__name__} cannot be exported for a free batch size: {reason}"
        ) from error
    finally:
        net.train(was_training)
    graph = canonical(program.module())
    names = [node.name for node in graph.graph.nodes if node.op == "placeholder"]
    if len(names) != len(examples):
        raise ModelError(f"forward takes the tensors {names}, the example has {len(examples)}")
    inputs = tuple(
        TensorSpec(
            name, (None, *e.shape[1:]), str(e.dtype).removeprefix("torch."), layout_of(e.shape)
        )
        for name, e in zip(names, examples, strict=True)
    )
    check_weights(graph)
    return Model(
        graph, signature_of(graph, inputs), (Event("load", {"source": type(net).__name__}),)
    )

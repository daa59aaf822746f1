"""A trained `nn.Module` becomes a Model."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from ..errors import ModelError
from ..graph.canonical import canonical, check_weights, layout_of, signature_of
from ..model import Model
from ..record import Event, TensorSpec

__all__ = ["load_module", "load_weights"]


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
        # Without gradients, or what a module computes under no_grad would be a graph of its own.
        with torch.no_grad():
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
    names = [node.target for node in graph.graph.nodes if node.op == "placeholder"]
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


def load_weights(net: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state dict into a module, without running any code that the file may carry.

    The names may begin with ``module.`` (DataParallel), and the dict may lie under
    ``state_dict`` or ``model``, as training scripts often save it.

    Raises:
        ModelError: the file is no state dict of this module; names what is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} does not exist: give the file with the module's weights")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path} cannot be read as weights without running code: {reason}"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ModelError(f"{path} holds a {type(state).__name__}, not a state dict")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} does not fit {type(net).__name__}: {reason[:300]}") from error

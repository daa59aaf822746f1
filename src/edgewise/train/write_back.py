"""Weights go back into the user's own module."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from ..compress.dequantize import Dequantize
from ..errors import ModelError
from ..graph.canonical import empty
from ..graph.fold import CONVOLUTIONS
from ..model import Model

__all__ = ["write_back"]

aten = torch.ops.aten
NORMS = (nn.modules.batchnorm._BatchNorm,)
SAME = 1e-4  # of the largest output: how near the module must come to the model


def write_back(model: Model, module: nn.Module) -> None:
    """Put a Model's weights into the PyTorch module that it was loaded from, in place.

    Weights go by name. Layers that pruning made smaller are made smaller (convolutions, linears,
    batch-norms, layer-norms, embeddings); a batch-norm that was folded becomes the identity and its
    convolution gets the bias; a quantized model's weights are written rounded to their grids.
    Afterwards the module computes in eval mode what the model does, which is checked on the model's
    samples before anything is changed.

    Raises:
        ModelError: a weight has no place in the module, or the module then computes something else
            (its code fixes a size that was pruned, say). The module is as it was.
    """
    if model.quantized:
        model = Dequantize()(model)
    trial = copy.deepcopy(module).eval()
    for norm in _write(model, trial):
        # How many channels reach a norm is known once something does.
        norm.register_forward_pre_hook(_make_identity)
    _compare(model, trial)
    for norm, tried in zip(_write(model, module), _folded(model, trial), strict=True):
        norm.num_features = tried.num_features
        for leaf, tensor in tried.state_dict().items():
            _put(norm, leaf, tensor)


def _write(model: Model, module: nn.Module) -> list[nn.Module]:
    """Put every weight in its place; gives the norms that were folded."""
    graph = model.graph
    tensors = {**dict(graph.named_parameters()), **dict(graph.named_buffers())}
    readers = {n.target: next(iter(n.users), None) for n in graph.graph.nodes if n.op == "get_attr"}
    there = dict(module.named_parameters(remove_duplicate=False))
    there |= dict(module.named_buffers(remove_duplicate=False))
    for name, tensor in tensors.items():
        owner_name, _, leaf = name.rpartition(".")
        try:
            owner = module.get_submodule(owner_name)
        except AttributeError:
            owner = None
        if owner is None or not (name in there or _takes_bias(owner, leaf)):
            if _is_learned(graph, name):
                raise ModelError(
                    f"the module has no place for '{name}': give the module that the model was "
                    "loaded from"
                )
            continue  # a constant that the exporter wrote down
        _put(owner, leaf, tensor.detach())
        _resize(owner, leaf, readers[name])
    return _folded(model, module)


def _folded(model: Model, module: nn.Module) -> list[nn.Module]:
    """The module's batch-norms that the graph does not have."""
    kept = dict(model.graph.named_buffers())
    return [
        owner
        for name, owner in module.named_modules()
        if isinstance(owner, NORMS)
        and owner.running_mean is not None
        and f"{name}.running_mean".lstrip(".") not in kept
    ]


def _takes_bias(owner: nn.Module, leaf: str) -> bool:
    """A layer made without a bias that can have one, as folding a batch-norm gives it."""
    return leaf == "bias" and getattr(owner, "bias", 0) is None


def _is_learned(graph: fx.GraphModule, name: str) -> bool:
    return name in dict(graph.named_parameters())


def _put(owner: nn.Module, leaf: str, tensor: Tensor) -> None:
    old = getattr(owner, leaf, None)
    if old is not None and old.shape == tensor.shape:
        with torch.no_grad():
            old.copy_(tensor)
        return
    new = tensor.clone()
    if old is not None:
        new = new.to(old.device, old.dtype)
    if leaf in owner._buffers:
        owner._buffers[leaf] = new
    else:
        owner._parameters[leaf] = nn.Parameter(new)


def _resize(owner: nn.Module, leaf: str, reader: fx.Node | None) -> None:
    """Let a layer's own record of its sizes follow its weight."""
    if leaf not in ("weight", "running_mean"):
        return
    shape = tuple(getattr(owner, leaf).shape)
    if isinstance(owner, nn.modules.conv._ConvNd):
        if reader is not None and reader.target in CONVOLUTIONS:
            names = [a.name for a in reader.target._schema.arguments]
            given = dict(zip(names, reader.args, strict=False)) | reader.kwargs
            owner.groups = given.get("groups", 1)
        first, second = shape[0], shape[1] * owner.groups
        transposed = CONVOLUTIONS.get(reader.target) == 1 if reader is not None else False
        if transposed:
            first, second = shape[1] * owner.groups, shape[0]
        owner.out_channels, owner.in_channels = first, second
    elif isinstance(owner, nn.Linear):
        owner.out_features, owner.in_features = shape
    elif isinstance(owner, NORMS):
        owner.num_features = shape[0]
    elif isinstance(owner, nn.LayerNorm):
        owner.normalized_shape = shape
    elif isinstance(owner, nn.Embedding):
        owner.num_embeddings, owner.embedding_dim = shape


def _make_identity(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let a batch-norm give what it is given, for as many channels as reach it."""
    norm.num_features = inputs[0].shape[1]
    values = {"running_mean": 0.0, "running_var": 1 - norm.eps, "weight": 1.0, "bias": 0.0}
    for leaf, value in values.items():
        if getattr(norm, leaf, None) is not None:
            _put(norm, leaf, torch.full((norm.num_features,), value))


def _compare(model: Model, module: nn.Module) -> None:
    inputs = model.samples or tuple(_sample(spec).numpy() for spec in model.signature.inputs)
    want = model(*inputs)
    want = want if isinstance(want, tuple) else (want,)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            found = module(*(torch.from_numpy(array.copy()).to(device) for array in inputs))
    except Exception as error:  # the user's code
        raise ModelError(
            f"with these weights {type(module).__name__} does not run, it seems to fix a size that "
            f"was pruned: {str(error).splitlines()[0]}"
        ) from error
    leaves = [x for x in torch.utils._pytree.tree_leaves(found) if isinstance(x, Tensor)]
    for theirs, ours in zip(leaves, want, strict=False):
        ours = torch.from_numpy(ours)
        worst = float((theirs.cpu().float() - ours).abs().max()) if ours.numel() else 0.0
        if theirs.shape != ours.shape or worst > SAME * max(1.0, float(ours.abs().max())):
            raise ModelError(
                f"with these weights {type(module).__name__} gives something else than the model "
                f"(by {worst:.3g}): its code does more than the graph that was loaded from it"
            )


def _sample(spec) -> Tensor:
    sample = empty(spec, 2)
    if sample.is_floating_point():
        return sample.normal_(generator=torch.Generator().manual_seed(0))
    return sample.zero_()

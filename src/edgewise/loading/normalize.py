"""Put the normalisation of pixels into the graph, so that a device feeds raw uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import InputError
from ..graph.canonical import check
from ..model import Model
from ..record import Event

__all__ = ["normalized"]

aten = torch.ops.aten


def normalized(model: Model, mean: Sequence[float] | float, std: Sequence[float] | float) -> Model:
    """A Model that takes uint8 pixels x and computes ``model((x / 255 - mean) / std)``.

    Raises:
        InputError: the model does not take one float image, or `mean` and `std` are not one
            number or one a channel.
    """
    inputs = model.signature.inputs
    if len(inputs) != 1 or len(inputs[0].shape) < 2 or inputs[0].dtype != "float32":
        raise InputError("normalize= needs a model with one float32 input that has channels")
    spec = inputs[0]
    axis = spec.layout.find("C") if "C" in spec.layout else 1
    channels = spec.shape[axis]
    columns = []
    for name, value in (("mean", mean), ("std", std)):
        column = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
        if len(column) not in (1, channels) or (name == "std" and not bool((column > 0).all())):
            raise InputError(
                f"normalize: {name} must be one number or {channels}"
                f"{', all above 0' if name == 'std' else ''}; found {value}"
            )
        along = [-1 if k == axis else 1 for k in range(1, len(spec.shape))]
        columns.append(column.expand(channels).reshape(along))
    mean_, std_ = columns
    module = model.module()
    module.register_buffer("pixel_mean", (mean_ * 255).float())
    module.register_buffer("pixel_gain", (1 / (std_ * 255)).float())
    graph = module.graph
    pixels = next(n for n in graph.nodes if n.op == "placeholder")
    readers = list(pixels.users)
    first = next(n for n in graph.nodes if n.op not in ("placeholder", "get_attr"))
    with graph.inserting_before(first):
        shift, gain = graph.get_attr("pixel_mean"), graph.get_attr("pixel_gain")
        real = graph.call_function(aten._to_copy.default, (pixels,), {"dtype": torch.float32})
        centred = graph.call_function(aten.sub.Tensor, (real, shift))
        scaled = graph.call_function(aten.mul.Tensor, (centred, gain))
    for reader in readers:
        reader.replace_input_with(pixels, scaled)
    module.recompile()
    spec = replace(spec, dtype="uint8", range=(0.0, 255.0))
    signature = replace(model.signature, inputs=(spec,))
    check(module, signature)
    params = {"mean": mean_.flatten().tolist(), "std": std_.flatten().tolist()}
    return Model(module, signature, (*model.lineage, Event("normalize", params)))

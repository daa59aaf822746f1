"""New numbers for parameters and buffers, as a plan holds them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import fx

from ..errors import StepError
from ..model import Model

__all__ = ["changed", "written"]


def changed(module: fx.GraphModule, before: fx.GraphModule) -> dict[str, np.ndarray]:
    """Every parameter and buffer that is no longer what it was, by name."""
    old = {**dict(before.named_parameters()), **dict(before.named_buffers())}
    new = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {n: v.detach().numpy() for n, v in new.items() if not torch.equal(v, old[n])}


def written(model: Model, constants: Mapping[str, np.ndarray]) -> Model:
    """The Model with these numbers.

    Raises:
        StepError: it has none of that name and shape.
    """
    module = model.module()
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, values in constants.items():
        if name not in found or found[name].shape != values.shape:
            raise StepError(f"the plan's '{name}' is not one of this model's")
        found[name].data.copy_(torch.from_numpy(values))
    return Model(module, model.signature)

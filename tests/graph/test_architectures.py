"""The oracle on small definitions of well-known architectures, and what of them can be cut."""

from __future__ import annotations

import warnings

import pytest
import torch

from edgewise.compress.prune import Prune
from edgewise.loading.torch import load_module
from edgewise.model import Model

from ..architectures import ARCHITECTURES, NEED_TRANSFORMERS, build
from .oracle import BATCH, agrees, coupling, forced, shares

QUICK = ("lenet5", "resnet20", "densenet", "mobilenet_v3", "shufflenet_v2", "regnet", "unet")


def loaded(name: str) -> tuple[Model, tuple[torch.Tensor, ...]]:
    if name in NEED_TRANSFORMERS:
        pytest.importorskip("transformers")
    net, x = build(name, BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # recurrent layers put their weights into a list
        return load_module(net, tuple(t[:1] for t in x)), x


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ARCHITECTURES],
)
def test_they_compute_what_they_did_without_the_channels(name):
    model, x = loaded(name)
    found = coupling(model)
    for share in (0.3, 0.8):
        units = shares(found, share)
        assert agrees(model, x, units, found) < 1e-5
    whole = model(*x)
    (zeroed,) = forced(model, found, units, x)
    assert not torch.allclose(whole, zeroed, rtol=1e-3)
    plan = Prune(0.3).plan(model, None)
    assert plan.macs[0] >= 1.15 * plan.macs[1]

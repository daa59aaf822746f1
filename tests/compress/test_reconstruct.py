"""Weights solved anew come closer to what the whole network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewise.compress.prune import Prune
from edgewise.errors import DataError
from edgewise.loading.torch import load_module

from ..nets import NETS, loaded, make


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean() / np.square(b - b.mean(0)).mean())


@pytest.mark.parametrize("name", NETS)
def test_outputs_come_closer(name):
    model, x = loaded(name)
    x = torch.randn(256, *x.shape[1:]).numpy()
    step = Prune(0.3, samples=192)
    plain, solved = (
        step(model),
        Prune(0.3, samples=192, reconstruct=True)(model, {"calibration": x[:192]}),
    )
    want = model(x[192:])
    assert distance(solved(x[192:]), want) < distance(plain(x[192:]), want)


def test_channels_that_others_can_stand_in_for_are_not_missed():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)
    )
    net[0].weight.data[4:] = 0.5 * net[0].weight.data[:4]
    net[0].bias.data[4:] = 0.5 * net[0].bias.data[:4]
    model = load_module(net.eval(), torch.zeros(1, 3, 6, 6))
    x = np.random.default_rng(0).standard_normal((64, 3, 6, 6)).astype(np.float32)
    small = Prune(0.5, reconstruct=True)(model, {"calibration": x})
    assert distance(Prune(0.5)(model)(x), model(x)) > 0.05
    assert distance(small(x), model(x)) < 1e-5


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 1), nn.Conv1d(3, 8, 1)
        self.c, self.d = nn.Conv1d(8, 4, 1), nn.Conv1d(8, 4, 1)

    def forward(self, x):
        return self.c(F.relu(self.a(x))) + self.d(F.relu(self.b(x)))


def test_a_branch_makes_up_for_the_other():
    torch.manual_seed(0)
    net = Sum()
    net.b.weight.data, net.b.bias.data = net.a.weight.data.clone(), net.a.bias.data.clone()
    model = load_module(net.eval(), torch.zeros(1, 3, 5))
    x = np.random.default_rng(0).standard_normal((64, 3, 5)).astype(np.float32)
    small = Prune({"a": 0.5}, reconstruct=True)(model, {"calibration": x})
    assert distance(small(x), model(x)) < 1e-4


def test_it_needs_samples():
    net, x = make("perceptron")
    with pytest.raises(DataError, match="calibration"):
        Prune(reconstruct=True)(load_module(net, x[:1]))

"""Statistics taken anew are those of what reaches the norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.prune import Prune
from edgewise.compress.quantize import Quantize
from edgewise.compress.recalibrate import BATCH, Recalibrate
from edgewise.errors import DataError, InputError, StepError
from edgewise.loading.torch import load_module

from ..nets import make


def samples(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(1, 2, (n, *shape)).astype(np.float32)


def two_norms() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3),
    ).eval()  # fmt: skip


def test_the_first_norm_gets_the_statistics_of_all_samples():
    x = samples(3 * BATCH - 10, 3, 6, 6)
    net = two_norms()
    done = Recalibrate()(load_module(net, torch.zeros(1, 3, 6, 6)), {"calibration": x})
    with torch.no_grad():
        y = net[0](torch.from_numpy(x)).movedim(1, 0).flatten(1)
    found = dict(done.graph.named_buffers())
    assert torch.allclose(found["1.running_mean"], y.mean(1), rtol=1e-4, atol=1e-5)
    assert torch.allclose(found["1.running_var"], y.var(1), rtol=1e-4)


def test_one_batch_gives_what_torch_s_own_training_mode_gives():
    x = samples(BATCH, 3, 6, 6)
    net = two_norms()
    model = load_module(net, torch.zeros(1, 3, 6, 6))
    done = Recalibrate()(model, {"calibration": x})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    net.train()(torch.from_numpy(x))
    want = net.eval()(torch.from_numpy(x)).detach().numpy()
    assert np.allclose(done(x), want, rtol=1e-3, atol=1e-4)
    weights = [dict(m.graph.named_parameters()) for m in (model, done)]
    assert all(torch.equal(p, weights[1][name]) for name, p in weights[0].items())


def test_a_norm_that_serves_twice_sees_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(5)

        def forward(self, x):
            return self.norm(x) + self.norm(3 * x)

    x = samples(40, 5)
    done = Recalibrate()(load_module(Twice().eval(), torch.zeros(1, 5)), {"calibration": x})
    found = dict(done.graph.named_buffers())
    both = np.concatenate([x, 3 * x])
    assert np.allclose(found["norm.running_mean"], both.mean(0), atol=1e-4)
    assert np.allclose(found["norm.running_var"], both.var(0, ddof=1), rtol=1e-4)


def test_a_pruned_net_comes_closer_to_the_whole_one():
    torch.manual_seed(0)
    layers = [
        each
        for i in range(4)
        for each in (nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    ]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()
    x = samples(192, 3, 6, 6)
    data = {"calibration": x[:128]}
    whole = Recalibrate()(load_module(net, torch.zeros(1, 3, 6, 6)), data)  # as trained
    small = Prune(0.5, criterion="random")(whole)
    error = [
        np.square(m(x[128:]) - whole(x[128:])).mean() for m in (small, Recalibrate()(small, data))
    ]
    assert error[1] < 0.7 * error[0]


def test_what_cannot_be_is_refused():
    net, x = make("residual")
    with pytest.raises(InputError, match="at least 1, found 0"):
        Recalibrate(samples=0)
    perceptron, rows = make("perceptron")
    with pytest.raises(StepError, match=r"no batch norms with statistics$"):
        Recalibrate()(load_module(perceptron, rows[:1]), {"calibration": rows.numpy()})
    model = load_module(net, x[:1])
    with pytest.raises(DataError, match="give data="):
        Recalibrate()(model)
    small = Quantize("int8")(model, {"calibration": x.numpy()})
    with pytest.raises(StepError, match="folded, recalibrate before quantizing"):
        Recalibrate()(small, {"calibration": x.numpy()})
    with pytest.raises(DataError, match="NaN or infinite"):
        Recalibrate()(model, {"calibration": np.full_like(x.numpy(), 3e38)})

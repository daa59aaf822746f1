import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.equalize import Equalize
from edgewise.compress.quantize import Quantize
from edgewise.errors import StepError
from edgewise.loading.torch import load_module

from ..nets import NETS, loaded, make, quantized


def uneven():
    """A depthwise net whose channels differ a thousandfold, as folding a batch-norm leaves them."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.Conv2d(16, 8, 1), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    factors = torch.logspace(-1.5, 1.5, 16)
    with torch.no_grad():
        net[0].weight *= factors[:, None, None, None]
        net[0].bias *= factors
        net[2].weight /= factors[:, None, None, None]
    return net.eval(), torch.randn(16, 3, 8, 8)


@pytest.mark.parametrize("name", NETS)
def test_the_function_is_the_same(name):
    model, x = loaded(name)
    assert np.allclose(Equalize()(model)(x.numpy()), model(x.numpy()), rtol=1e-4, atol=1e-5)


def test_channels_become_alike_and_quantize_better():
    net, x = uneven()
    model = load_module(net, x[:1])
    even = Equalize()(model)
    want = model(x.numpy())
    assert np.allclose(even(x.numpy()), want, rtol=1e-4, atol=1e-5)
    data = {"calibration": x.numpy()}
    error = [np.square(Quantize("int8")(m, data)(x.numpy()) - want).mean() for m in (model, even)]
    assert error[1] < 0.5 * error[0]
    out = dict(even.graph.named_parameters())
    first, second = out["0.weight"].abs().amax((1, 2, 3)), out["2.weight"].abs().amax((1, 2, 3))
    assert torch.allclose(first, second, rtol=0.05)


def test_a_channel_that_is_nearly_dead_does_not_blow_up():
    """As training with weight decay leaves them: a weight of nothing and a bias."""
    net, x = uneven()
    with torch.no_grad():
        net[0].weight[3] *= 1e-12
        net[0].bias[3] = 0.5
    model = load_module(net, x[:1])
    even, data = Equalize()(model), {"calibration": x.numpy()}
    want = model(x.numpy())
    before, after = (np.abs(Quantize()(m, data)(x.numpy()) - want).mean() for m in (model, even))
    assert after < before


def test_what_cannot_be_scaled_is_named_with_its_reason():
    net, x = make("residual")
    skipped = Equalize()(load_module(net, x[:1])).lineage[-1].skipped
    assert skipped["conv1"] == "several layers read it"


def test_a_quantized_model_is_refused():
    small, _ = quantized("perceptron")
    with pytest.raises(StepError, match="equalize the float model"):
        Equalize()(small)

"""Weights go back into the user's own module."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.errors import ModelError
from edgewise.train import write_back

from .conftest import network


class Net(nn.Module):
    """What pruning, folding and quantizing touch: depthwise, transposed, norms, an embedding."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.head = nn.Linear(6, 12)
        self.last = nn.LayerNorm(12)
        self.out = nn.Linear(12, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.up(torch.relu(self.depthwise(x)))
        return self.out(torch.relu(self.last(self.head(x.mean((2, 3))))))


@pytest.fixture
def module():
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def model(module):
    return ew.load(module, example=torch.zeros(1, 1, 8, 8))


def outputs(module, x):
    with torch.no_grad():
        return copy.deepcopy(module).eval()(torch.from_numpy(x)).numpy()


def test_trained_weights_come_back(module, model, digits, short):
    trained = ew.Finetune(training=short)(model, digits)
    write_back(trained, module)
    x = digits[0][:20]
    np.testing.assert_allclose(outputs(module, x), trained(x), rtol=1e-4, atol=1e-4)
    assert module.training


def test_a_pruned_model_makes_the_module_smaller(module, model, digits):
    small = ew.Prune(0.5)(model)
    write_back(small, module)
    assert module.depthwise.groups == module.depthwise.in_channels == 4
    assert (module.up.in_channels, module.up.out_channels) == (4, 3)
    assert (module.norm.num_features, module.head.in_features) == (4, 3)
    x = digits[0][:20]
    np.testing.assert_allclose(outputs(module, x), small(x), rtol=1e-4, atol=1e-5)


def test_a_folded_norm_becomes_the_identity(module, model, digits):
    quantized = ew.Quantize()(ew.Prune(0.5)(model), digits)
    write_back(quantized, module)
    assert module.stem.bias.shape == (4,)
    x = digits[0][:20]
    rounded = ew.Dequantize()(quantized)
    np.testing.assert_allclose(outputs(module, x), rounded(x), rtol=1e-4, atol=1e-4)


def test_another_module_is_refused_and_left_as_it_was(model):
    other = nn.Sequential(nn.Linear(3, 3))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ModelError, match=r"no place for '\w+.weight'"):
        write_back(model, other)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_code_that_fixes_a_size_is_refused_and_left_as_it_was():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)) + torch.ones(8))

    module = Fixed()
    model = ew.load(module, example=torch.zeros(1, 4))
    small = ew.Prune(0.5)(model)
    with pytest.raises(ModelError, match="does not run"):
        write_back(small, module)
    assert module.a.out_features == 8 and module.a.weight.shape == (8, 4)


def test_code_that_does_more_than_the_graph_is_refused():
    class Other(nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.a, self.sign = nn.Linear(4, 8), sign

        def forward(self, x):
            return self.sign * self.a(x)

    model = ew.load(Other(1), example=torch.zeros(1, 4))
    with pytest.raises(ModelError, match="gives something else"):
        write_back(model, Other(-1))


def test_an_untrained_copy_has_the_shape_and_nothing_learned(digits, short):
    model = ew.Finetune(training=short)(network(8), digits)
    fresh, again, other = (ew.fresh(model, seed) for seed in (0, 0, 1))
    x = digits[0][:50]
    np.testing.assert_array_equal(fresh(x), again(x))
    assert not np.allclose(fresh(x), other(x))
    shapes = [[p.shape for p in m.graph.parameters()] for m in (model, fresh)]
    assert shapes[0] == shapes[1]
    # As PyTorch starts a new one: the same spread, layer by layer.
    new = network(8, seed=3)
    for (name, ours), theirs in zip(
        fresh.graph.named_parameters(), new.graph.parameters(), strict=True
    ):
        if ours.ndim > 1:
            assert float((ours.std() / theirs.std()).detach()) == pytest.approx(1, abs=0.25), name
    buffers = dict(fresh.graph.named_buffers())
    assert all(bool((v == ("var" in k)).all()) for k, v in buffers.items())

from fractions import Fraction

import pytest
import torch
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.data import as_data
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.graph.placement import fused_clamp
from edgewise.loading.torch import load_module

from ..nets import make

aten = torch.ops.aten


class Chain(nn.Module):
    """Three residual blocks, the last sum of which is read twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))

    def forward(self, x):
        x = self.stem(x).relu()
        for block in self.blocks[:3]:
            x = (x + block(x)).relu()
        return x - self.blocks[3](x)


def chain():
    torch.manual_seed(0)
    return Chain().eval(), torch.randn(16, 3, 8, 8)


def quantized(net, x):
    return Quantize("int8")(load_module(net, x[:1]), {"calibration": x.numpy()}).graph


def scale(graph, node):
    """Of the grid that a value is on."""
    return getattr(graph, node.args[1].target).double()


def grid_behind(node):
    return next(u for u in (fused_clamp(node) or node).users if u.target is FAKE_QUANTIZE)


def assert_odd(multiplier, most):
    fraction = Fraction(float(multiplier)).limit_denominator(most)
    assert fraction.denominator % 2 == 1
    assert abs(float(fraction) / float(multiplier) - 1) < 1e-6


@pytest.mark.parametrize("net", [chain, *(lambda n=n: make(n) for n in ("residual", "perceptron"))])
def test_layers_and_sums_multiply_by_fractions_of_an_odd_number(net):
    graph = quantized(*net())
    layers = 0
    for node in graph.graph.nodes:
        if node.target in (aten.conv2d.default, aten.linear.default):
            layers += 1
            out = scale(graph, grid_behind(node))
            for m in scale(graph, node.args[0]) * scale(graph, node.args[1]) / out:
                assert_odd(m, max(511, int(1 / m) + 1))
        elif node.target in (aten.add.Tensor, aten.sub.Tensor):
            layers += 1
            out = scale(graph, grid_behind(node))
            for source in node.args:
                assert_odd(scale(graph, source) / out, 511)
    assert layers > 1


def test_scales_are_hardly_wider_than_the_ranges_ask():
    net, x = chain()
    model = load_module(net, x[:1])
    plan = Quantize("int8").plan(
        model, as_data({"calibration": x.numpy()}, signature=model.signature)
    )
    for row in plan.activations:
        ends = row.scale * (-128 - row.zero_point), row.scale * (127 - row.zero_point)
        assert ends[0] <= row.low * (1 - 1e-5) + 1e-6 and ends[1] >= row.high * (1 - 1e-5) - 1e-6
        assert row.scale * 255 <= (max(row.high, 0) - min(row.low, 0)) * 1.03
    weights = {n.replace(".", "_"): p.detach() for n, p in model.module().named_parameters()}
    for row in plan.weights:
        least = weights[row.weight].abs().amax((1, 2, 3)) / 127
        ratio = torch.tensor(row.scales) / least
        assert (ratio > 1 - 1e-6).all() and (ratio < 1.009).all()

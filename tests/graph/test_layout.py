"""Channels-last networks: the same outputs, and no permute left inside."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.graph.layout import channels_first
from edgewise.loading.torch import load_module

aten = torch.ops.aten


def first(x):
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


class ChannelsLast(nn.Module):
    """What a channels-last framework offers; weights in its order of axes."""

    def __init__(self, forward, shape=(16, 16, 3)):
        super().__init__()
        self.body, self.shape = forward, shape
        self.drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self(self.example())

    def example(self, batch=2):
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, *self.shape, generator=generator)

    def weight(self, *shape, learned=True):
        name = f"w{self.count}"
        self.count += 1
        if not hasattr(self, name):
            drawn = torch.randn(shape, generator=self.drawn) / max(1, shape[0]) ** 0.5
            self.register_parameter(name, nn.Parameter(drawn)) if learned else (
                self.register_buffer(name, drawn.abs() + 1)
            )
        return getattr(self, name)

    def conv(self, x, out, kernel=3, stride=1, same=False):
        axes = x.ndim - 2
        w = self.weight(*[kernel] * axes, x.shape[-1], out).permute(-1, -2, *range(axes))
        y = F.pad(first(x), (kernel - 1, 0) * axes) if same else first(x)
        y = (F.conv1d if axes == 1 else F.conv2d)(y, w, stride=stride)
        return last(y) + self.weight(out)

    def depthwise(self, x):
        c = x.shape[-1]
        w = self.weight(3, 3, c, 1).permute(2, 3, 0, 1)
        return last(F.conv2d(first(x), w, groups=c, padding=1))

    def norm(self, x):
        c = x.shape[-1]
        statistics = (self.weight(c, learned=False), self.weight(c, learned=False))
        return last(F.batch_norm(first(x), *statistics, self.weight(c), self.weight(c)))

    def dense(self, x, out):
        return F.linear(x, self.weight(x.shape[-1], out).t(), self.weight(out))

    def excite(self, x):
        c = x.shape[-1]
        scale = torch.sigmoid(self.dense(F.relu(self.dense(x.mean((1, 2)), 4)), c))
        return x * scale.reshape(-1, 1, 1, c)

    def forward(self, x):
        self.count = 0
        return self.body(self, x)


def residual(net, x):
    x = F.relu(net.norm(net.conv(x / 255, 8, same=True)))
    return net.dense((x + net.norm(net.conv(x, 8, same=True))).flatten(1), 4)


def mobile(net, x):
    x = F.relu6(net.norm(net.depthwise(net.conv(F.pad(x, (0, 0, 0, 1, 0, 1)), 8, 3, 2))))
    return torch.softmax(net.dense(net.excite(net.conv(x, 8, 1)).mean((1, 2)), 4), -1)


def branches(net, x):
    pooled = last(F.max_pool2d(first(x), 3, 1, 1))
    x = torch.cat([F.leaky_relu(net.conv(x, 4, 1)), net.conv(x, 6, 3, 1, True), pooled], -1)
    left, right = x[..., :6], x[:, :, :, 6:]
    x = torch.cat([left.amax(2, keepdim=True), right.mean(2, keepdim=True)], 3)
    return net.dense(x.reshape(x.shape[0], -1), 4)


def pooled_by_reshape(net, x):
    x = last(F.avg_pool2d(first(net.conv(x, 8)), 14))
    return net.dense(net.conv(x.reshape(-1, 1, 1, 8), 6, 1).reshape(-1, 6), 3)


def upscaled(net, x):
    """Depth to space, as TensorFlow orders the channels, between convolutions."""
    x = net.conv(x, 12, same=True)
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
    return net.conv(x, 4).mean((1, 2))


def signal(net, x):
    x = F.relu(net.conv(x, 8, same=True))
    x = last(F.max_pool1d(first(x), 2)) * net.weight(8)
    return net.dense(net.conv(x, 4).flatten(1), 3)


def two_heads(net, x):
    x = net.conv(x, 8)
    return net.dense(F.relu(x.flatten(1)), 4), x.mean((1, 2))


def moved(module):
    return [n for n in module.graph.nodes if n.target is aten.permute.default]


def rewritten(net):
    model = load_module(net, net.example())
    module = model.module()
    channels_first(module, model.signature.inputs)
    for batch in (1, 5):
        x = net.example(batch)
        for have, want in zip(module(x), model.graph(x), strict=True):
            assert have.shape == want.shape
            torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)
    return module


@pytest.mark.parametrize(
    ("body", "permutes"),
    [
        (residual, 1),
        (mobile, 1),
        (branches, 1),
        (pooled_by_reshape, 1),
        (upscaled, 2),  # the pixels themselves are moved once
        (two_heads, 1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_the_entrance_is_permuted(body, permutes):
    module = rewritten(ChannelsLast(body))
    found = moved(module)
    assert len(found) == permutes
    assert found[0].args[0].op == "placeholder"


def test_a_series_is_permuted_at_its_entrance_only():
    module = rewritten(ChannelsLast(signal, (24, 3)))
    assert [n.args[0].op for n in moved(module)] == ["placeholder"]


def test_a_single_channel_needs_no_permute():
    module = rewritten(ChannelsLast(residual, (8, 8, 1)))
    assert moved(module) == []


def test_a_map_for_the_user_is_permuted_at_the_exit():
    module = rewritten(ChannelsLast(lambda net, x: net.conv(F.relu(net.conv(x, 4)), 2)))
    entrance, exit_ = moved(module)
    assert entrance.args[0].op == "placeholder"
    assert [user.op for user in exit_.users] == ["output"]


def test_weights_are_stored_as_the_operators_read_them():
    module = rewritten(ChannelsLast(residual))
    for node in module.graph.nodes:
        if node.target in (aten.conv2d.default, aten.linear.default):
            assert node.args[1].op == "get_attr"
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in module.parameters())
    assert len(list(module.parameters())) == len(list(ChannelsLast(residual).parameters()))


def test_a_weight_read_in_two_orders_stays_one_parameter():
    def body(net, x):
        w = net.weight(1, 1, 3, 3)
        y = last(F.conv2d(first(x), w.permute(3, 2, 0, 1)))
        return last(F.conv2d(first(y), w.permute(2, 3, 0, 1))).mean((1, 2))

    assert len(list(rewritten(ChannelsLast(body)).parameters())) == 1


def test_grids_follow_their_axis():
    grid = torch.ops.edgewise.fake_quantize

    def body(net, x):
        scale, zero = net.weight(8, learned=False), torch.zeros(8, dtype=torch.int32)
        one, none = torch.tensor(0.05), torch.tensor(3, dtype=torch.int32)
        w = grid(net.weight(8, 3, 3, 3), scale, zero, -127, 127, 0).permute(0, 3, 1, 2)
        x = last(F.conv2d(first(grid(x, one, none, -128, 127, None)), w))
        x = grid(grid(x, scale, zero, -128, 127, 3), one, none, -128, 127, None)
        columns = grid(net.weight(4, 14 * 14 * 8), one, none, -127, 127, None)
        return F.linear(x.flatten(1), columns)

    module = rewritten(ChannelsLast(body))
    assert len(moved(module)) == 1
    axes = [n.args[5] for n in module.graph.nodes if n.target is FAKE_QUANTIZE and len(n.args) > 5]
    assert axes.count(0) == 1
    assert axes.count(1) == 1  # of the activation, now channels first
    for node in module.graph.nodes:
        if node.target in (aten.conv2d.default, aten.linear.default):
            assert node.args[1].target is FAKE_QUANTIZE
            assert node.args[1].args[0].op == "get_attr"


def test_a_graph_without_permutes_is_left_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    model = load_module(net, torch.zeros(1, 3, 8, 8))
    module = model.module()
    channels_first(module, model.signature.inputs)
    assert module.code == model.graph.code


# --- any network --------------------------------------------------------------------------------

STEPS = {
    "conv": lambda net, x, y: net.conv(x, 4, 3, same=True),
    "strided": lambda net, x, y: net.conv(x, 6, 2, 2) if x.shape[1] > 3 < x.shape[2] else x,
    "depthwise": lambda net, x, y: net.depthwise(x),
    "norm": lambda net, x, y: net.norm(x),
    "relu": lambda net, x, y: F.relu(x),
    "clamp": lambda net, x, y: x.clamp(-1, 2) * 2 - 0.5,
    "vector": lambda net, x, y: x * net.weight(x.shape[-1]) + net.weight(1, x.shape[2], 1),
    "sum": lambda net, x, y: x + y if x.shape == y.shape else x - y.mean((1, 2, 3), keepdim=True),
    "concat": lambda net, x, y: torch.cat([x, y], -1) if x.shape[:3] == y.shape[:3] else x,
    "stacked": lambda net, x, y: torch.cat([x, x.flip(2)], 1),
    "mean": lambda net, x, y: x - x.mean(-1, keepdim=True),
    "most": lambda net, x, y: torch.sigmoid(x.amax((1, 2), keepdim=True)) * x,
    "softmax": lambda net, x, y: torch.softmax(x, -1),
    "pad": lambda net, x, y: F.pad(x, (1, 0, 0, 1, 2, 0), value=0.5),
    "slice": lambda net, x, y: x[:, 1:, ::2, :-1] if min(x.shape[1:]) > 2 else x,
    "halves": lambda net, x, y: sum(x.split([1, x.shape[2] - 1], 2)) if x.shape[2] > 1 else x,
    "pool": lambda net, x, y: last(F.avg_pool2d(first(x), 2)) if min(x.shape[1:3]) > 1 else x,
    "excite": lambda net, x, y: net.excite(x),
    "dense": lambda net, x, y: net.dense(x, 5),
    "layer_norm": lambda net, x, y: F.layer_norm(x, x.shape[-1:]),
    "turned": lambda net, x, y: x.transpose(1, 2),
    "rows": lambda net, x, y: x.reshape(x.shape[0], 1, -1, x.shape[-1]),
    "odd": lambda net, x, y: x.reshape(x.shape[0], x.shape[3], x.shape[1], x.shape[2]),
    "batched": lambda net, x, y: F.relu(x.reshape(-1, x.shape[-1])).reshape(x.shape),
    "where": lambda net, x, y: torch.where(x > 0, x, net.weight(x.shape[-1])),
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), min_size=1, max_size=7),
    st.sampled_from(["flat", "pooled", "whole"]),
    st.sampled_from([(6, 6, 3), (5, 7, 1), (8, 1, 4)]),
)
def test_any_network_keeps_its_outputs(steps, end, shape):
    def body(net, x):
        values = [x]
        for name, back in steps:
            values.append(STEPS[name](net, values[-1], values[max(0, len(values) - 1 - back)]))
        x = values[-1]
        if end == "flat":
            return net.dense(x.flatten(1), 3)
        return net.dense(x.mean((1, 2)), 3) if end == "pooled" else x

    rewritten(ChannelsLast(body, shape))

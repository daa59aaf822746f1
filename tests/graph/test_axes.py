"""Which axes move together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from edgewise.loading.torch import load_module

from ..nets import make
from .oracle import coupling


def groups(net: nn.Module, x: torch.Tensor) -> dict[str, int]:
    torch.manual_seed(0)
    return {g.name: g.size for g in coupling(load_module(net.eval(), x)).groups}


def test_a_padded_shortcut_ties_a_slice():
    net, x = make("residual")
    found = coupling(load_module(net, x[:1]))
    narrow, wide = found.groups
    assert (narrow.name, narrow.size, wide.name, wide.size) == ("conv1", 8, "conv2", 8)
    tied = {m.parameter: m.positions[:, 0].tolist() for m in narrow.members if not m.axis}
    assert tied["conv2.weight"] == list(range(4, 12))
    rest = {m.parameter: m.positions[:, 0].tolist() for m in wide.members if not m.axis}
    assert rest["conv2.weight"] == [0, 1, 2, 3, 12, 13, 14, 15]


def test_the_axis_that_is_summed_over_is_told_from_the_one_that_makes():
    found = coupling(
        load_module(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), torch.zeros(1, 4))
    )
    (group,) = found.groups
    assert {(m.parameter, m.axis): m.summed for m in group.members} == {
        ("0.weight", 0): False, ("0.bias", 0): False, ("1.weight", 1): True,
    }  # fmt: skip


def test_flattened_pixels_go_with_their_channel():
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(), nn.Linear(5 * 4, 2))
    found = coupling(load_module(net, torch.zeros(1, 3, 2, 2)))
    (group,) = found.groups
    last = next(m for m in group.members if m.parameter == "2.weight")
    assert last.positions.tolist() == [[4 * c + i for i in range(4)] for c in range(5)]


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(torch.sort(self.a(x))[0])


class Normed(Sorted):
    def forward(self, x):
        return self.b(F.layer_norm(self.a(x), (6,)))


class Softened(Sorted):
    def forward(self, x):
        return self.b(F.softmax(self.a(x), -1))


class Strided(Sorted):
    def forward(self, x):
        y = self.a(x)
        return self.b(y) + y[:, ::2]


def test_what_cannot_be_followed_stays_and_says_why():
    for kind, why in (
        (Sorted, "aten.sort"), (Normed, "mean and variance"), (Softened, "normalises"),
        (Strided, "every other"),
    ):  # fmt: skip
        found = coupling(load_module(kind().eval(), torch.zeros(1, 4)))
        assert found.groups == ()
        assert why in found.frozen["a"], found.frozen


def test_a_channel_shuffle_ties_halves_and_a_group_norm_its_groups():
    net, x = make("shuffle")
    assert {g.name: g.size for g in coupling(load_module(net, x[:1])).groups} == {"conv": 4}
    net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.GroupNorm(4, 12), nn.Conv2d(12, 2, 1))
    assert groups(net, torch.zeros(1, 3, 4, 4)) == {"0": 4}


def test_groups_of_a_convolution_go_whole_or_thin_out():
    few = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=2), nn.Conv2d(12, 2, 1))
    assert groups(few, torch.zeros(1, 3, 4, 4)) == {"0": 6, "1": 6}
    many = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=6), nn.Conv2d(12, 2, 1))
    assert groups(many, torch.zeros(1, 3, 4, 4)) == {"0": 6}


class Masked(nn.Module):
    """A buffer that is larger than what is read of it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.randn(1, 9, 9))
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(torch.softmax(x @ x.mT + self.mask[:, :5, :5], -1) @ self.a(x))


def test_a_buffer_alone_is_no_group():
    assert groups(Masked(), torch.zeros(1, 5, 4)) == {"a": 6}


class Tied(nn.Module):
    """One table that is read at both ends."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return F.linear(self.inner(self.table(x)), self.table.weight)


def test_a_weight_that_is_used_twice_is_one():
    found = coupling(load_module(Tied(), torch.zeros(1, 5, dtype=torch.int64)))
    (group,) = found.groups
    assert group.size == 8
    assert {(m.parameter, m.axis) for m in group.members} == {
        ("table.weight", 1), ("inner.weight", 0), ("inner.weight", 1), ("inner.bias", 0),
    }  # fmt: skip

"""Cutting channels is the same as forcing them to zero."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgewise.graph.surgery import cut
from edgewise.loading.torch import load_module
from edgewise.model import Model

from ..nets import NETS, loaded
from .oracle import BATCH, agrees, coupling, shares
from .random_nets import RandomNet


def settled(net: nn.Module, *shape: int) -> tuple[nn.Module, torch.Tensor]:
    """With batch statistics of normal inputs, as if trained."""
    x = torch.randn(16, *shape)
    net.train()
    with torch.no_grad():
        for _ in range(5):
            net(x)
    return net.eval(), x[:BATCH]


SHARES = (0.2, 0.4, 0.7)


def holds(seed: int, length: int) -> bool:
    """Whether each share can be cut; one export, which takes most of the time, serves for all."""
    net, x = settled(RandomNet(seed, length), 3, 8, 8)
    model = load_module(net, x[:1])
    found = coupling(model)
    return all(agrees(model, (x,), shares(found, share, seed), found) < 1e-5 for share in SHARES)


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.integers(1, 7))
def test_random_networks_compute_what_they_did_without_the_channels(seed, length):
    assert holds(seed, length)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(8, 12))
def test_many_random_networks_compute_what_they_did_without_the_channels(seed, length):
    assert holds(seed, length)


@pytest.mark.parametrize("name", NETS)
def test_small_networks_compute_what_they_did_without_the_channels(name):
    model, x = loaded(name)
    found = coupling(model)
    assert found.groups
    for share in (0.3, 0.99):
        assert agrees(model, (x[:BATCH],), shares(found, share), found) < 1e-5


def test_the_model_that_was_cut_is_as_before():
    model, x = loaded("residual")
    before = model(x)
    found = coupling(model)
    cut(model.module(), found, shares(found, 0.5))
    assert torch.equal(before, model(x))


def test_a_cut_model_can_be_cut_again():
    model, x = loaded("inverted")
    for _ in range(3):
        found = coupling(model)
        units = shares(found, 0.3)
        assert agrees(model, (x[:BATCH],), units, found) < 1e-5
        model = Model.of(cut(model.module(), found, units), like=model)
    assert sum(p.numel() for p in model.graph.parameters()) < 300


class Recurrent(nn.Module):
    """Embedding, two-layer LSTM both ways, GRU, a tag for each step."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 10, batch_first=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        return self.head(self.gru(self.lstm(self.embedding(x))[0])[0])


def test_recurrent_layers_lose_hidden_units():
    torch.manual_seed(0)
    x = torch.randint(0, 20, (BATCH, 7))
    model = load_module(Recurrent().eval(), x[:1])
    found = coupling(model)
    assert {g.name: g.size for g in found.groups} == {"embedding": 8, "lstm": 6, "gru": 10}
    assert agrees(model, (x,), shares(found, 0.4), found) < 1e-5


class Grouped(nn.Module):
    """Query heads that share keys and values; heads are the units."""

    def __init__(self, native: bool):
        super().__init__()
        self.native = native
        self.q, self.k, self.v = nn.Linear(12, 24), nn.Linear(12, 12), nn.Linear(12, 12)
        self.out = nn.Linear(24, 12)

    def forward(self, x):
        n, t, _ = x.shape
        q = self.q(x).view(n, t, 6, 4).transpose(1, 2)
        k, v = (m(x).view(n, t, 3, 4).transpose(1, 2) for m in (self.k, self.v))
        if not self.native:
            k, v = (z[:, :, None].expand(n, 3, 2, t, 4).reshape(n, 6, t, 4) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.native)
        return self.out(y.transpose(1, 2).reshape(n, t, 24))


@pytest.mark.parametrize("native", [False, True])
def test_grouped_query_heads_go_with_their_keys_and_values(native):
    torch.manual_seed(0)
    x = torch.randn(BATCH, 5, 12)
    model = load_module(Grouped(native).eval(), x[:1])
    found = coupling(model)
    (group,) = found.groups
    assert group.size == 3
    assert {m.parameter: m.positions.shape[1] for m in group.members if m.axis == 0} == {
        "q.weight": 8, "q.bias": 8, "k.weight": 4, "k.bias": 4, "v.weight": 4, "v.bias": 4,
    }  # fmt: skip
    assert agrees(model, (x,), shares(found, 0.4), found) < 1e-5


def test_heads_of_pytorchs_own_attention_are_units():
    torch.manual_seed(0)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
    x = torch.randn(BATCH, 5, 16)
    model = load_module(net.eval(), x[:1])
    found = coupling(model)
    assert sorted(g.size for g in found.groups) == [4, 4, 32, 32]
    assert agrees(model, (x,), shares(found, 0.3), found) < 1e-5

"""Loading modules of any kind."""

from __future__ import annotations

import torch
from torch import nn

from edgewise.loading.torch import load_module


class Partly(nn.Module):
    """Computes a part of it without gradients, as rotary embeddings do."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        y = self.a(x)
        with torch.no_grad():
            y = y * torch.cos(y)
        return self.b(y)


def test_what_is_computed_under_no_grad_is_part_of_the_graph():
    net, x = Partly(), torch.randn(6, 4)
    model = load_module(net, x[:1])
    assert torch.equal(model(x), net(x).detach())
    assert all(p.requires_grad for p in model.module().parameters())

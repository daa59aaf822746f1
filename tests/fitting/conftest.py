"""A tiny trained net, and a search over it that takes seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import edgewise as ew


class Net(nn.Module):
    """Two convolutions and a linear layer, for images of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with horizontal or vertical stripes in it."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    stripes = np.tile(np.array([1.0, -1.0], np.float32), 4)
    pattern = np.where(y[:, None, None] == 0, stripes[:, None], stripes[None, :])
    x = 0.8 * pattern + rng.normal(size=(n, 8, 8))
    return x[:, None].astype(np.float32), y


@pytest.fixture(scope="session")
def stripes() -> dict:
    """Training and evaluation samples."""
    return {"training": images(400, 1), "evaluation": images(300, 2)}


@pytest.fixture(scope="session")
def net(stripes) -> ew.Model:
    """It knows the stripes."""
    torch.manual_seed(0)
    module = Net().train()
    x, y = (torch.from_numpy(a) for a in stripes["training"])
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return ew.load(module.eval(), example=torch.zeros(1, 1, 8, 8), labels=("rows", "columns"))

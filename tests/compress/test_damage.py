"""Each group by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.damage import damage
from edgewise.errors import InputError
from edgewise.loading.torch import load_module


def model() -> tuple:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    net[2].weight.data[6:] = 0  # half of the second group does nothing
    net[2].bias.data[6:] = 0
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    return load_module(net.eval(), torch.zeros(1, 6)), {"calibration": x}


def test_what_does_nothing_is_not_missed():
    rows = {(r.group, r.amount): r for r in damage(*model(), amounts=(0.25, 0.5))}
    assert set(rows) == {("0", 0.25), ("0", 0.5), ("2", 0.25), ("2", 0.5)}
    assert rows["2", 0.5].divergence < 1e-10 and rows["2", 0.5].changed == 0
    assert 0.01 < rows["0", 0.25].divergence < rows["0", 0.5].divergence


def test_bad_amounts_are_refused():
    with pytest.raises(InputError, match="at least one"):
        damage(*model(), amounts=())
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        damage(*model(), amounts=(1.0,))

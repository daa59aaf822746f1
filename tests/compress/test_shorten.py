"""Blocks that are left out: the branch gives nothing, its neighbours stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.compress.shorten import BlockCut, Shorten, ShortenPlan
from edgewise.errors import DataError, InputError, StepError
from edgewise.graph.blocks import blocks
from edgewise.loading.torch import load_module

from ..architectures import build


class Block(nn.Module):
    def __init__(self, strength: float):
        super().__init__()
        self.one, self.two = nn.Linear(6, 9), nn.Linear(9, 6)
        self.strength = strength

    def forward(self, x):
        return x + self.strength * self.two(torch.relu(self.one(x)))


def model():
    torch.manual_seed(0)
    net = nn.Sequential(Block(1.0), Block(1e-3), Block(0.5), Block(1e-2), nn.Linear(6, 3))
    return net, load_module(net.eval(), torch.zeros(1, 6))


DATA = {"calibration": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}


def test_what_moves_the_outputs_least_goes_first():
    net, whole = model()
    plans = []
    small = Shorten(2)(whole, DATA, show=plans.append)
    assert [row.block for row in plans[0].blocks] == ["1.two", "3.two"]
    assert 0 < plans[0].blocks[0].divergence < plans[0].blocks[1].divergence < 1e-3
    assert plans[0].macs == (4 * 108 + 18, 2 * 108 + 18) and "1.two" in str(plans[0])
    for i in (1, 3):
        net[i].strength = 0.0
    x = torch.from_numpy(DATA["calibration"])
    assert torch.equal(small(x), net(x))
    names = [name for name, _ in small.graph.named_parameters()]
    assert not [name for name in names if name[0] in "13"] and small.lineage[-1].step == "shorten"


def test_blocks_by_name_and_blocks_that_stay():
    net, whole = model()
    small = Shorten(("0.*", "2.two"), keep=("3.two",))(whole)
    net[0].strength = net[2].strength = 0.0
    x = torch.randn(4, 6)
    assert torch.equal(small(x), net(x))
    plans = []
    Shorten(3, keep=("3.two",))(whole, DATA, show=plans.append)
    assert "3.two" not in {row.block for row in plans[0].blocks} and "3.two" in plans[0].skipped


@pytest.mark.parametrize(
    ("name", "count"), [("resnet20", 7), ("resnet50", 2), ("mobilenet_v2", 2), ("transformer", 4)]
)
def test_blocks_of_known_architectures_can_all_go(name, count):
    net, inputs = build(name, 2)
    whole = load_module(net, tuple(x[:1] for x in inputs))
    found = blocks(whole.graph, whole.signature)
    assert len(found) == count
    small = Shorten(tuple(block.name for block in found))(whole)
    assert small(*inputs).shape == whole(*inputs).shape
    assert blocks(small.graph, small.signature) == ()


def test_bad_calls_are_refused():
    _, whole = model()
    with pytest.raises(InputError, match="at least 1"):
        Shorten(0)
    with pytest.raises(InputError, match="give the blocks"):
        Shorten(())
    with pytest.raises(InputError, match=r"1\.two"):
        Shorten(("1.tow",))(whole)
    with pytest.raises(StepError, match="4 blocks can be left out, 5 were asked for"):
        Shorten(5)(whole, DATA)
    with pytest.raises(DataError, match="choosing blocks"):
        Shorten(1)(whole)
    with pytest.raises(StepError, match="quantized already"):
        Shorten(1)(Quantize("int8")(whole, DATA), DATA)
    with pytest.raises(StepError, match="no block"):
        Shorten(1)(load_module(nn.Linear(2, 2), torch.zeros(1, 2)))
    with pytest.raises(StepError, match="not one of this model's"):
        Shorten(1).apply(whole, ShortenPlan((BlockCut("elsewhere", None),), (1, 1)))

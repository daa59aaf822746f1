"""Latency as a share of the whole one's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.errors import InputError


def test_a_small_network_takes_a_part_of_the_time():
    pytest.importorskip("onnxruntime", reason="what is timed runs on ONNX Runtime")
    wide, narrow = (
        ew.load(nn.Sequential(nn.Linear(256, n), nn.ReLU(), nn.Linear(n, 4)), torch.zeros(1, 256))
        for n in (4096, 16)
    )
    cost = ew.Latency("onnxruntime", threads=1, runs=64)
    assert 0 < cost(narrow, wide) < 1 < cost(wide, narrow)


def test_an_unknown_runtime_is_refused():
    net = ew.load(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match="onnxruntime"):
        ew.Latency("onnx")(net, net)

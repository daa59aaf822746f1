"""A folder with a user's module and data, and the command line called in it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.cli import main

NETS = """
import torch
from torch import nn

class Frobnicate(nn.Module):
    def forward(self, x):
        return torch.linalg.qr(x)[1].sum((1, 2))

def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5),
    ).eval()

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)

def residual():
    return nn.Sequential(Residual(), Residual(), nn.Flatten(), nn.Linear(192, 5)).eval()

def broken():
    net = small()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    return net

def strange():
    return nn.Sequential(nn.Conv2d(3, 8, 3), Frobnicate())

def fails():
    raise RuntimeError("no such checkpoint")

number = 7
"""
SHAPE = ("--input", "3,8,8")


@dataclass(frozen=True)
class Result:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def run(capfd):
    """Call the command line in this process."""

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        return Result(end.value.code or 0, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with ``float.pt2``, ``int8.pt2`` and the artifact ``int8.onnx``."""
    folder = tmp_path_factory.mktemp("models")
    names: dict[str, Any] = {}
    exec(NETS, names)
    model = ew.load(names["small"](), example=torch.zeros(1, 3, 8, 8))
    model.save(folder / "float.pt2")
    x = np.random.default_rng(0).uniform(0, 1, (40, 3, 8, 8)).astype(np.float32)
    quantized = ew.Quantize("int8")(model, x)
    quantized.save(folder / "int8.pt2")
    ew.lower(quantized, "onnxruntime", folder / "int8.onnx")
    return folder


@pytest.fixture
def folder(models, tmp_path, monkeypatch) -> Path:
    """Where models, ``nets.py`` and data lie; the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    rng = np.random.default_rng(0)
    pixels, classes = rng.integers(0, 256, (80, 8, 8, 3), np.uint8), np.arange(80) % 5
    np.savez("pixels.npz", x=pixels, y=classes)
    np.savez("floats.npz", x=(pixels / 255).astype(np.float32), y=classes)
    return tmp_path

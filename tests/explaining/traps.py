"""A small net, and the files that other tools would make of it and that are traps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgewise as ew
from benchmarks import foreign

SHAPE = (3, 16, 16)


def net() -> nn.Module:
    """Two convolutions and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def model() -> ew.Model:
    return ew.load(net(), example=torch.zeros(1, *SHAPE))


def samples(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)


def lowered(runtime: str, path: Path) -> Path:
    return ew.lower(model(), runtime, path).path


def signed(folder: Path) -> Path:
    source = lowered("onnxruntime", folder / "float.onnx")
    return foreign.signed(source, folder / "signed.onnx", samples())


def inputs_only(folder: Path) -> Path:
    return foreign.inputs_only(lowered("onnxruntime", folder / "float.onnx"), folder / "style.onnx")


def at_run_time(folder: Path) -> Path:
    return foreign.at_run_time(lowered("litert", folder / "float.tflite"), folder / "run.tflite")

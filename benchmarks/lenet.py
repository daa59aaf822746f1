"""LeNet-300-100 and LeNet-5 on MNIST: prune while training, share, code; bytes without loss.

    python -m benchmarks.lenet lenet_300_100 --sparsity 0.985
    python -m benchmarks.lenet lenet_5 --sparsity 0.992    # Caffe's: 20 and 50 maps, 500 neurons

Deep Compression (Han et al. 2016, arXiv:1510.00149, table 1) makes them 40 and 39 times smaller.
Dense bytes are 4 for each weight and bias; ours are those that the codec of bundles writes for the
integers, their scales and the biases.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgewise as ew
from edgewise.train.gradual import RisingSparsity
from edgewise.train.training import Optimizer, Training

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


NETS = {"lenet_300_100": lenet_300_100, "lenet_5": lenet_5}


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


def trained(name: str, data: dict[str, np.ndarray], epochs: float) -> ew.Model:
    """The dense network; kept under `benchmarks/out`."""
    path = OUT / f"{name}.pt2"
    if path.exists():
        return ew.load(path)
    torch.manual_seed(0)
    model = ew.load(NETS[name](), example=torch.zeros(1, 1, 28, 28))
    training = Training(epochs=epochs, batch=128, optimizer=Optimizer("adamw", 1e-3))
    model = ew.Finetune(training=training)(model, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def thinned(model: ew.Model, data: dict[str, np.ndarray], amount: float, epochs: float) -> ew.Model:
    """So much of it zero, while it trains on."""
    rising = RisingSparsity(amount, 0.0, 0.6, "lamp")
    training = Training(
        epochs=epochs, batch=128, optimizer=Optimizer("adamw", 2e-3, decay=0.0),
        changes=(rising,),
    )  # fmt: skip
    return ew.Finetune(training=training)(model, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--sparsity", type=float, default=0.985)
    parser.add_argument("--epochs", type=float, nargs=2, default=(8, 20), help="dense, thinning")
    arguments = parser.parse_args()
    data = mnist()
    model = trained(arguments.net, data, arguments.epochs[0])
    print(f"{arguments.net} dense: {errors(model, data):.2f} % wrong", flush=True)
    path = OUT / f"{arguments.net}_{arguments.sparsity}.pt2"
    if not path.exists():
        thinned(model, data, arguments.sparsity, arguments.epochs[1]).save(path)
    sparse = ew.load(path)
    print(f"{arguments.sparsity:.1%} zero: {errors(sparse, data):.2f} % wrong", flush=True)
    dense = 4 * sum(p.numel() for p in model.graph.parameters())
    for bits in (0.3, 0.2):
        small = ew.Condense(bits, samples=512)(sparse, data)
        size = ew.coded_size(ew.Quantize("int8-weights")(small))
        print(
            f"{bits} bits: {errors(small, data):.2f} % wrong, {size:,} B, "
            f"{dense / size:.0f}x fewer",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""A trained network, made tens of times smaller without loss: the recipe beside this file.

    python examples/deep_compression.py OUT/

Writes the network (``net.pt2``), the digits that it is for (``data.npz``) and the small one
(``small.pt2``), so that the same can be had from the shell:

    edgewise apply examples/deep_compression.yaml OUT/net.pt2 --data OUT/data.npz -o OUT/again.pt2
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import edgewise as ew
from edgewise.recipes import read_recipe

RECIPE = Path(__file__).with_suffix(".yaml")


def digits() -> dict[str, np.ndarray]:
    """1,797 images of 8 by 8 pixels, a fifth of them to test with."""
    found = load_digits()
    x = (found.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    test, train = order[:360], order[360:]
    return {
        "x_train": x[train], "y_train": found.target[train],
        "x_test": x[test], "y_test": found.target[test],
    }  # fmt: skip


def accuracy(model: ew.Model, data: dict[str, np.ndarray]) -> float:
    """Of the test images."""
    return float((model(data["x_test"]).argmax(1) == data["y_test"]).mean())


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = digits()
    np.savez(folder / "data.npz", **data)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(),
        nn.Linear(100, 10),
    )  # fmt: skip
    how = ew.Training(epochs=6, batch=64, optimizer=ew.Optimizer("adamw", 0.002))
    whole = ew.Finetune(training=how)(ew.load(net, example=torch.zeros(1, 1, 8, 8)), data)
    whole.save(folder / "net.pt2")

    small = read_recipe(RECIPE)(whole, data)
    small.save(folder / "small.pt2")

    before = 4 * sum(p.numel() for p in whole.graph.parameters())
    after = ew.coded_size(small)
    print(f"dense: {accuracy(whole, data):.1%} of 360, {before:,} bytes")
    print(
        f"small: {accuracy(small, data):.1%} of 360, {after:,} bytes, {before / after:.0f}x fewer"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

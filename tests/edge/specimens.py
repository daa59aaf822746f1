"""Makes the specimens that `edgewise doctor` runs: one small int8 net for every runtime.

    python -m tests.edge.specimens

They are kept in the package, since a device has nothing to make them with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import edgewise as ew
from edgewise.edge import runners
from edgewise.edge.specimen import FOLDER, NAME, sample

__all__ = ["make"]


def net() -> nn.Module:
    """A convolution, a depthwise one and a linear layer: the kernels that processors differ in."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 4),
    ).eval()  # fmt: skip


def make(folder: Path, names: tuple[str, ...] = tuple(runners.RUNTIMES)) -> dict[str, Path]:
    """Write the specimen of each runtime into a folder, without records."""
    x = torch.from_numpy(sample())
    model = ew.load(net(), example=x)
    small = ew.Quantize("int8")(model, {"calibration": sample()})
    made = {}
    for name in names:
        path = folder / f"{NAME}{runners.get(name).suffixes[0]}"
        made[name] = ew.lower(small, name, path, data=sample()).path
        path.with_name(f"{path.name}.json").unlink()
    return made


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in make(FOLDER).values():
        print(path, path.stat().st_size, ew.Artifact.open(path).run(sample()), file=sys.stderr)

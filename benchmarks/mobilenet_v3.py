"""A narrow MobileNetV3 for CIFAR-10, trained here: the kind of net that int8 tools break.

    python -m benchmarks.mobilenet_v3 [--epochs 10]

Howard et al. 2019, "Searching for MobileNetV3" (arXiv:1905.02244), table 2, at half the width and
for 32 pixels: depthwise convolutions, hard-swish, squeeze-and-excite. The weights are kept in
``benchmarks/out/mobilenet_v3.pt``; 20,000 images, plain stochastic descent, a minute or two.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nets import normalise_cifar, shared

__all__ = ["WEIGHTS", "MobileNetV3", "images", "trained", "uneven"]

WEIGHTS = Path(__file__).parent / "out" / "mobilenet_v3.pt"
BATCH, RATE, MARGIN = 128, 0.15, 4


class Excite(nn.Module):
    """Squeeze-and-excite: a weight in 0..1 for each channel, from its mean (section 5.3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, max(8, channels // 4), 1)
        self.expand = nn.Conv2d(max(8, channels // 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.expand(y))


class Bottleneck(nn.Module):
    """Expand, depthwise, excite, project (figure 4)."""

    def __init__(
        self,
        channels: int,
        inner: int,
        out: int,
        kernel: int,
        stride: int,
        excite: bool,
        hard: bool,
    ) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(
            inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False
        )
        self.bn2 = nn.BatchNorm2d(inner)
        self.excite = Excite(inner) if excite else nn.Identity()
        self.project = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.act = nn.Hardswish() if hard else nn.ReLU()
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.expand(x)))
        y = self.excite(self.act(self.bn2(self.depthwise(y))))
        y = self.bn3(self.project(y))
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """The small variant, half as wide and with smaller strides, since images are small."""

    # kernel, expansion, channels, squeeze-and-excite, hard-swish, stride
    STAGES = (
        (3, 8, 8, True, False, 1),
        (3, 40, 16, False, False, 2),
        (3, 48, 16, False, False, 1),
        (5, 48, 24, True, True, 2),
        (5, 120, 24, True, True, 1),
        (5, 72, 24, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 48, True, True, 1),
    )

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        blocks, channels = [], 8
        for kernel, inner, out, excite, hard, stride in self.STAGES:
            blocks.append(Bottleneck(channels, inner, out, kernel, stride, excite, hard))
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Conv2d(channels, 288, 1, bias=False)
        self.bn_last = nn.BatchNorm2d(288)
        self.hidden = nn.Linear(288, 256)
        self.classifier = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(F.hardswish(self.bn(self.stem(x))))
        y = F.hardswish(self.bn_last(self.last(y))).mean((2, 3))
        return self.classifier(F.hardswish(self.hidden(y)))


def trained() -> MobileNetV3:
    """The network with the weights that this command kept.

    Raises:
        FileNotFoundError: it was not run yet.
    """
    if not WEIGHTS.exists():
        raise FileNotFoundError(f"{WEIGHTS} is missing: run python -m benchmarks.mobilenet_v3")
    net = MobileNetV3()
    net.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return net.eval().requires_grad_(False)


def uneven(net: MobileNetV3) -> MobileNetV3:
    """The same function with channels up to a thousandfold apart, where a relu lets them be so.

    Folding batch norms leaves networks like this (Nagel et al. 2019, arXiv:1906.04721, figure 2);
    one grid for a whole activation then has no steps for the small channels.
    """
    made = copy.deepcopy(net)
    for block in made.blocks:
        if isinstance(block.act, nn.ReLU):
            factors = torch.logspace(-1.5, 1.5, block.bn1.num_features)
            with torch.no_grad():
                block.bn1.weight *= factors
                block.bn1.bias *= factors
                block.depthwise.weight /= factors[:, None, None, None]
    return made


def images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels."""
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as file:
        arrays = (
            normalise_cifar(file["x_train"]), file["y_train"].astype(np.int64),
            normalise_cifar(file["x_test"]), file["y_test"].astype(np.int64),
        )  # fmt: skip
    return tuple(map(torch.from_numpy, arrays))


def varied(batch: Tensor) -> Tensor:
    """Each image mirrored or not; all of them shifted by the same up to 4 pixels."""
    mirrored = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(3), batch)
    down, right = torch.randint(2 * MARGIN + 1, (2,)).tolist()
    return F.pad(mirrored, (MARGIN,) * 4)[:, :, down : down + 32, right : right + 32]


def train(epochs: int) -> None:
    """Descend, the rate rising over a tenth of the way, then falling; keep the weights."""
    torch.manual_seed(0)
    x, y, x_test, y_test = images()
    x, net, done = x.contiguous(memory_format=torch.channels_last), MobileNetV3(), 0
    net = net.to(memory_format=torch.channels_last)
    total = epochs * (len(x) // BATCH)
    steps = torch.optim.SGD(net.parameters(), RATE, momentum=0.9, nesterov=True)
    for epoch in range(epochs):
        for chosen in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            rate = RATE * min(10 * done / total, (1 + math.cos(math.pi * done / total)) / 2)
            steps.param_groups[0]["lr"] = rate
            loss = F.cross_entropy(net(varied(x[chosen])), y[chosen])
            steps.zero_grad()
            loss.backward()
            steps.step()
            done += 1
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    net.eval()
    with torch.no_grad():
        right = sum(int((net(b).argmax(1) == t).sum()) for b, t in zip(
            x_test.split(500), y_test.split(500), strict=True))  # fmt: skip
    WEIGHTS.parent.mkdir(exist_ok=True)
    torch.save(net.state_dict(), WEIGHTS)
    print(f"{100 * right / len(y_test):.2f} % of {len(y_test)} test images after {epochs} epochs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    train(parser.parse_args().epochs)

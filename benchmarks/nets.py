"""The trained networks and the real data that edgewise is judged on.

Four networks with published or measured accuracy: ResNet-20, -32 and -56 for CIFAR-10 (He et al.,
"Deep Residual Learning for Image Recognition", 2015, section 4.2, shortcut option A) and
MobileNetV2 at 224 pixels (Sandler et al., 2018). Weights and data are not part of the repository:
they lie in the folder that ``EDGEWISE_SHARED_DATA`` names, else in ``../shared/data`` beside the
checkout.

``python -m benchmarks.nets`` measures the float accuracy of each in PyTorch.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NETS", "MobileNetV2", "Net", "ResNet", "accuracy", "cifar10", "imagenet", "load"]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CALIBRATION = 256  # images


@dataclass(frozen=True)
class Net:
    """A trained network in evaluation mode with the data to calibrate and to judge it.

    Attributes:
        module: takes float32 (N, 3, H, W), gives float32 logits (N, classes).
        example: one input of batch 1.
        calibration: 256 inputs, none of them among `inputs`.
        inputs: the evaluation inputs, float32 (N, 3, H, W).
        labels: the right class of each, int64 (N,).
    """

    name: str
    module: nn.Module
    example: Tensor
    calibration: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """Every input: those of calibration, then those of evaluation."""
        return np.concatenate([self.calibration, self.inputs])


def load(name: str) -> Net:
    """The network of that name (one of `NETS`) with its weights and data.

    Raises:
        KeyError: there is none of that name.
        FileNotFoundError: the weights or the data are not there.
    """
    make, data = NETS[name]
    calibration, inputs, labels = data()
    module = make(name).eval().requires_grad_(False)
    example = torch.from_numpy(calibration[:1].copy())
    return Net(name, module, example, calibration, inputs, labels)


def accuracy(net: Net, batch: int = 128) -> float:
    """Share of the evaluation inputs whose largest logit is the label's, in PyTorch float32."""
    right = 0
    with torch.inference_mode():
        for at in range(0, len(net.inputs), batch):
            logits = net.module(torch.from_numpy(net.inputs[at : at + batch]))
            right += int((logits.argmax(1).numpy() == net.labels[at : at + batch]).sum())
    return right / len(net.labels)


def shared(*parts: str) -> Path:
    """A file of the shared data.

    Raises:
        FileNotFoundError: it is not there.
    """
    path = Path(os.environ.get("EDGEWISE_SHARED_DATA", SHARED)).joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: set EDGEWISE_SHARED_DATA to the data folder")
    return path


# --- ResNet for CIFAR-10 ---------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride == 2:
            margin = (y.shape[1] - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, margin, margin))
        return F.relu(y + x)


class ResNet(nn.Module):
    """ResNet of depth 6n+2 for 32x32 images: three stages of `n` blocks, 16, 32, 64 channels."""

    def __init__(self, n: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, n, 1)
        self.layer2 = self._stage(16, 32, n, 2)
        self.layer3 = self._stage(32, 64, n, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(channels: int, out: int, n: int, stride: int) -> nn.Sequential:
        rest = (BasicBlock(out, out, 1) for _ in range(n - 1))
        return nn.Sequential(BasicBlock(channels, out, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.layer3(self.layer2(self.layer1(y)))
        return self.linear(F.adaptive_avg_pool2d(y, 1).flatten(1))


def _resnet(name: str, file: str) -> ResNet:
    """The network of akamaster/pytorch_resnet_cifar10 with its weights."""
    saved = torch.load(shared("cifar10_resnets", file), map_location="cpu", weights_only=True)
    net = ResNet((int(name.removeprefix("resnet")) - 2) // 6)
    net.load_state_dict({k.removeprefix("module."): v for k, v in saved["state_dict"].items()})
    return net


# --- MobileNetV2 -----------------------------------------------------------------------------


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does: with stride 2, at the end only.

    For kernel 3 and even input sizes; the explicit pad keeps the arithmetic that the weights
    were trained with.
    """

    def __init__(
        self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        even = kernel == 3 and stride == 1
        super().__init__(channels, out, kernel, stride, padding=int(even), groups=groups)
        self.pad_end = kernel == 3 and stride == 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.pad_end else x)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation (Sandler et al., figure 4)."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = SameConv2d(channels, inner) if expansion > 1 else None
        self.depthwise = SameConv2d(inner, inner, 3, stride, groups=inner)
        self.project = SameConv2d(inner, out)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 with batch norms already folded; logits, no softmax at the end."""

    STAGES = (  # expansion, channels, blocks, stride: table 2 of the paper
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, classes: int = 1001) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        blocks, channels = [], 32
        for expansion, out, n, stride in self.STAGES:
            for i in range(n):
                blocks.append(InvertedResidual(channels, out, 1 if i else stride, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv2d(channels, 1280)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(F.relu6(self.stem(x)))
        return self.classifier(F.relu6(self.head(y)).mean((2, 3)))

    def layers(self) -> Iterator[nn.Conv2d | nn.Linear]:
        """The 53 layers with weights, in graph order."""
        return (m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def _mobilenet_v2(name: str) -> MobileNetV2:
    """The network with the dequantised weights of Coral's post-training quantised file."""
    net = MobileNetV2()
    with np.load(shared("imagenet_mobilenetv2", f"{name}_1.0_224_dequantised_float32.npz")) as f:
        pairs = [(f[k], f[k.replace("/weight", "/bias")]) for k in f.files if k.endswith("/weight")]
    with torch.no_grad():
        for layer, (weight, bias) in zip(net.layers(), pairs, strict=True):
            # TFLite: convolution (out, h, w, in), depthwise (1, h, w, channels).
            depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
            weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
            layer.weight.copy_(torch.from_numpy(weight.reshape(layer.weight.shape)))
            layer.bias.copy_(torch.from_numpy(bias))
    return net


# --- Data ------------------------------------------------------------------------------------


def cifar10() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first 256 training images, the 10,000 test images and their labels.

    Normalised float32 NCHW with the mean and deviation that the ResNets were trained with.
    """
    with np.load(shared("cifar10", "cifar10_train20k_test10k.npz")) as f:
        calibration = normalise_cifar(f["x_train"][:CALIBRATION])
        return calibration, normalise_cifar(f["x_test"]), f["y_test"].astype(np.int64)


def normalise_cifar(pixels: np.ndarray) -> np.ndarray:
    """uint8 NHWC pixels to float32 NCHW, with the mean and deviation of the ResNets' training."""
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)
    values = (pixels.astype(np.float32) / 255 - mean) / deviation
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def imagenet() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """256 calibration images, the 394 others for evaluation and their labels.

    From 650 validation images, dealt by a fixed seed; centre crop of 224 pixels, scaled to
    -1..1, float32 NCHW; labels 1..1000, for index 0 of the network is background.
    """
    from PIL import Image

    folder = shared("imagenet_val_227")
    with (folder / "labels.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    images = np.empty((len(rows), 3, 224, 224), np.float32)
    for row, image in zip(rows, images, strict=True):
        with Image.open(folder / "images" / row["file"]) as file:
            pixels = np.asarray(file.convert("RGB"))[1:225, 1:225]
        image[:] = (pixels.transpose(2, 0, 1).astype(np.float32) - 127.5) / 127.5
    labels = np.array([int(row["label"]) + 1 for row in rows], np.int64)
    order = np.random.default_rng(0).permutation(len(rows))
    first, rest = order[:CALIBRATION], order[CALIBRATION:]
    return images[first], images[rest], labels[rest]


NETS = {
    "resnet20": (partial(_resnet, file="resnet20-12fca82f.th"), cifar10),
    "resnet32": (partial(_resnet, file="resnet32-d509ac18.th"), cifar10),
    "resnet56": (partial(_resnet, file="resnet56-4bfd9763.th"), cifar10),
    "mobilenet_v2": (_mobilenet_v2, imagenet),
}


if __name__ == "__main__":
    for name in NETS:
        net = load(name)
        print(f"{name}: {accuracy(net):.2%} of {len(net.labels)} in PyTorch, float32", flush=True)

"""Small networks that between them use what real ones use; random weights, fixed seeds."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.loading.torch import load_module
from edgewise.model import Model


class Residual(nn.Module):
    """Convolution, batch-norm, ReLU, a CIFAR ResNet's subsampled and padded shortcut."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = F.relu(self.bn2(self.conv2(x)) + shortcut)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    """MobileNet: depthwise, ReLU6, hard-swish, squeeze-and-excite, in-place activations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        )
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.squeeze = nn.Sequential(
            nn.Conv2d(16, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 16, 1)
        )
        self.project = nn.Conv2d(16, 8, 1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x):
        x = self.stem(x)
        y = F.relu6(self.depthwise(self.expand(x)))
        y = y * torch.sigmoid(self.squeeze(y.mean((2, 3), keepdim=True)))
        return self.head((x + self.project(y)).mean((2, 3)))


class Branches(nn.Module):
    """Inception and DenseNet: concat, max and average pooling, batch-norm before convolution."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.three = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(13)
        self.last = nn.Conv2d(13, 8, 3, groups=1)
        self.head = nn.Linear(8 * 3 * 3, 4)

    def forward(self, x):
        pooled = F.max_pool2d(x, 3, 1, 1)
        x = torch.cat([F.relu(self.one(x)), F.relu(self.three(x)), pooled], 1)
        x = F.avg_pool2d(self.last(F.relu(self.norm(x))), 2)
        return self.head(torch.flatten(x, 1))


class Signal(nn.Module):
    """One-dimensional convolutions over a time series, tanh and leaky ReLU."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 8, 5, padding=2)
        self.conv2 = nn.Conv1d(8, 8, 3, stride=2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.1)
        return self.head(torch.tanh(self.conv2(x)).mean(-1))


class Shuffle(nn.Module):
    """ShuffleNet: split, grouped convolution, channel shuffle by reshape and transpose."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1, groups=2)
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.conv(x))
        left, right = x.chunk(2, 1)
        x = torch.cat([left, F.relu(self.branch(right))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(x.mean([2, 3]))


class Encoder(nn.Module):
    """A transformer block: attention, layer norm, GELU, embedding-free."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.inner(x)
        n, t, c = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        x = self.norm1(x + self.out(a))
        x = self.norm2(x + self.mlp(x))
        return self.head(x.mean(1))


class Tokens(nn.Module):
    """PyTorch's own transformer layer over the patches of an image."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.layer(x)[:, 0])


class Perceptron(nn.Module):
    """Two linears on a table."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


# name -> class, shape of one sample
NETS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 16, 16)),
    "inverted": (Inverted, (3, 16, 16)),
    "branches": (Branches, (3, 8, 8)),
    "signal": (Signal, (3, 20)),
    "shuffle": (Shuffle, (4, 6, 6)),
    "encoder": (Encoder, (5, 6)),
    "tokens": (Tokens, (3, 8, 8)),
    "perceptron": (Perceptron, (12,)),
}


def make(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The network in eval mode with settled batch statistics, and 64 standard normal inputs."""
    kind, shape = NETS[name]
    torch.manual_seed(0)
    net = kind()
    inputs = torch.randn(64, *shape)
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(inputs)
    return net.eval(), inputs


def loaded(name: str) -> tuple[Model, torch.Tensor]:
    """Likewise, as a Model; no step changes it, so that one export serves for many tests."""
    torch.manual_seed(0)  # what a test draws next is not up to whether it is the first
    return _loaded(name)


def quantized(name: str) -> tuple[Model, torch.Tensor]:
    """Likewise, quantized to int8 by those inputs."""
    torch.manual_seed(0)
    return _quantized(name)


@cache
def _loaded(name: str) -> tuple[Model, torch.Tensor]:
    net, inputs = make(name)
    return load_module(net, inputs[:1]), inputs


@cache
def _quantized(name: str) -> tuple[Model, torch.Tensor]:
    model, inputs = _loaded(name)
    return Quantize("int8")(model, {"calibration": inputs.numpy()}), inputs

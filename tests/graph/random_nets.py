"""Random convolutional networks of everything that ties channels together."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RandomNet"]

PIECES = (
    "conv", "grouped", "depthwise", "transposed", "norm", "group_norm", "act", "residual", "pad",
    "concat", "halves", "shuffle", "pixels", "gate", "pool", "prelu", "glu", "slices", "heads",
    "repeat", "unflatten",
)  # fmt: skip


class RandomNet(nn.Module):
    """A chain of random pieces on 8x8 images of 3 channels; channels are multiples of 4."""

    def __init__(self, seed: int, length: int):
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        self.layers = nn.ModuleDict()
        self.plan: list[tuple[str, str]] = []
        width = draw.choice((8, 12, 16))
        self.layers["stem"] = nn.Conv2d(3, width, 3, padding=1)
        for i in range(length):
            kind = draw.choice(PIECES)
            width = self._add(f"{kind}{i}", kind, width, draw)
            self.plan.append((f"{kind}{i}", kind))
        self.head = nn.Linear(width, 3)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)

    def _add(self, name: str, kind: str, width: int, draw: random.Random) -> int:
        layers = self.layers
        out = draw.choice((4, 8, 12, 16))
        if kind == "conv":
            layers[name] = nn.Conv2d(width, out, draw.choice((1, 3)), padding="same")
            return out
        if kind == "grouped":
            layers[name] = nn.Conv2d(width, out, 1, groups=draw.choice((2, 4)))
            return out
        if kind == "depthwise":
            layers[name] = nn.Conv2d(width, width * draw.choice((1, 2)), 3, padding=1, groups=width)
            return layers[name].out_channels
        if kind == "transposed":
            layers[name] = nn.ConvTranspose2d(width, out, 1, groups=draw.choice((1, 2, 4)))
            return out
        if kind in ("norm", "group_norm"):
            norm = nn.BatchNorm2d(width) if kind == "norm" else nn.GroupNorm(width // 2, width)
            layers[name] = norm
        if kind == "prelu":
            layers[name] = nn.PReLU(width)
        if kind in ("residual", "gate"):
            layers[name] = nn.Conv2d(width, width, 1)
        if kind == "concat":
            layers[name] = nn.Conv2d(width, 4, 1)
            return width + 4
        if kind == "pixels" and width % 16 == 0:
            return width // 4
        if kind == "glu" and width % 8 == 0:
            return width // 2
        return width + 4 if kind == "pad" else width

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers["stem"](x)
        for name, kind in self.plan:
            x = self._run(x, kind, dict(self.layers.items()).get(name))
        return self.head(x.mean((2, 3)))

    def _run(self, x: Tensor, kind: str, layer: nn.Module | None) -> Tensor:
        n, c, h, w = x.shape
        match kind:
            case "act":
                return F.silu(x) + 0.5
            case "residual":
                return x + layer(F.relu(x))
            case "gate":
                return x * torch.sigmoid(layer(F.adaptive_avg_pool2d(x, 1)))
            case "pad":
                return F.pad(x, (0, 0, 0, 0, 1, 3))
            case "concat":
                return torch.cat([layer(x), x], 1)
            case "halves":
                a, b = x.chunk(2, 1)
                return torch.cat([F.relu(b), a], 1)
            case "slices":
                return torch.cat([x[:, 1:], x[:, :1]], 1)
            case "shuffle":
                return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            case "pixels" if c % 16 == 0:
                return F.avg_pool2d(F.pixel_shuffle(x, 2), 2)
            case "pool":
                return F.max_pool2d(x, 3, 1, 1)
            case "glu" if c % 8 == 0:
                return F.glu(x, 1)
            case "heads":
                y = x.reshape(n, 4, c // 4, h * w).transpose(2, 3)
                y = F.scaled_dot_product_attention(y, y, y).transpose(2, 3)
                return y.reshape(n, c, h, w)
            case "repeat":
                return x * torch.tanh(x.mean(1, keepdim=True).expand(n, c, h, w))
            case "unflatten":
                return x.unflatten(1, (2, c // 2)).flatten(1, 2)
            case _:
                return x if layer is None else layer(x)

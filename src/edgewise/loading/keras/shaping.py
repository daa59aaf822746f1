"""Layers that move, cut, pad or repeat values, and those that do nothing at inference."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .layer import Config, Layer, channels_first, channels_last, row
from .weights import Weights

__all__: list[str] = []

RANDOM = (
    "Flip", "Rotation", "Zoom", "Translation", "Contrast", "Brightness", "Height", "Width",
    "Erasing", "Saturation", "Hue", "Sharpness", "ColorJitter", "Grayscale", "Invert",
    "Posterization", "ColorDegeneration", "Shear", "GaussianBlur", "Perspective",
    "ElasticTransform",
)  # fmt: skip


@row(
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout",
    "GaussianNoise", "ActivityRegularization", "Identity", "RandAugment", "AugMix", "MixUp",
    "CutMix", *(f"Random{name}" for name in RANDOM),
)  # fmt: skip
def nothing(c: Config, w: Weights) -> nn.Module:
    """What works in training only."""
    return Layer(lambda p, x: x)


@row("Flatten")
def flatten(c: Config, w: Weights) -> nn.Module:
    def compute(p: nn.Module, x: Tensor) -> Tensor:
        x = x if c.last else channels_last(x)
        return x.unsqueeze(1) if x.ndim == 1 else x.flatten(1)

    return Layer(compute)


@row("Reshape")
def reshape(c: Config, w: Weights) -> nn.Module:
    target = list(c["target_shape"])

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        known = 1
        for size in target:
            known *= size if size != -1 else 1
        shape = [size if size != -1 else math.prod(x.shape[1:]) // known for size in target]
        return x.reshape(-1, *shape)

    return Layer(compute)


@row("Permute")
def permute(c: Config, w: Weights) -> nn.Module:
    dims = list(c["dims"])
    return Layer(lambda p, x: x.permute(0, *dims))


@row("RepeatVector")
def repeat(c: Config, w: Weights) -> nn.Module:
    (n,) = c.sizes("n", 1)
    return Layer(lambda p, x: x.unsqueeze(1).expand(-1, n, -1))


def _pairs(c: Config, key: str, axes: int, default: Any) -> list[list[int]]:
    """((before, after), ...) from a number, one number an axis, or pairs."""
    value = c.get(key, default)
    value = [value] * axes if isinstance(value, int) else list(value)
    if axes == 1 and len(value) == 2:
        value = [value]
    pairs = [[v, v] if isinstance(v, int) else list(v) for v in value]
    if len(pairs) != axes or not all(
        len(p) == 2 and all(type(v) is int and v >= 0 for v in p) for p in pairs
    ):
        raise c.fail(f"{key}={value!r} should be (before, after) for each of {axes} axes")
    return pairs


@row("ZeroPadding1D", "ZeroPadding2D")
def zero_padding(c: Config, w: Weights) -> nn.Module:
    pairs = _pairs(c, "padding", 1 if "1D" in c.class_name else 2, 1)
    flat = [side for pair in reversed(pairs) for side in pair]
    return Layer(lambda p, x: F.pad(x, [0, 0, *flat] if c.last else flat))


@row("Cropping1D", "Cropping2D")
def cropping(c: Config, w: Weights) -> nn.Module:
    pairs = _pairs(c, "cropping", 1 if "1D" in c.class_name else 2, 0)
    start = 1 if c.last else 2

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        for axis, (before, after) in enumerate(pairs, start):
            if before or after:
                x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x

    return Layer(compute)


@row("UpSampling1D")
def upsample_series(c: Config, w: Weights) -> nn.Module:
    (times,) = c.sizes("size", 1, 2)

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        wide = x.unsqueeze(2).expand(-1, -1, times, -1)
        return wide.reshape(-1, x.shape[1] * times, x.shape[2])

    return Layer(compute)


@row("UpSampling2D", "Resizing")
def upsample_image(c: Config, w: Weights) -> nn.Module:
    resizing = c.class_name == "Resizing"
    c.only("interpolation", *(("bilinear", "nearest") if resizing else ("nearest", "bilinear")))
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        c.only(option, False)
    mode = c.get("interpolation", "bilinear" if resizing else "nearest")
    times = None if resizing else c.sizes("size", 2, 2)
    fixed = (int(c["height"]), int(c["width"])) if resizing else None

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        x = channels_first(x) if c.last else x
        size = fixed or tuple(s * t for s, t in zip(x.shape[2:], times, strict=True))
        x = F.interpolate(x, size=size, mode=mode)
        return channels_last(x) if c.last else x

    return Layer(compute)

"""Augmentation: the same class, another sample. torch alone, on whole batches.

Every draw is a function of the seed and the step, made for the whole batch before it is shared
out, so that a training that was interrupted, or spread over processes, sees the same samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..record import TensorSpec

__all__ = ["AUGMENTATIONS", "Augment"]

MARGIN = 1 / 8  # of the side, for crops; of the length, for shifts
NOISE = 0.1  # of the batch's standard deviation, at most
MIXUP = 0.2  # alpha of arXiv:1710.09412


def _crop(x: Tensor, draw: Tensor) -> Tensor:
    """Each image moved by up to an eighth of its side either way, zeros coming in."""
    n, _, height, width = x.shape
    down, right = max(1, round(height * MARGIN)), max(1, round(width * MARGIN))
    padded = F.pad(x, (right, right, down, down))
    top = (draw[:, 0] * (2 * down + 1)).long()
    left = (draw[:, 1] * (2 * right + 1)).long()
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    samples = torch.arange(n, device=x.device)[:, None, None]
    return padded[samples, :, rows[:, :, None], columns[:, None]].movedim(-1, 1)


def _flip(x: Tensor, draw: Tensor) -> Tensor:
    """Half of the images seen in a mirror."""
    return torch.where((draw[:, 0] < 0.5)[:, None, None, None], x.flip(-1), x)


def _randaugment(x: Tensor, draw: Tensor) -> Tensor:
    """Two distortions of each image, drawn of seven, of drawn strength.

    After Cubuk et al. 2020, "RandAugment" (arXiv:1909.13719): those that can be said of
    normalised images: identity, brightness, contrast, horizontal and vertical shear, rotation, and
    a hole in the picture (Cutout, arXiv:1708.04552).
    """
    for at in (0, 4):
        kind, strength = (draw[:, at] * 7).long(), draw[:, at + 1] * 2 - 1
        spread = x.flatten(1).std(1)[:, None, None, None]
        mean = x.mean((1, 2, 3), keepdim=True)
        s = strength[:, None, None, None]
        brighter = x + 0.3 * s * spread
        sharper = mean + (x - mean) * (1 + 0.5 * s)
        holed = x * ~_square(x, draw[:, at + 2], draw[:, at + 3], torch.full_like(strength, 1 / 3))
        turned = _turn(x, kind, strength)
        choices = (x, brighter, sharper, turned, turned, turned, holed)
        chosen = x
        for i, choice in enumerate(choices[1:], 1):
            chosen = torch.where((kind == i)[:, None, None, None], choice, chosen)
        x = chosen
    return x


def _turn(x: Tensor, kind: Tensor, strength: Tensor) -> Tensor:
    """Shear along an axis (kinds 3 and 4), or a rotation by up to 30 degrees (kind 5)."""
    angle = strength * (torch.pi / 6) * (kind == 5)
    matrix = torch.zeros(len(x), 2, 3, device=x.device, dtype=x.dtype)
    matrix[:, 0, 0] = matrix[:, 1, 1] = torch.cos(angle)
    matrix[:, 0, 1] = -torch.sin(angle) + 0.3 * strength * (kind == 3)
    matrix[:, 1, 0] = torch.sin(angle) + 0.3 * strength * (kind == 4)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _square(x: Tensor, down: Tensor, right: Tensor, side: Tensor) -> Tensor:
    """A mask (n, 1, height, width) that is true in a square, its side a share of the image's."""
    within = []
    for size, centre in ((x.shape[2], down), (x.shape[3], right)):
        places = (torch.arange(size, device=x.device) + 0.5) / size
        within.append((places - centre[:, None]).abs() < side[:, None] / 2)
    return (within[0][:, :, None] & within[1][:, None])[:, None]


def _shift(x: Tensor, draw: Tensor) -> Tensor:
    """Each signal moved along its last axis by up to an eighth, zeros coming in."""
    length = x.shape[-1]
    most = max(1, round(length * MARGIN))
    by = (draw[:, 0] * (2 * most + 1)).long() - most
    at = torch.arange(length, device=x.device) - by[:, None]
    inside = ((at >= 0) & (at < length)).reshape(len(x), *[1] * (x.ndim - 2), length)
    at = at.clamp(0, length - 1).reshape(inside.shape).expand(x.shape)
    return x.gather(-1, at) * inside


def _noise(x: Tensor, draw: Tensor) -> Tensor:
    """White noise of drawn strength; the numbers themselves come from torch's seeded generator."""
    strength = (NOISE * x.std() * draw[:, 0]).reshape(-1, *[1] * (x.ndim - 1))
    return x + strength * torch.randn_like(x)


# name -> (what it does, how many numbers in [0, 1) a sample it draws); those that mix samples need
# the targets too
AUGMENTATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor] | None, int]] = {
    "crop": (_crop, 2),
    "flip": (_flip, 1),
    "randaugment": (_randaugment, 8),
    "shift": (_shift, 1),
    "noise": (_noise, 1),
    "mixup": (None, 0),
    "cutmix": (None, 3),
}
IMAGES = ("crop", "flip", "randaugment", "cutmix")


class Augment:
    """Augmentations of a model's first input.

    Args:
        names: of `AUGMENTATIONS`.
        spec: of the input.
        classes: how many, so that mixed targets can be written as probabilities.

    Raises:
        InputError: one that this input cannot take.
    """

    def __init__(self, names: tuple[str, ...], spec: TensorSpec, classes: int):
        self.names = [name for name in AUGMENTATIONS if name in names]
        self.classes = classes
        self.last = spec.layout == "NHWC"
        for name in self.names:
            if "float" not in spec.dtype:
                raise InputError(
                    f"'{name}' augments numbers, and '{spec.name}' takes {spec.dtype}: leave it out"
                )
            if name in IMAGES and len(spec.shape) != 4:
                raise InputError(
                    f"'{name}' augments images, and '{spec.name}' has shape {list(spec.shape)}: "
                    "leave it out"
                )

    def draw(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        """The numbers for a batch of `n`, float32 (n, count) by name."""
        drawn = {
            name: rng.random((n, AUGMENTATIONS[name][1]), dtype=np.float32) for name in self.names
        }
        if "mixup" in drawn:
            share = rng.beta(MIXUP, MIXUP, (n, 1)).astype(np.float32)
            drawn["mixup"] = np.maximum(share, 1 - share)
        return drawn

    def __call__(
        self, x: Tensor, targets: Tensor | None, drawn: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """The batch and its targets; mixed classes become probabilities (n, classes)."""
        x = x.movedim(-1, 1) if self.last else x
        for name in self.names:
            change = AUGMENTATIONS[name][0]
            if change is not None:
                x = change(x, drawn[name])
                continue
            # The batch is in random order already: each sample is mixed with the one before.
            if name == "mixup":  # Zhang et al. 2018, arXiv:1710.09412
                share = drawn[name]
                x = _mixed(x, share)
            else:  # Yun et al. 2019, arXiv:1905.04899, with its share drawn evenly
                other = _square(x, *drawn[name][:, :2].T, drawn[name][:, 2].sqrt())
                x = torch.where(other, x.roll(1, 0), x)
                share = 1 - other.to(x.dtype).mean((1, 2, 3))[:, None]
            if targets is not None and not targets.is_floating_point():
                targets = F.one_hot(targets, self.classes).to(x.dtype)
            targets = None if targets is None else _mixed(targets, share)
        return x.movedim(1, -1) if self.last else x, targets


def _mixed(x: Tensor, share: Tensor) -> Tensor:
    share = share.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    return share * x + (1 - share) * x.roll(1, 0)

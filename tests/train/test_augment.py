"""Mixed images: whose pixels they are made of, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgewise.errors import InputError
from edgewise.record import TensorSpec
from edgewise.train.augment import AUGMENTATIONS, IMAGES, Augment

CLASSES = 5


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose every pixel is their own number; classes."""
    x = torch.arange(n).float().reshape(n, 1, 1, 1).expand(n, 3, 12, 8)
    return x.contiguous(), torch.arange(n) % CLASSES


def applied(name: str, x: torch.Tensor, y: torch.Tensor, layout: str = "NCHW"):
    spec = TensorSpec("x", (1, *x.shape[1:]), "float32", layout)
    augment = Augment((name,), spec, CLASSES)
    drawn = augment.draw(np.random.default_rng(0), len(x))
    return augment(x, y, {key: torch.from_numpy(value) for key, value in drawn.items()})


def test_cutmix_puts_a_square_of_the_sample_before_and_says_how_much():
    x, y = batch()
    mixed, targets = applied("cutmix", x, y)
    other = mixed == x.roll(1, 0)
    assert ((mixed == x) | other).all()
    share = other.float().mean((1, 2, 3))
    one_hot = torch.eye(CLASSES)
    want = (1 - share)[:, None] * one_hot[y] + share[:, None] * one_hot[y].roll(1, 0)
    assert torch.allclose(targets, want)
    assert share.min() < 0.05
    assert share.max() > 0.5
    for mask in other[:, 0]:  # a rectangle: the product of its rows and columns
        assert torch.equal(mask, mask.any(1)[:, None] & mask.any(0)[None])


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_what_is_said_of_mixed_images_sums_to_one_and_needs_no_labels(name):
    x, y = batch()
    mixed, targets = applied(name, x, y)
    assert torch.allclose(targets.sum(1), torch.ones(len(x)))
    alone, none = applied(name, x, None)
    assert none is None
    assert torch.equal(alone, mixed)


@pytest.mark.parametrize("name", IMAGES)
def test_images_with_channels_last_change_alike(name):
    x = torch.randn(8, 3, 12, 8)
    y = torch.arange(8) % CLASSES
    first, targets = applied(name, x, y)
    last, same = applied(name, x.movedim(1, -1), y, "NHWC")
    assert torch.equal(last.movedim(-1, 1), first)
    assert torch.equal(same, targets)
    assert first.shape == x.shape
    assert not torch.equal(first, x)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_the_numbers_drawn_decide_the_result(name):
    x, y = batch(8)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(applied(name, x, y)[0])
    assert torch.equal(*results)


def test_cutmix_is_for_images():
    with pytest.raises(InputError, match="'cutmix' augments images, and 'x' has shape"):
        Augment(("cutmix",), TensorSpec("x", (1, 12), "float32"), 3)

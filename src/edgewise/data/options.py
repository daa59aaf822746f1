"""What a caller may say about data: how to read them and what the numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The options of `edgewise.load_data` that travel with the data.

    Attributes:
        target: the column of a table that is to be predicted.
        classes: names of the classes in the order of the model's outputs.
        resize: how images come to the model's size: an integer scales the shorter side to that
            many pixels and cuts out the centre, "squash" scales both sides.
        scale: factor on every number; 1 gives uint8 pixels to a float model as they are.
        normalize: mean and standard deviation of values in 0..1, one number each or one a channel:
            ``(x * scale - mean) / std``, where `scale` is 1/255 for uint8 unless it is given.
    """

    target: str | None = None
    classes: tuple[str, ...] | None = None
    resize: int | Literal["squash"] | None = None
    scale: float | None = None
    normalize: tuple[Sequence[float] | float, Sequence[float] | float] | None = None

    def __post_init__(self) -> None:
        resize = self.resize
        if resize not in (None, "squash") and not (isinstance(resize, int) and resize > 0):
            raise InputError(f"resize is a number of pixels or 'squash', found {resize!r}")
        if self.scale is not None and not (np.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"scale is a positive number, found {self.scale!r}")
        if self.normalize is None:
            return
        try:
            mean, std = (np.atleast_1d(np.asarray(v, np.float64)) for v in self.normalize)
            good = mean.ndim == 1 and mean.shape == std.shape and bool((std > 0).all())
            good = good and bool(np.isfinite(mean).all() and np.isfinite(std).all())
        except (TypeError, ValueError):
            good = False
        if not good:
            raise InputError(
                "normalize is a mean and a positive standard deviation, one number each or one a "
                f"channel, found {self.normalize!r}"
            )

    @property
    def converts(self) -> bool:
        """Whether numbers are to be scaled or normalised."""
        return self.scale is not None or self.normalize is not None

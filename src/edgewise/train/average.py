"""Running averages of weights, which are what is judged and handed back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Average"]

SWA_FROM = 0.75  # of the steps


class Average:
    """The average of a module's parameters and running statistics.

    Args:
        how: a decay (0 for none: the weights themselves), or ``"swa"``: evenly over the last
            quarter of the steps (arXiv:1803.05407, algorithm 1).
    """

    def __init__(self, module: nn.Module, how: float | str):
        self.how = how
        self.live = {name: t for name, t in _tensors(module) if t.is_floating_point()}
        self.mean: dict[str, Tensor] = {}
        if how != 0:
            self.mean = {name: t.detach().clone() for name, t in self.live.items()}

    @torch.no_grad()
    def update(self, step: int, steps: int) -> None:
        """Take in the weights after step `step` (from 0) of `steps`."""
        if not self.mean:
            return
        if self.how == "swa":
            first = int(steps * SWA_FROM)
            # Before that, the weights themselves.
            weight = 1.0 if step < first else 1 / (step - first + 1)
        else:
            # As in Adam, the first steps must not weigh forever.
            weight = 1 - min(self.how, (1 + step) / (10 + step))
        for name, mean in self.mean.items():
            mean.lerp_(self.live[name].detach(), weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module with the averages in it, for as long as this lasts."""
        kept = {name: self.live[name].detach().clone() for name in self.mean}
        self._put(self.mean)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.live[name].copy_(value)


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]

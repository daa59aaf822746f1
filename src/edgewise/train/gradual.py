"""Sparsity that rises while a Model is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, fx

from ..errors import InputError
from ..math.sparsity import erdos_renyi, lamp, shared

__all__ = ["RisingSparsity"]

ALLOCATIONS = ("layer", "global", "erdos-renyi", "lamp")
CRITERIA = ("magnitude", "movement")


@dataclass(frozen=True)
class RisingSparsity:
    """Make ever more of the least important weights zero, for `Training.changes`.

    Zhu and Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878), equation 1: the share of
    zeros is ``amount * (1 - (1 - t)^3)``, in which t goes from 0 to 1 between `begin` and `end`.
    Zeros stay zero; what a training keeps is the best of the weights after `end`.

    Attributes:
        amount: the share of zeros in the end, in [0, 1).
        begin, end: shares of the training.
        allocation: how the amount is shared out, as of `Sparsify`.
        keep: parameters to leave whole, as names or patterns.
        stages: in so many equal parts of time.
        criterion: ``"magnitude"``: the smallest first; or ``"movement"``: those first that training
            moved towards zero (arXiv:2005.07683), which suits a model that learns another task than
            it knew. That needs a `begin` above 0, for at first nothing has moved.
    """

    amount: float = 0.8
    begin: float = 0.0
    end: float = 0.7
    allocation: str = "global"
    keep: tuple[str, ...] = ()
    stages: int = 100
    criterion: str = "magnitude"

    def __post_init__(self):
        if not 0 <= self.amount < 1:
            raise InputError(f"amount is a share in [0, 1), found {self.amount}")
        if not 0 <= self.begin < self.end <= 1:
            raise InputError(
                f"begin and end are shares of the training, found {self.begin} and {self.end}"
            )
        if self.allocation not in ALLOCATIONS:
            raise InputError(
                f"unknown allocation '{self.allocation}': choose one of {', '.join(ALLOCATIONS)}"
            )
        if self.stages < 1:
            raise InputError(f"stages must be at least 1, found {self.stages}")
        if self.criterion not in CRITERIA:
            raise InputError(
                f"unknown criterion '{self.criterion}': choose one of {', '.join(CRITERIA)}"
            )
        if self.needs_movement and (self.begin == 0 or self.allocation == "lamp"):
            raise InputError(
                "movement needs a begin above 0 (as 0.1), for at first nothing has moved, and "
                f"another allocation than lamp; found {self.begin:g} and {self.allocation}"
            )

    @property
    def needs_movement(self) -> bool:
        return self.criterion == "movement"

    def share(self, at: float) -> float:
        """The share of zeros when so much of the training is done."""
        t = min(1.0, max(0.0, (at - self.begin) / (self.end - self.begin)))
        # The last stage begins before the end, so that even a short training reaches it.
        stage = min(self.stages, int(t * (self.stages + 1)))
        return self.amount * (1 - (1 - stage / self.stages) ** 3)

    @torch.no_grad()
    def __call__(self, module: fx.GraphModule, at: float, movement: Mapping[str, Tensor]) -> bool:
        weights = dict(self._weights(module))
        total = sum(w.numel() for w in weights.values())
        zeros = sum(int((w == 0).sum()) for w in weights.values())
        share = self.share(at)
        if zeros >= round(share * total) - len(weights):
            return False
        sizes = {name: weight.abs() for name, weight in weights.items()}
        if self.needs_movement:
            sizes = _ranked({name: movement[name] for name in weights}, sizes)
        for name, mask in self._masks(sizes, share).items():
            weights[name].mul_(mask)
        return True

    def _weights(self, module: fx.GraphModule) -> Iterator[tuple[str, Tensor]]:
        for name, weight in module.named_parameters():
            if weight.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in self.keep):
                yield name, weight

    def _masks(self, sizes: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        if self.allocation == "global":
            return shared(sizes, share)
        if self.allocation == "lamp":
            return shared({name: lamp(size) for name, size in sizes.items()}, share)
        shares = [share] * len(sizes)
        if self.allocation == "erdos-renyi":
            shares = erdos_renyi([size.shape for size in sizes.values()], share)
        return {
            name: shared({name: size}, part)[name]
            for (name, size), part in zip(sizes.items(), shares, strict=True)
        }


def _ranked(scores: Mapping[str, Tensor], sizes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores, lifted above 0; 0 for what is zero already and must stay so."""
    least = min(float(score.min()) for score in scores.values())
    return {
        name: torch.where(sizes[name] == 0, 0.0, score.double() - least + 1e-300)
        for name, score in scores.items()
    }

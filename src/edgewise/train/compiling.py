"""torch.compile where it pays."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import StepError

__all__ = ["faster"]

ROUNDS = 3


def faster(learner: nn.Module, loss_of: Callable[[nn.Module], Tensor]) -> nn.Module:
    """`learner`, compiled if its steps then take less time on this machine, else as it is.

    Args:
        learner: stays as it is: a copy is tried.
        loss_of: calls a module on real samples.

    Raises:
        StepError: it cannot be compiled here.
    """
    plain = copy.deepcopy(learner)
    compiled = torch.compile(copy.deepcopy(learner))
    seconds: dict[nn.Module, list[float]] = {plain: [], compiled: []}
    try:
        for round_ in range(ROUNDS + 1):
            for module, taken in seconds.items():
                start = time.perf_counter()
                loss_of(module).backward()
                module.zero_grad()
                if round_:  # the first compiles
                    taken.append(time.perf_counter() - start)
    except Exception as error:
        raise StepError(
            f"the model cannot be compiled here, train without compile: {_first_line(error)}"
        ) from error
    return torch.compile(learner) if min(seconds[compiled]) < min(seconds[plain]) else learner


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

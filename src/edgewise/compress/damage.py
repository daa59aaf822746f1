"""Damage: how far the outputs move when one group of channels alone is pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import as_data
from ..errors import InputError
from ..graph.axes import analyse
from ..math.importance import Criterion
from ..model import Model
from .prune import Prune

__all__ = ["Damage", "damage"]

BATCH = 32


@dataclass(frozen=True)
class Damage:
    """One group at one amount.

    Attributes:
        group: as `Prune` names it.
        amount: the share of its units that was cut.
        divergence: mean square of what the outputs moved by, over their own variance.
        changed: share of samples whose largest output is another one; of the first output.
    """

    group: str
    amount: float
    divergence: float
    changed: float


def damage(
    model: Model,
    data: Any,
    amounts: Sequence[float] = (0.25, 0.5, 0.75),
    criterion: str | Criterion = "l1",
    samples: int = 128,
) -> tuple[Damage, ...]:
    """Prune each group alone by each amount and compare the outputs on real inputs, no labels.

    Args:
        data: anything that `edgewise.load_data` takes; its calibration samples are used.
        amounts: shares in [0, 1).
        criterion: as of `Prune`.
        samples: at most so many.

    Raises:
        InputError: no amounts, or what `Prune` refuses.
    """
    if not amounts:
        raise InputError("give at least one amount")
    data = as_data(data, signature=model.signature)
    batches = [x for x, _ in data.require("calibration").subset(samples).batches(BATCH)]
    whole = _outputs(model, batches)
    rows = []
    for group in analyse(model.graph, model.signature).groups:
        for amount in amounts:
            small = Prune({group.name: amount}, criterion=criterion, samples=samples)(model, data)
            rows.append(Damage(group.name, amount, *_moved(_outputs(small, batches), whole)))
    return tuple(rows)


def _outputs(model: Model, batches: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
    """The first output for all samples, (n, ...)."""
    found = [model(*inputs) for inputs in batches]
    return np.concatenate([f[0] if isinstance(f, tuple) else f for f in found])


def _moved(small: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    variance = np.square(whole - whole.mean(0)).mean()
    divergence = np.square(small - whole).mean() / max(variance, np.finfo(np.float32).tiny)
    small, whole = (v.reshape(len(v), -1).argmax(1) for v in (small, whole))
    return float(divergence), float((small != whole).mean())

"""Which samples serve what: those that choose a recipe never tell how good it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data import Data, Split
from ..data.divide import balanced
from ..errors import DataError
from ..run import Samples

__all__ = ["Roles", "assign"]

MOST = 5000  # samples that choose
LEAST = 20  # of each


@dataclass(frozen=True)
class Roles:
    """The samples of a search.

    Attributes:
        data: calibration and training, for the steps.
        selection: chooses.
        test: tells, once.
        labelled: whether these two have targets.
        notes: how this came about, a sentence each.
    """

    data: Data
    selection: Split
    test: Split
    labelled: bool
    notes: tuple[str, ...]

    @property
    def counts(self) -> Samples:
        """How many there are of each."""
        sizes = (0 if s is None else len(s) for s in (self.data.calibration, self.data.training))
        return Samples(*sizes, len(self.selection), len(self.test), self.labelled)


def assign(data: Data, seed: int) -> Roles:
    """Divide the evaluation samples in two by class: half of them, at most `MOST`, choose.

    A model knows its training samples by heart, so these can neither choose nor tell; only where
    there are no others, a part of them is kept from training for both.

    Raises:
        DataError: fewer than `LEAST` samples for either.
    """
    kept, notes = data, list(data.notes)
    whole = data.evaluation
    if whole is None:
        whole, kept, note = _from_training(data, seed)
        notes.append(note)
    classes = whole.source.classes
    positions = np.arange(len(whole))
    codes = None if classes is None else classes[whole.indices]
    chosen = np.sort(balanced(codes, positions, min(MOST, len(whole) // 2), seed))
    selection = replace(whole, indices=whole.indices[chosen])
    test = replace(whole, indices=whole.indices[np.setdiff1d(positions, chosen)])
    if min(len(selection), len(test)) < LEAST:
        raise DataError(
            f"{len(whole)} samples to judge by are too few to choose on one half and test on the "
            f"other: give at least {2 * LEAST} that no step learns from"
        )
    notes.append(f"{len(selection)} samples chose the recipe, {len(test)} others tested it, once.")
    return Roles(
        replace(kept, evaluation=None), selection, test, whole.source.labelled, tuple(notes)
    )


def _from_training(data: Data, seed: int) -> tuple[Split, Data, str]:
    """Samples held back from training (from calibration, where there is nothing else)."""
    role = "calibration" if data.training is None else "training"
    source = data.require(role)
    order = np.random.default_rng(seed).permutation(len(source))
    free = len(order)
    if role == "training" and data.calibration is not None:
        used = np.isin(source.indices[order], data.calibration.indices)
        order, free = np.concatenate([order[~used], order[used]]), int((~used).sum())
    held, kept = (
        replace(source, indices=source.indices[np.sort(part)])
        for part in np.split(order, [min(2 * MOST, free // 2)])
    )
    note = (
        f"There are no samples for evaluation alone: {len(held)} of the {len(source)} for "
        f"{role} were held back, which `edgewise apply` would not do."
    )
    return held, replace(data, **{role: kept}), note

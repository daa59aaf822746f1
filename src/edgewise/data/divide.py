"""How samples are divided into calibration, training and evaluation."""

from __future__ import annotations

import numpy as np

from ..errors import DataError, InputError
from .options import Options
from .split import Data, Parts, Source, Split

__all__ = ["EVALUATION_SHARE", "balanced", "divide", "hold_out"]

EVALUATION_SHARE = 0.2


def divide(parts: Parts, options: Options, calibration: int, seed: int) -> Data:
    """Give every role its samples.

    Sources that have a role keep it. Samples without one are divided: 20 % are held out for
    evaluation, drawn by class, and the rest is for training. Calibration is a class-balanced
    sample of the training part, never of the evaluation part. Without targets nothing is held
    out, since there is nothing to evaluate.

    Args:
        calibration: the most samples to calibrate with.
        seed: of every draw; the same seed gives the same splits.
    """
    if calibration < 1:
        raise InputError(f"calibration takes at least 1 sample, found {calibration}")
    for source in parts.sources.values():
        if len(source) == 0:
            raise DataError(f"{source.name} has no sample: give at least one")
    if len({source.labels for source in parts.sources.values()}) > 1:
        raise DataError("the parts of the data have different classes: give classes= for all")
    notes = list(parts.notes)
    given = {role: Split(s, np.arange(len(s))) for role, s in parts.sources.items()}
    whole = given.pop("whole", None)
    if whole is not None:
        notes += _divide_whole(whole.source, given, calibration, seed)
    training = given.get("training")
    if training is not None and "calibration" not in given:
        chosen = balanced(training.source.classes, training.indices, calibration, seed)
        given["calibration"] = Split(training.source, chosen)
    if "calibration" not in given:
        notes.append("samples for evaluation are never used to calibrate or train")
    return Data(**given, options=options, notes=tuple(notes))


def _divide_whole(
    source: Source, given: dict[str, Split], calibration: int, seed: int
) -> list[str]:
    """Divide samples without a role; the notes say how."""
    n = len(source)
    if not source.labelled:
        role = "calibration" if n <= calibration else "training"
        given[role] = Split(source, np.arange(n))
        only = "used for calibration only" if role == "calibration" else "none held out"
        return [f"the {n} samples have no targets, so there is nothing to evaluate: {only}"]
    kept, held = hold_out(source.classes, n, seed)
    given["training"] = Split(source, kept)
    if len(held) == 0:
        return [f"{n} samples are too few to hold any out for evaluation"]
    given["evaluation"] = Split(source, held)
    how = "at random" if _strata(source.classes) is None else "by class"
    return [f"{len(held)} of {n} samples held out for evaluation, drawn {how} with seed {seed}"]


def hold_out(classes: np.ndarray | None, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to keep and indices to hold out, each sorted; 20 % of `n` are held out.

    Every class gives its share, rounded up or down so that the total comes out right (largest
    remainders), and keeps at least one sample.
    """
    rng = np.random.default_rng(seed)
    codes = _strata(classes)
    if codes is None:
        codes = np.zeros(n, np.int64)
    sizes = np.bincount(codes)
    quota = EVALUATION_SHARE * sizes
    held = np.floor(quota).astype(np.int64)
    missing = round(EVALUATION_SHARE * n) - held.sum()
    by_remainder = np.lexsort((rng.random(len(sizes)), held - quota))
    can_give = [c for c in by_remainder if held[c] + 1 < sizes[c]]
    held[can_give[:missing]] += 1
    order = rng.permutation(n)
    members = [order[codes[order] == c] for c in range(len(sizes))]
    chosen = np.sort(np.concatenate([m[:k] for m, k in zip(members, held, strict=True)]))
    return np.setdiff1d(np.arange(n), chosen), chosen


def balanced(classes: np.ndarray | None, indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Up to `count` of `indices`, as many of each class as there are, in mixed order.

    The classes take turns, so the first few are balanced as well.
    """
    order = np.random.default_rng(seed).permutation(indices)
    codes = _strata(None if classes is None else classes[order])
    if codes is None:
        return order[:count]
    turn = np.empty(len(order), np.int64)
    for c in range(codes.max() + 1):
        members = np.flatnonzero(codes == c)
        turn[members] = np.arange(len(members))
    return order[np.argsort(turn, kind="stable")[:count]]


def _strata(classes: np.ndarray | None) -> np.ndarray | None:
    """Classes counted from 0; None where there are none worth balancing (counts, ages, ...)."""
    if classes is None or len(classes) == 0:
        return None
    names, codes = np.unique(classes, return_inverse=True)
    return codes if 2 * len(names) <= len(classes) else None

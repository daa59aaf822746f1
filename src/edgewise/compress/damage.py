"""Sensitivity: how far the outputs move when one group of channels alone is pruned."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Data, as_data
from ..data.split import Batch
from ..errors import InputError, StepError
from ..graph.axes import Coupling, analyse
from ..graph.surgery import cut
from ..math.importance import Criterion
from ..metric import Metric, get_metric
from ..model import Model
from ..record import Curves, Damage, decode, encode
from .budget import Budget
from .scores import calibration, check_criterion, unit_scores

__all__ = ["Moved", "kept_in", "sensitivity"]

BATCH = 64
Progress = Callable[[int, int], None]
_KEPT: ContextVar[tuple[Path, Progress] | None] = ContextVar("_KEPT", default=None)


@contextmanager
def kept_in(folder: Path, progress: Progress) -> Iterator[None]:
    """The folder and the progress of all sensitivities meanwhile, also those that a step asks for:
    a search prunes the same network by many amounts, and may be stopped."""
    before = _KEPT.set((folder, progress))
    try:
        yield
    finally:
        _KEPT.reset(before)


def sensitivity(
    model: Model,
    data: Any,
    amounts: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    criterion: str | Criterion = "l1",
    samples: int = 256,
    metric: str | Metric | Callable[..., Any] = "accuracy",
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Curves:
    """Prune each group alone by each amount, and compare the outputs on real samples.

    Nothing is trained or reconstructed in between: what one group costs by itself.

    Args:
        model: the float model.
        data: anything that `edgewise.load_data` takes; its calibration samples are looked at.
            Where they have targets the metric is taken too.
        amounts: shares of a group's units, in [0, 1).
        criterion: which units of a group go; as of `Prune`.
        samples: at most so many.
        metric: as `edgewise.measure` takes it.
        folder: keeps what was found, by the content of the model and of the samples; what is
            there already is not computed again, so that a run that was stopped goes on. By
            default that of `kept_in`, if any.
        progress: is called with the number of rows done and in all.

    Raises:
        InputError: no amounts, one outside [0, 1), or a folder that cannot be written.
        StepError: the model is quantized, or has no groups.
        DataError: no calibration samples.
    """
    check_criterion(criterion)
    if not amounts or not all(0 <= a < 1 for a in amounts):
        raise InputError(f"amounts are one or more shares in [0, 1), found {list(amounts)}")
    if folder is not None and callable(criterion):
        raise InputError("what a function of your own chooses cannot be kept: leave folder=")
    if (kept := _KEPT.get()) is not None and folder is None:
        folder, progress = None if callable(criterion) else kept[0], kept[1]
    if model.quantized:
        raise StepError("the model is quantized already: ask before it is quantized")
    data = as_data(data, signature=model.signature)
    coupling = analyse(model.graph, model.signature)
    batches = list(calibration(data, samples, "sensitivity").batches(BATCH))
    judge = Moved(model.graph, batches, get_metric(metric))
    found = Curves(
        criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "criterion"),
        sum(len(inputs[0]) for inputs, _ in batches),
        metric=judge.metric.name if judge.metric else None,
        value=judge.value,
    )
    store = None if folder is None else _Store(Path(folder), _digest(model, batches, found))
    rows = {(r.group, r.amount): r for r in (store.read() if store else ())}
    asked = [(g.name, float(a)) for g in coupling.groups for a in sorted(set(amounts))]
    missing = [key for key in asked if key not in rows]
    pruned = _Pruned(model, coupling, criterion, data, samples) if missing else None
    for done, (group, amount) in enumerate(missing):
        if progress is not None:
            progress(len(asked) - len(missing) + done, len(asked))
        rows[group, amount] = Damage(group, amount, *judge(pruned(group, amount)))
        if store:
            store.write(replace(found, rows=tuple(rows.values())))
    if progress is not None:
        progress(len(asked), len(asked))
    return replace(found, rows=tuple(rows[key] for key in asked))


class _Pruned:
    """The network without the least important units of one group."""

    def __init__(self, model: Model, coupling: Coupling, criterion, data: Data, samples: int):
        self.model, self.coupling = model, coupling
        scores = unit_scores(model, coupling, criterion, data, samples)
        self.budget = Budget(coupling, model.graph, scores, {}, 1)

    def __call__(self, group: str, amount: float) -> torch.fx.GraphModule:
        shares = dict.fromkeys((g.name for g in self.coupling.groups), 0.0) | {group: amount}
        units = replace(self.budget, shares=shares).choose(None, "units", "layer")
        return cut(self.model.module(), self.coupling, units)


class Moved:
    """What a changed network gives beside the whole one.

    Args:
        module: the whole one.
        batches: samples to compare on.
        metric: is taken where the samples have targets.
    """

    def __init__(
        self, module: torch.fx.GraphModule, batches: list[Batch], metric: Metric | None = None
    ):
        self.batches = batches
        self.metric = metric if batches[0][1] is not None else None
        outputs = self._outputs(module)
        self.whole = np.concatenate([o[0] for o in outputs])
        self.value = self._score(outputs)

    def __call__(self, module: torch.fx.GraphModule) -> tuple[float, float, float | None]:
        """Divergence, the share that changed, and the metric."""
        outputs = self._outputs(module)
        small = np.concatenate([o[0] for o in outputs])
        variance = np.square(self.whole - self.whole.mean(0)).mean()
        divergence = np.square(small - self.whole).mean() / max(variance, np.finfo(np.float32).tiny)
        choices = (v.reshape(len(v), -1).argmax(1) for v in (small, self.whole))
        changed = np.not_equal(*choices).mean()
        return float(divergence), float(changed), self._score(outputs)

    def _outputs(self, module: torch.fx.GraphModule) -> list[tuple[np.ndarray, ...]]:
        with torch.no_grad():
            return [
                tuple(o.numpy() for o in module(*map(torch.from_numpy, inputs)))
                for inputs, _ in self.batches
            ]

    def _score(self, outputs: list[tuple[np.ndarray, ...]]) -> float | None:
        if self.metric is None:
            return None
        tally = self.metric.tally()
        for given, (_, targets) in zip(outputs, self.batches, strict=True):
            tally.update(given if len(given) > 1 else given[0], targets)
        return float(tally.compute().value)


class _Store:
    """Rows that were found before, in one file named after what they were found on."""

    def __init__(self, folder: Path, digest: str):
        self.path = folder / f"sensitivity-{digest}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot hold what is found: {error.strerror}") from None

    def read(self) -> tuple[Damage, ...]:
        """Raises: InputError: the file is damaged."""
        if not self.path.is_file():
            return ()
        return decode(self.path.read_bytes(), Curves, str(self.path)).rows

    def write(self, curves: Curves) -> None:
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(encode(curves))
            partial.replace(self.path)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None


def _digest(model: Model, batches: list[Batch], found: Curves) -> str:
    """Of the model, the samples, and how units are chosen and judged: 16 hexadecimal digits."""
    digest = hashlib.sha256(f"1 {found.criterion} {found.metric}".encode())
    digest.update(model.graph.code.encode())
    for name, value in sorted(model.graph.state_dict().items()):
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    for inputs, targets in batches:
        for array in (*inputs, *(() if targets is None else (targets,))):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]

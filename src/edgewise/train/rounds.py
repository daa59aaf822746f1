"""Rounds: prune a little, train, judge; again, until enough is cut or too much is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..compress.judge import judge_on
from ..compress.prune import Prune
from ..data import as_data
from ..errors import InputError
from ..graph.canonical import recorded_shapes
from ..graph.cost import macs
from ..model import Model
from .distill import Distill
from .finetune import Finetune

__all__ = ["PruneRounds", "Round", "Rounds"]


@dataclass(frozen=True)
class Round:
    """One time round.

    Attributes:
        macs, parameters: that are left.
        cut: points lost after pruning, before training.
        drop: points lost after training.
        kept: whether that is within what was allowed.
    """

    macs: int
    parameters: int
    cut: float
    drop: float
    kept: bool


@dataclass(frozen=True)
class Rounds:
    """What came of it.

    Attributes:
        model: the smallest that was within the allowed loss.
        drop: what it loses, in points.
        reached: whether all that was asked for is cut.
        rounds: in order; the last may be one that lost too much.
        judged: what the drop is of, and on how many samples.
    """

    model: Model
    drop: float
    reached: bool
    rounds: tuple[Round, ...]
    judged: str

    def __str__(self) -> str:
        lines = [
            f"{row.macs:,} MACs, {row.parameters:,} parameters: {row.cut:.2f} points lost, "
            f"{row.drop:.2f} after training{'' if row.kept else ': too many'}"
            for row in self.rounds
        ]
        return "\n".join([*lines, f"({self.judged})"])


@dataclass(frozen=True)
class PruneRounds:
    """Prune, train, judge, and again, until an accuracy floor stops it.

    Each round takes the same share of what the one before left (Han et al. 2015, "Learning both
    Weights and Connections", arXiv:1506.02626, section 3.4, for channels).

    Attributes:
        prune: what is to be cut in the end, and how.
        train: `Finetune` or `Distill`, after each round; the latter with the whole model as its
            teacher, usually. A session's folder gets one of its own for each round.
        rounds: in which the amount is reached.
        max_drop: points that may be lost.
        judge: samples on which each round is judged; the report should judge the result on all.
        metric: as `edgewise.measure` takes it; without targets, agreement with the whole model.
    """

    prune: Prune
    train: Finetune | Distill
    rounds: int = 4
    max_drop: float = 1.0
    judge: int = 2000
    metric: str = "accuracy"

    def __post_init__(self):
        if not isinstance(self.prune.amount, int | float):
            raise InputError("shares by group are cut in one go: give one amount for rounds")
        if self.rounds < 1 or self.judge < 1:
            raise InputError("rounds and judge must be at least 1")
        if not self.max_drop >= 0:
            raise InputError(f"max_drop must be at least 0 points, found {self.max_drop}")

    def __call__(
        self, model: Model, data: Any, progress: Callable[[str], None] | None = None
    ) -> Rounds:
        """Go round until the amount is reached or a round loses too much.

        Args:
            model: the float model.
            data: anything that `edgewise.load_data` takes, with samples to train and to judge.
            progress: called with what begins.

        Raises:
            DataError: nothing to train or to judge on.
            StepError: what the steps refuse.
        """
        data = as_data(data, signature=model.signature)
        say = progress or (lambda what: None)
        judge = judge_on(model, data, self.judge, self.metric)
        each = 1 - (1 - self.prune.amount) ** (1 / self.rounds)
        best, drop, rows = model, 0.0, []
        for number in range(1, self.rounds + 1):
            say(f"round {number} of {self.rounds}: pruning")
            cut = replace(self.prune, amount=each)(best, data)
            say(f"round {number} of {self.rounds}: training")
            trained = self._training(number)(cut, data)
            lost = judge.drop(trained)
            rows.append(Round(*_size(trained), judge.drop(cut), lost, lost <= self.max_drop))
            if not rows[-1].kept:
                break
            best, drop = trained, lost
        return Rounds(best, drop, all(row.kept for row in rows), tuple(rows), judge.description)

    def _training(self, number: int) -> Finetune | Distill:
        folder = self.train.session.folder
        if folder is None:
            return self.train
        session = replace(self.train.session, folder=Path(folder) / f"round-{number}")
        return replace(self.train, session=session)


def _size(model: Model) -> tuple[int, int]:
    """Multiply-accumulates of one sample, and parameters."""
    known = recorded_shapes(model.graph, model.signature)  # at batch 3
    total = sum(macs(node, known.get) or 0 for node in known)
    return total // 3, sum(p.numel() for p in model.graph.parameters())

"""Shorten: whole residual blocks fewer; the values pass by where they were."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..data import Data
from ..errors import InputError, StepError
from ..graph.blocks import Block, blocks, without
from ..graph.cost import total_macs
from ..model import Model
from ..step import Plan, Step, searched
from .damage import Moved
from .names import matching
from .scores import calibration

__all__ = ["BlockCut", "Shorten", "ShortenPlan"]

BATCH = 64


@dataclass(frozen=True)
class BlockCut:
    """One block that goes.

    Attributes:
        block: the last layer in it.
        divergence: of the outputs once this block and those before it in the plan are gone: mean
            square of what they moved by, over their variance. None where it was named.
    """

    block: str
    divergence: float | None


@dataclass(frozen=True)
class ShortenPlan(Plan):
    """The blocks that `Shorten` will leave out, in the order in which they were chosen."""

    blocks: tuple[BlockCut, ...]
    macs: tuple[int, int]
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line a block, then the totals."""
        lines = [
            row.block
            + ("" if row.divergence is None else f"  (outputs move by {row.divergence:.3g})")
            for row in self.blocks
        ]
        before, after = self.macs
        return "\n".join([*lines, f"{before:,} -> {after:,} MACs"])


@dataclass(frozen=True)
class Shorten(Step):
    """Leave out residual blocks: branches that are added to what they read.

    One after the other that goes whose loss moves the outputs least on calibration samples, those
    before it being gone already; what is left should be trained again (`Distill`).

    Attributes:
        blocks: how many go; or which, as names or patterns of the last layer in them.
        keep: blocks to leave, likewise.
        samples: at most so many calibration samples are looked at.
    """

    blocks: int | tuple[str, ...] = searched(1, 1, 2, 3)
    keep: tuple[str, ...] = ()
    samples: int = 128

    def __post_init__(self):
        if isinstance(self.blocks, int) and self.blocks < 1:
            raise InputError(f"at least 1 block must go, found {self.blocks}")
        if not isinstance(self.blocks, int) and not self.blocks:
            raise InputError("give the blocks that go, or how many")
        if self.samples < 1:
            raise InputError("samples must be at least 1")

    def requires(self, model: Model) -> None:
        if model.quantized:
            raise StepError(
                "the model is quantized already: shorten the float model, then quantize"
            )

    def plan(self, model: Model, data: Data | None) -> ShortenPlan:
        found = {block.name: block for block in blocks(model.graph, model.signature)}
        if not found:
            raise StepError("no block in this model is added to what it reads")
        kept = {n: "kept as asked" for p in self.keep for n in matching("keep", p, list(found))}
        if isinstance(self.blocks, int):
            free = [block for name, block in found.items() if name not in kept]
            if len(free) < self.blocks:
                raise StepError(
                    f"{len(free)} blocks can be left out, {self.blocks} were asked for: "
                    f"{', '.join(block.name for block in free)}"
                )
            rows = self._least(model, free, data)
        else:
            names = [n for p in self.blocks for n in matching("blocks", p, list(found))]
            rows = [BlockCut(name, None) for name in dict.fromkeys(names) if name not in kept]
        small = without(model.module(), [found[row.block] for row in rows])
        small = Model.of(small, like=model)
        before, after = (total_macs(m.graph, m.signature) for m in (model, small))
        return ShortenPlan(tuple(rows), (before, after), kept)

    def apply(self, model: Model, plan: ShortenPlan) -> Model:
        found = {block.name: block for block in blocks(model.graph, model.signature)}
        for row in plan.blocks:
            if row.block not in found:
                raise StepError(f"the plan's block '{row.block}' is not one of this model's")
        gone = [found[row.block] for row in plan.blocks]
        return Model(without(model.module(), gone), model.signature)

    def _least(self, model: Model, free: list[Block], data: Data | None) -> list[BlockCut]:
        batches = list(calibration(data, self.samples, "choosing blocks").batches(BATCH))
        moved = Moved(model.graph, batches)
        gone: list[Block] = []
        rows = []
        for _ in range(self.blocks):
            tried = [
                (moved(without(model.module(), [*gone, block]))[0], i)
                for i, block in enumerate(free)
                if block not in gone
            ]
            divergence, i = min(tried)
            gone.append(free[i])
            rows.append(BlockCut(free[i].name, divergence))
        return rows

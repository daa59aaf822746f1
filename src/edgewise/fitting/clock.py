"""Clock: every file of a search is timed beside the reference, in turns, when all else rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..data import Split
from ..edge import benchmark
from ..edge.artifact import Artifact
from ..edge.benchmark import Timing
from ..edge.place import Place
from ..goals import Figures
from .quiet import Quiet

__all__ = ["Clock"]

RUNS = {"p50": 80, "p90": 80, "p99": 680}
SITTINGS = 2  # while there are many; the best are timed anew before one is chosen
SURE_RUNS, SURE_SITTINGS = 300, 3
TIMEOUT = 300.0


class Clock:
    """Latency and memory on one device.

    Args:
        place: where.
        quiet: keeps others from computing meanwhile.
        split: real inputs.
        percentile: of the latency.
        threads: of the runtime; None for one a processor.
    """

    def __init__(
        self, place: Place, quiet: Quiet, split: Split, percentile: str, threads: int | None
    ):
        self.place, self.quiet, self.percentile, self.threads = place, quiet, percentile, threads
        self.inputs = split.take(benchmark.FEEDS)[0]
        self.reference: Artifact | None = None  # all others are timed beside it

    def __call__(self, artifact: Artifact, figures: Figures) -> Figures:
        """The figures with what the clock says; the first file is the reference.

        Raises:
            EdgewiseError: the device or the runtime fails.
        """
        if self.reference is None:
            self.reference = artifact
        alone = artifact is self.reference
        found = self._time([artifact] if alone else [artifact, self.reference],
                           RUNS[self.percentile], SITTINGS)  # fmt: skip
        return self._told(figures, found[0], found[-1])

    def again(self, rows: Sequence[tuple[Artifact, Figures]]) -> list[Figures]:
        """Several of them in turns, and longer, so that small differences tell.

        Raises:
            EdgewiseError: as above.
        """
        runs = max(SURE_RUNS, RUNS[self.percentile])
        files = [*(artifact for artifact, _ in rows), self.reference]
        *found, base = self._time(files, runs, SURE_SITTINGS)
        return [self._told(f, timing, base) for (_, f), timing in zip(rows, found, strict=True)]

    def _time(self, files: Sequence[Artifact], runs: int, sittings: int) -> Sequence[Timing]:
        with self.quiet.measuring():
            return benchmark.benchmark(
                files,
                runs=runs if self.place.timed else 1,
                threads=self.threads,
                inputs=[self.inputs] * len(files),
                place=self.place,
                timeout=TIMEOUT,
                sittings=sittings,
            )

    def _told(self, figures: Figures, timing: Timing, base: Timing) -> Figures:
        figures = replace(figures, memory_bytes=timing.memory_bytes)
        if not self.place.timed:
            return figures
        return replace(
            figures,
            energy_mj=timing.energy_mj,
            latency_ms=getattr(timing.latency, self.percentile),
            ratio=_luckiest(timing) / _luckiest(base),
            ratio_ci95=benchmark.compare(timing, base).ci95,
        )


def _luckiest(timing: Timing) -> float:
    """The least median over sittings: with few of them, one that was slow for as long as its
    process lived would tell more than the file does."""
    return float(np.median(timing.ns.reshape(len(timing.ns), -1), axis=1).min())

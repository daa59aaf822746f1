"""Latency as a cost that `Prune` can save a share of: lowered, and timed beside the whole."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from .edge import runners
from .lowering import lower
from .measuring import compare
from .model import Model

__all__ = ["Latency"]


@dataclass(frozen=True)
class Latency:
    """How long a Model takes beside another, on the runtime that will run it.

    ``Prune(0.4, of=Latency("litert"))`` cuts until 40 % of the time is saved. Lowers both, and
    times them in turns, once for each of half a dozen sizes that are tried.

    Attributes:
        runtime: as of `edgewise.lower`.
        device: as of `edgewise.measure`.
        threads: of the runtime; None for one a processor.
        runs: inferences of each that are timed.
    """

    runtime: str
    device: str = "local"
    threads: int | None = None
    runs: int = 200

    def __call__(self, model: Model, whole: Model) -> float:
        """The model's p50 over the whole one's.

        Raises:
            EdgewiseError: one cannot be lowered or measured.
        """
        suffix = runners.get(self.runtime).suffixes[0]
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{name}{suffix}" for name in ("whole", "cut")]
            for each, file in zip((whole, model), files, strict=True):
                lower(each, self.runtime, file)
            found = compare(
                *map(str, files), device=self.device, threads=self.threads, runs=self.runs
            )
        return found.differences[1].latency

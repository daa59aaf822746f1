"""What `quantize` or `lower` wrote, as a record to be printed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..edge.artifact import Artifact
from ..record import Agreement, Event

__all__ = ["Written"]

SPARSE = 0.3  # zeros from which on a model is called sparse


@dataclass(frozen=True)
class Written:
    """A file and how it came about.

    Attributes:
        path: as it was asked for.
        sha256: of the file.
        size_bytes: of the file and its companions.
        plan: the step that wrote it; `skipped` holds every layer that any step until then left
            alone, with its reason.
        runtime, precision, batch, agreement: of an artifact.
        zeros: the share of zeros in the weights of a sparse model that was lowered.
    """

    path: str
    sha256: str
    size_bytes: int
    plan: Event
    runtime: str | None = None
    precision: str | None = None
    batch: int | None = None
    agreement: Agreement | None = None
    zeros: float | None = None

    @classmethod
    def model(cls, path: Path, lineage: tuple[Event, ...]) -> Written:
        """A Model's file."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(str(path), digest, path.stat().st_size, _plan(lineage))

    @classmethod
    def artifact(cls, artifact: Artifact, zeros: float = 0.0) -> Written:
        """A runtime's file.

        Args:
            zeros: their share in the weights of the model that it was made from.
        """
        a = artifact
        return cls(
            str(a.path), a.sha256, a.size_bytes, _plan(a.lineage),
            a.runtime, a.precision, a.batch, a.agreement, zeros if zeros >= SPARSE else None,
        )  # fmt: skip


def _plan(lineage: tuple[Event, ...]) -> Event:
    skipped = {layer: reason for event in lineage for layer, reason in event.skipped.items()}
    return Event(lineage[-1].step, lineage[-1].params, skipped)

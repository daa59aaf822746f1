"""Fitted: what `edgewise.fit` gives back, and the folder that holds it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..edge.artifact import Artifact
from ..errors import InputError
from ..loading import load
from ..model import Model
from ..recipes import write_recipe
from ..record import encode
from ..reporting import report
from ..reporting.report import write
from ..run import FILE, Run, Trial, read_run
from ..step import Recipe

__all__ = ["Fitted", "Folder"]

PAGE, RECIPE, MODEL, BEST, RUNNERS_UP, TRIALS = (
    "report.html", "recipe.yaml", "best.pt2", "best", "runners-up", "trials",
)  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A run's folder and its record; in a notebook it shows the verdicts and the front.

    Attributes:
        folder: with the artifacts, the recipe, the page and every trial's record.
        record: all that was found.
    """

    folder: Path
    record: Run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Fitted:
        """What an earlier fit left there.

        Raises:
            InputError: there is none, or it is damaged.
        """
        return cls(Path(folder), read_run(Path(folder)))

    @property
    def best(self) -> Trial | None:
        """The chosen trial."""
        return None if self.record.best is None else self.record.trial(self.record.best)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other one beats in drop, latency and size at once."""
        return tuple(self.record.trial(number) for number in self.record.front)

    @property
    def holds(self) -> bool:
        """Whether every budget holds."""
        return self.record.holds

    @property
    def artifact(self) -> Artifact:
        """The chosen file.

        Raises:
            InputError: nothing could be chosen.
        """
        if self.best is None or self.best.artifact is None:
            raise InputError(f"{self.folder} has no artifact: no trial could be run")
        return Artifact.open(self.folder / self.best.artifact)

    @property
    def model(self) -> Model:
        """The chosen Model."""
        return load(self.folder / MODEL)

    def __str__(self) -> str:
        from rich.console import Console

        from ..reporting import terminal

        console = Console(width=100, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
        console.print(terminal.run(self.record, page=self.folder / PAGE))
        return console.export_text().rstrip()

    def _repr_html_(self) -> str:
        from ..reporting.html import fragment

        return fragment(self.record)


@dataclass(frozen=True)
class Folder:
    """Where a run is kept.

    Attributes:
        path: is made where it does not exist.
        stem: of the artifacts' names.
    """

    path: Path
    stem: str

    @classmethod
    def at(cls, path: str | os.PathLike[str], stem: str) -> Folder:
        """Raises: InputError: it cannot be written."""
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / TRIALS).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot hold the run: {error.strerror}") from None
        if not os.access(path, os.W_OK):
            raise InputError(f"{path} cannot be written: choose another folder")
        return cls(path, stem)

    def keep(self, artifact: Artifact, trial: Trial, folder: str) -> str:
        """Copy a file with its record below `folder`; its path relative to the run's."""
        place = self.path / folder
        place.mkdir(exist_ok=True)
        name = f"{self.stem}-{trial.number:04d}" if folder == RUNNERS_UP else self.stem
        target = place / f"{name}-{artifact.runtime}{artifact.path.suffix}"
        if len(artifact.files) > 1:  # companions are found by name
            target = place / f"{name}-{artifact.runtime}" / artifact.path.name
            target.parent.mkdir(exist_ok=True)
        for file in artifact.files:
            at = target if file == artifact.path.name else target.with_name(file)
            shutil.copyfile(artifact.path.parent / file, at)
        Artifact.of(
            artifact.runtime, target, artifact.signature,
            layouts=artifact.layouts, batch=artifact.batch, precision=artifact.precision,
            lineage=artifact.lineage, agreement=artifact.agreement,
        ).save_record()  # fmt: skip
        return target.relative_to(self.path).as_posix()

    def clear(self) -> None:
        """Remove what an earlier choice left."""
        for name in (BEST, RUNNERS_UP):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def note(self, trials: Iterable[Trial]) -> None:
        """One file a trial."""
        for trial in trials:
            write(self.path / TRIALS / f"{trial.number:04d}.json", encode(trial))

    def close(self, run: Run, recipe: Recipe | None, model: Model | None) -> Fitted:
        """Write the record, the recipe, the Model and the page."""
        self.note(run.trials)
        if model is not None:
            model.save(self.path / MODEL)
        if recipe is not None and recipe.steps:
            write_recipe(recipe, self.path / RECIPE)
        else:
            (self.path / RECIPE).unlink(missing_ok=True)
        write(self.path / FILE, encode(run))
        report(run, self.path / PAGE)
        return Fitted(self.path, run)

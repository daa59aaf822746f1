"""The models on disk: two versions of each, and which of them is served.

    slots/keywords/3-5f2c.../files/     everything that the bundle held, base for differences
    slots/keywords/3-5f2c.../3/         the artifact of this device's runtime, as links into files
    models/keywords -> ../slots/keywords/3-5f2c...
    state.json                          which version is proven, which on trial, which refused
    work/                               whatever is not finished; removed at each start

`models` is what `edgewise serve` is given. A folder under `slots` is complete, synced and has
passed its golden inputs: it is renamed there from `work`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import EdgewiseError, UpdateError
from ...record import decode, encode
from .. import runners
from ..artifact import Artifact
from .disk import NEW, Disk, clear, folder, move, point, save

__all__ = ["ModelState", "Slots", "State"]

MOST_REFUSED = 64


@dataclass(frozen=True)
class ModelState:
    """What is known of one model.

    Attributes:
        good: the slot that has done well; None before the first has.
        trial: the slot that is, or is about to be, on trial.
        starts: how often the agent was started while that trial went on.
    """

    good: str | None = None
    trial: str | None = None
    starts: int = 0


@dataclass(frozen=True)
class State:
    """The content of `state.json`.

    Attributes:
        device: by which this device is drawn for roll-outs; made by chance, and told to nobody.
        models: by name.
        refused: by slot, why a release was refused; the newest last.
    """

    device: str
    models: dict[str, ModelState] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class Slots:
    """The agent's folder.

    Args:
        home: the folder.
        disk: what changes it.

    Raises:
        UpdateError: its state cannot be read.
    """

    def __init__(self, home: Path, disk: Disk):
        self.home, self.disk = home, disk
        self.work, self._models, self._slots = home / "work", home / "models", home / "slots"
        for path in (self.work, self._models, self._slots):
            folder(disk, path)
        self.state = self._read()

    def models(self) -> list[str]:
        """The names of those that are served, or were to be."""
        return sorted({p.name for p in self._models.iterdir()} | set(self.state.models))

    def of(self, model: str) -> ModelState:
        """What is known of a model."""
        return self.state.models.get(model, ModelState())

    def current(self, model: str) -> str | None:
        """The slot that is served."""
        link = self._models / model
        return Path(os.readlink(link)).name if link.is_symlink() else None

    def path(self, model: str, slot: str) -> Path:
        """The folder of a slot."""
        return self._slots / model / slot

    def artifact(self, model: str, slot: str) -> Artifact:
        """The artifact in a slot, its files hashed and compared with its record.

        Raises:
            EdgewiseError: there is none, or it was changed.
        """
        served = self.path(model, slot) / slot.partition("-")[0]
        suffixes = {runtime.suffixes[0] for runtime in runners.RUNTIMES.values()}
        files = [p for p in sorted(served.glob("*")) if p.suffix in suffixes]
        if len(files) != 1 or not files[0].with_name(files[0].name + ".json").is_file():
            raise UpdateError(f"{served} is not as it was installed")
        return Artifact.open(files[0])

    def intact(self, model: str, slot: str | None) -> bool:
        """Whether a slot is there and its files are those that were installed."""
        try:
            return slot is not None and bool(self.artifact(model, slot))
        except (EdgewiseError, OSError):
            return False

    def digests(self, model: str, slot: str | None) -> list[str]:
        """The sha256 of the files in a slot."""
        files = self.path(model, slot) / "files" if slot else None
        if files is None or not files.is_dir():
            return []
        found = []
        for path in sorted(files.iterdir()):
            with path.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        return found

    def place(self, unpacked: Path, artifact: Path, model: str, slot: str) -> None:
        """Make a slot of the files that were unpacked into `unpacked`/files and tried.

        Args:
            artifact: the one of them that this device runs.
        """
        served = folder(self.disk, unpacked / slot.partition("-")[0])
        opened = Artifact.open(artifact)
        for name in (*opened.files, artifact.name + ".json"):
            self.disk.link(artifact.parent / name, served / name)
        folder(self.disk, self._slots / model)
        clear(self.disk, self.path(model, slot))
        move(self.disk, unpacked, self.path(model, slot))

    def begin(self, model: str, slot: str) -> None:
        """Put a slot on trial: it is served from now on."""
        self._note(model, trial=slot, starts=0)
        self._serve(model, slot)

    def started_again(self, model: str) -> int:
        """Count a start of the agent in the middle of a trial."""
        starts = self.of(model).starts + 1
        self._note(model, starts=starts)
        return starts

    def commit(self, model: str) -> None:
        """The slot on trial has done well."""
        self._note(model, good=self.of(model).trial, trial=None, starts=0)

    def roll_back(self, model: str, why: str) -> None:
        """The slot on trial has not: refuse it, and serve what was before."""
        state = self.of(model)
        self.refuse(state.trial, why)
        self._serve(model, state.good)
        self._note(model, trial=None, starts=0)

    def refuse(self, slot: str, why: str) -> None:
        """Remember not to try a release again."""
        refused = {name: said for name, said in self.state.refused.items() if name != slot}
        refused[slot] = why
        while len(refused) > MOST_REFUSED:
            refused.pop(next(iter(refused)))
        self._write(replace(self.state, refused=refused))

    def sweep(self) -> None:
        """Remove whatever is neither served nor to fall back to."""
        for path in sorted(self.home.glob("*" + NEW)):
            clear(self.disk, path)
        for path in sorted(self.work.iterdir()):
            if path.suffix != ".part":  # a download goes on
                clear(self.disk, path)
        for path in sorted(self._slots.glob("*/*")):
            state = self.of(path.parent.name)
            kept = {state.good, state.trial, self.current(path.parent.name)}
            if path.name not in kept:
                clear(self.disk, path)

    def recover(self, model: str) -> None:
        """Finish, or undo, what a crash has interrupted; doing it twice is doing it once.

        Afterwards what is served is intact, and it is either proven or on trial.
        """
        state, current = self.of(model), self.current(model)
        if state.trial is not None and state.trial in self.state.refused:
            self._serve(model, state.good)  # it was being rolled back
            self._note(model, trial=None, starts=0)
        elif state.trial is not None and state.trial != current:
            self._note(model, trial=None, starts=0)  # it was about to begin
        state, current = self.of(model), self.current(model)
        if current is not None and not self.intact(model, current):
            if state.trial == current:
                self._note(model, trial=None, starts=0)
            self._serve(model, state.good if self.intact(model, state.good) else None)
        if self.current(model) is None and state.good is not None:
            if self.intact(model, state.good):
                self._serve(model, state.good)
            else:
                self._note(model, good=None)

    def _serve(self, model: str, slot: str | None) -> None:
        link = self._models / model
        if slot is not None:
            target = os.path.relpath(self.path(model, slot), self._models)
            if not link.is_symlink() or os.readlink(link) != target:
                point(self.disk, link, target, self.work)
        elif link.is_symlink():
            self.disk.unlink(link)
            self.disk.sync(self._models)

    def _note(self, model: str, **changes: object) -> None:
        now = replace(self.of(model), **changes)
        self._write(replace(self.state, models={**self.state.models, model: now}))

    def _write(self, state: State) -> None:
        if state != self.state:
            try:
                save(self.disk, self.home / "state.json", encode(state))
            except OSError:  # perhaps only when it was in its place already
                self.state = self._read()
                raise
            self.state = state

    def _read(self) -> State:
        path = self.home / "state.json"
        if not path.exists():
            state = State(os.urandom(16).hex())
            save(self.disk, path, encode(state))
            return state
        return decode(path.read_bytes(), State, str(path))

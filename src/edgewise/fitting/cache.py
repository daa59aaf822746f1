"""Cache: what was computed once, by its content, over all runs of a user.

A Model's key is a digest of the Model it was made from, the step with all its fields, the samples
and the code; so a recipe whose beginning was carried out before goes on from there, and what was
computed by another version is never taken for this one's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from ..data import Data
from ..devices.cache import folder
from ..edge.artifact import Artifact
from ..errors import EdgewiseError, InputError
from ..loading import load
from ..model import Model

__all__ = ["Cache", "digest_of_data", "digest_of_model", "key_of"]

ROOM = 4 << 30  # bytes that stay after a run
LOOKED_AT = 1024  # samples of a split whose content goes into its digest
VERSIONED = ("torch", "numpy", "scipy")  # by which a step's result may differ


def key_of(*parts: Any) -> str:
    """A name for what follows from these: 20 hexadecimal digits."""
    text = json.dumps([_code(), *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def digest_of_model(model: Model) -> str:
    """Of its graph, its numbers and its signature."""
    digest = hashlib.sha256(model.graph.code.encode() + repr(model.signature).encode())
    for name, value in sorted(model.graph.state_dict().items()):
        array = value.detach().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().data if array.numel() else b"")
    return digest.hexdigest()[:20]


def digest_of_data(data: Data) -> str:
    """Of which samples serve what, and the content of up to `LOOKED_AT` of each split."""
    digest = hashlib.sha256()
    for role, split in data.splits.items():
        digest.update(f"{role} {len(split)} {split.source.name}".encode())
        digest.update(np.ascontiguousarray(split.indices).data)
        for inputs, targets in split.subset(LOOKED_AT).batches(64):
            for array in (*inputs, *(() if targets is None else (targets,))):
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:20]


@dataclass(frozen=True)
class Cache:
    """A folder of results by key; several processes may use it at the same time.

    Attributes:
        path: by default in the user's cache folder.
    """

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str] | None = None) -> Cache:
        """Raises: InputError: the folder cannot be made."""
        wanted = folder() / "fit" if path is None else Path(path)
        try:
            wanted.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{wanted} cannot hold what is computed: {error.strerror}") from None
        return cls(wanted)

    @contextmanager
    def claimed(self, key: str) -> Iterator[Path]:
        """The folder of a key, which no other process changes meanwhile."""
        place = self.path / key
        with FileLock(self.path / f"{key}.lock"):
            place.mkdir(exist_ok=True)
            os.utime(place)
            yield place

    def model(self, key: str, make: Callable[[Path], Model]) -> Model:
        """The Model of that key.

        Args:
            make: is called where there is none, with a folder for what it may go on from if it is
                stopped.
        """
        with self.claimed(key) as place:
            file = place / "model.pt2"
            if file.is_file():
                try:
                    return load(file)
                except EdgewiseError:  # damaged: a full disk, a cut of the power
                    file.unlink()
            made = make(place / "training")
            partial = place / "partial.pt2"
            made.save(partial)
            partial.replace(file)
            shutil.rmtree(place / "training", ignore_errors=True)
        return made

    def artifact(self, key: str, suffix: str, make: Callable[[Path], Artifact]) -> Artifact:
        """The file of that key; `make` is told where to write it."""
        with self.claimed(key) as place:
            file = place / f"net{suffix}"
            if file.with_name(f"{file.name}.json").is_file():
                try:
                    return Artifact.open(file)
                except EdgewiseError:
                    file.unlink(missing_ok=True)
            return make(file)

    def trim(self, room: int = ROOM) -> None:
        """Remove what was not used for longest, until the rest takes at most so many bytes."""
        places = sorted(
            (p for p in self.path.iterdir() if p.is_dir()), key=lambda p: -p.stat().st_mtime
        )
        held = 0
        for place in places:
            held += sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
            if held > room:
                shutil.rmtree(place, ignore_errors=True)
                (self.path / f"{place.name}.lock").unlink(missing_ok=True)


@cache
def _code() -> str:
    """Of the source of this package, and the versions of what computes."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for file in sorted(root.rglob("*.py")):
        digest.update(file.read_bytes())
    for name in VERSIONED:
        digest.update(f"{name} {metadata.version(name)}".encode())
    return digest.hexdigest()

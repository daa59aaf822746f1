"""Where the server finds models: a file, or a folder of files and of folders by version.

    net.tflite                 one model, "net"
    models/
      keywords.tflite          "keywords"; its version is the beginning of its sha256
      gestures/1/net.onnx      "gestures", version 1 ...
      gestures/2/net.onnx      ... which 2 replaces
      gestures/2/net8.onnx     the same model made for batch 8: used when it pays

Nothing is watched: a folder that is half written must not be served. Ask for a look by the
administration socket or SIGHUP when it is complete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, ModelError
from ..artifact import Artifact
from ..runners import RUNTIMES

__all__ = ["Entry", "find"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SUFFIXES = frozenset(runtime.suffixes[0] for runtime in RUNTIMES.values())


@dataclass(frozen=True)
class Entry:
    """A model on disk. `version` is None where its sha256 is its version."""

    name: str
    paths: tuple[Path, ...]
    version: str | None = None

    def open(self) -> tuple[str, tuple[Artifact, ...]]:
        """Its version and files, those for small batches first, checked against their records.

        Raises:
            ModelError: a file that cannot be read, or files that are not the same model.
        """
        artifacts = sorted((Artifact.open(path) for path in self.paths), key=lambda a: a.batch)
        if len({a.signature for a in artifacts}) > 1:
            names = ", ".join(path.name for path in self.paths)
            raise ModelError(
                f"the files of '{self.name}' ({names}) take or give different things: keep in one "
                "version only files of one model, made for different batches"
            )
        return self.version or artifacts[0].sha256[:12], tuple(artifacts)


def find(root: Path) -> dict[str, Entry]:
    """Every model under `root`, the newest version of each.

    Raises:
        InputError: there is nothing to serve, or a name that cannot be one in an address.
    """
    if root.is_file():
        entries = [Entry(root.name.removesuffix(root.suffix), (root,))]
    elif root.is_dir():
        entries = [e for path in sorted(root.iterdir()) if (e := _entry(path))]
    else:
        raise InputError(f"{root} does not exist: give an artifact or a folder of artifacts")
    if not entries:
        known = ", ".join(sorted(SUFFIXES))
        raise InputError(
            f"{root} has nothing to serve: expected {known} files, or folders of versions "
            "(NAME/1/net.tflite)"
        )
    found: dict[str, Entry] = {}
    for entry in entries:
        if not NAME.fullmatch(entry.name):
            raise InputError(
                f"'{entry.name}' cannot be a model's name: use letters, digits, '.', '_' and '-'"
            )
        if entry.name in found:
            raise InputError(f"{root} has two models of the name '{entry.name}': rename one")
        found[entry.name] = entry
    return found


def _entry(path: Path) -> Entry | None:
    if path.suffix in SUFFIXES and path.is_file():
        return Entry(path.stem, (path,))
    if not path.is_dir():
        return None
    versions = [p for p in path.iterdir() if p.name.isascii() and p.name.isdigit() and p.is_dir()]
    for folder in sorted(versions, key=lambda p: int(p.name), reverse=True)[:1]:
        files = tuple(p for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES)
        if not files:
            raise InputError(f"{folder} has no file to serve: put an artifact in, or remove it")
        return Entry(path.name, files, folder.name)
    return None

"""Where the server finds models: a file, or a folder of files and of folders by version.

A file is an artifact or a bundle, of which the first runtime that is installed is served.

    net.tflite                 one model, "net"
    models/
      keywords.tflite          "keywords"; its version is the beginning of its sha256
      faces.edge               "faces", a bundle; its version is what its manifest says
      gestures/1/net.onnx      "gestures", version 1 ...
      gestures/2/net.onnx      ... which 2 replaces
      gestures/2/net8.onnx     the same model made for batch 8: used when it pays

Nothing is watched: a folder that is half written must not be served. Ask for a look by the
administration socket or SIGHUP when it is complete.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import EdgewiseError, InputError, MissingExtra, ModelError, RuntimeFailure
from .. import runners
from ..artifact import Artifact

__all__ = ["Entry", "Trust", "find", "vacant"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
BUNDLE = ".edge"
ARTIFACTS = frozenset(runtime.suffixes[0] for runtime in runners.RUNTIMES.values())
SUFFIXES = ARTIFACTS | {BUNDLE}
DIGITS = 12  # of a sha256 that stands for a version


@dataclass(frozen=True)
class Trust:
    """Which bundles are served.

    Attributes:
        key: a PEM file with the public key of who signs them.
        allow_unsigned: whether one is served without a key.
        secret: where the key is that decrypts them (see `edgewise.edge.bundle.read_secret`).
    """

    key: Path | None = None
    allow_unsigned: bool = False
    secret: str | None = None


@dataclass(frozen=True)
class Entry:
    """A model on disk. `version` is None where a bundle or a sha256 tells it."""

    name: str
    paths: tuple[Path, ...]
    version: str | None = None

    @contextmanager
    def opened(self, trust: Trust) -> Iterator[tuple[str, tuple[Artifact, ...]]]:
        """Its version and files, those for small batches first, checked.

        Files of a bundle are there until the block ends; runtimes that have them open keep them.

        Raises:
            ModelError: a file that is not what its record or its signature says, files that are
                not the same model, or a bundle whose golden inputs give something else here.
            MissingExtra: no runtime of a bundle is installed.
        """
        if self.paths[0].suffix == BUNDLE:
            with _unbundled(self.paths[0], trust) as (version, artifact):
                yield self.version or version, (artifact,)
            return
        artifacts = sorted((Artifact.open(path) for path in self.paths), key=lambda a: a.batch)
        if any(a.signature != artifacts[0].signature for a in artifacts):
            names = ", ".join(path.name for path in self.paths)
            raise ModelError(
                f"the files of '{self.name}' ({names}) take or give different things: keep in one "
                "version only files of one model, made for different batches"
            )
        yield self.version or artifacts[0].sha256[:DIGITS], tuple(artifacts)


@contextmanager
def _unbundled(path: Path, trust: Trust) -> Iterator[tuple[str, Artifact]]:
    """A bundle's version, and its first artifact that runs here and gives what it must."""
    from ..bundle import open_bundle, read_secret

    secret = read_secret(trust.secret) if trust.secret else None
    with (
        open_bundle(path, trust.key, allow_unsigned=trust.allow_unsigned, secret=secret) as bundle,
        tempfile.TemporaryDirectory(prefix="edgewise-") as scratch,
    ):
        artifact = _runnable(bundle.extract(Path(scratch, "files")))
        if bundle.manifest.golden is not None:
            # A copy: the runner that this opens is not kept.
            check = bundle.check(replace(artifact))
            if not check.passed:
                raise ModelError(
                    f"{path} gives on this device outputs that differ by {check.max_abs} from "
                    f"those it was bundled with, allowed are {check.tolerance}: do not serve it"
                )
        yield str(bundle.manifest.version), artifact


def _runnable(artifacts: Sequence[Artifact]) -> Artifact:
    missing: EdgewiseError | None = None
    for artifact in artifacts:
        try:
            runners.probe(artifact.runtime)
        except (MissingExtra, RuntimeFailure) as error:
            missing = missing or error
        else:
            return artifact
    raise missing


def vacant(root: Path) -> bool:
    """Whether it is a folder without any model, as on a device before its first update.

    Raises:
        InputError: a folder of versions in it has nothing to serve.
    """
    return root.is_dir() and not any(_entry(path) for path in root.iterdir())


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
        raise InputError(f"{root} does not exist: give an artifact, a bundle or a folder of them")
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
        if len(files) > 1 and any(p.suffix == BUNDLE for p in files):
            raise InputError(f"{folder} has a bundle and other files: keep the bundle alone")
        if not files:
            raise InputError(f"{folder} has no file to serve: put one in, or remove it")
        return Entry(path.name, files, folder.name)
    return None

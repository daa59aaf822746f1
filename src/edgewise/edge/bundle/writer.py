"""Writing a bundle: the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...record import encode
from .. import codec
from . import container, signature
from .manifest import CODED, GOLDEN, MANIFEST, FileEntry, Manifest, check
from .secrecy import seal

__all__ = ["Contents", "write_bundle"]

STEM = "model"  # what every artifact's files are called in a bundle, whatever they were called


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle beside the manifest's own words.

    Attributes:
        segments: by runtime and file name, where the tensors are.
        golden: the arrays that the manifest's `Golden` describes, inputs first.
        texts: further files by name, such as licences and the bill of materials.
        old: by name in the bundle, the files that those of the artifacts are coded as the
            difference to, and where their tensors are.
    """

    segments: Mapping[str, Mapping[str, Sequence[codec.Segment]]]
    golden: Sequence[np.ndarray] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict)
    old: Mapping[str, tuple[bytes, Sequence[codec.Segment]]] = field(default_factory=dict)


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Manifest,
    contents: Contents,
    *,
    private_key: str | os.PathLike[str] | None = None,
    secret: bytes | None = None,
) -> Path:
    """Write a bundle; it appears whole or not at all.

    Args:
        manifest: its artifacts with the paths where they are now; `files` is filled in here.
        private_key: a PEM file; without it the bundle is not signed.
        secret: 32 bytes; without it the bundle is not encrypted.

    Raises:
        InputError: the path, the key or a name cannot be used.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist: create it first")
    artifacts, files, members = [], [], {}

    def add(name: str, data: bytes, segments: Sequence[codec.Segment] = ()) -> None:
        old = contents.old.get(name)
        coded, salt = codec.encode(data, segments, old), None
        if secret is not None:
            coded, salt = seal(coded, secret)
        base = old and hashlib.sha256(old[0]).hexdigest()
        digest = hashlib.sha256(data).hexdigest()
        files.append(FileEntry(name, len(data), digest, base=base, salt=salt))
        members[name + CODED] = coded

    for artifact in manifest.artifacts:
        named = {}
        for file in artifact.files:
            suffix = Path(file).suffix.lower()
            name = named[file] = STEM + suffix
            data = (artifact.path.parent / file).read_bytes()
            add(name, data, contents.segments[artifact.runtime].get(file, ()))
        artifacts.append(
            replace(
                artifact,
                path=Path(named[artifact.path.name]),
                files={named[file]: digest for file, digest in artifact.files.items()},
            )
        )
    if contents.golden:
        add(GOLDEN, b"".join(np.ascontiguousarray(a).tobytes() for a in contents.golden))
    for name, data in sorted(contents.texts.items()):
        add(name, data)
    manifest = replace(manifest, artifacts=tuple(artifacts), files=tuple(files))
    check(manifest, {name: len(data) for name, data in members.items()})
    members = {MANIFEST: encode(manifest), **members}
    if private_key is not None:
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
        members[signature.SIGNATURE] = signature.sign(digests, manifest.name, private_key)
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            container.write_members(file, members.items())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path

"""A bundle read without trusting it: signature and hashes first, then everything else."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import InputError, ModelError
from ...record import decode
from .. import codec
from ..artifact import Artifact
from . import container, signature
from .manifest import CODED, GOLDEN, MANIFEST, FileEntry, Manifest, array_bytes, check
from .secrecy import Sealed, sealed_size

__all__ = ["Bundle", "GoldenCheck", "open_bundle"]

LARGEST_MANIFEST = 1 << 22  # bytes
LARGEST_SIGNATURE = 1 << 18


@dataclass(frozen=True)
class GoldenCheck:
    """How an artifact did on a bundle's golden inputs.

    Attributes:
        passed: every output is within its tolerance.
        n: number of samples.
        max_abs: for each output the largest absolute difference,
        tolerance: and the largest that passes.
    """

    passed: bool
    n: int
    max_abs: tuple[float, ...]
    tolerance: tuple[float, ...]


class Bundle:
    """A bundle whose signature and hashes were checked; made by `open_bundle`.

    Attributes:
        path: of the file.
        manifest: what is in it.
        signed: whether a signature was checked; False only where the caller allowed that.
        sha256: of the list of the members' hashes, by which two bundles are compared.
    """

    def __init__(self, path: Path, file: BinaryIO, *, key, allow_unsigned, secret):
        self.path, self._file, self._secret = path, file, secret
        self._members = container.read_members(file)
        self.signed, self.sha256 = self._verify(key, allow_unsigned)
        text = self._read_member(MANIFEST, LARGEST_MANIFEST)
        self.manifest = decode(text, Manifest, "its manifest")
        check(
            self.manifest,
            {
                name: member.size
                for name, member in self._members.items()
                if name not in (MANIFEST, signature.SIGNATURE)
            },
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def extract(
        self, folder: str | os.PathLike[str], base: str | os.PathLike[str] | None = None
    ) -> tuple[Artifact, ...]:
        """Decode every file into a new folder, checking each one's sha256.

        The folder appears with everything in it or not at all.

        Args:
            folder: must not exist yet, or be empty.
            base: where the files of the version lie that an update is the difference to.

        Returns:
            The artifacts, ready to run.

        Raises:
            ModelError: a file is not what the manifest says, or `base` has not what is needed.
            InputError: the folder cannot be made.
        """
        folder = Path(folder)
        if folder.is_symlink() or (
            folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        ):
            raise InputError(f"{folder} exists: give the name of a new folder")
        if not folder.parent.is_dir():
            raise InputError(f"the folder {folder.parent} does not exist: create it first")
        needed = sum(file.size for file in self.manifest.files)
        if shutil.disk_usage(folder.parent).free < needed:
            raise InputError(f"{folder.parent} has no room for {needed} bytes: free some")
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for entry in self.manifest.files:
                with (scratch / entry.name).open("xb") as file, _named(self.path):
                    self._decode(entry, file, base and Path(base))
            for artifact in self.manifest.artifacts:
                replace(artifact, path=scratch / artifact.path).save_record()
            scratch.replace(folder)
        except BaseException:
            shutil.rmtree(scratch)
            raise
        return tuple(replace(a, path=folder / a.path) for a in self.manifest.artifacts)

    def golden(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """The golden inputs and the outputs expected for them.

        Raises:
            ModelError: there are none, or they are not what the manifest says.
        """
        golden = self.manifest.golden
        if golden is None:
            raise ModelError(f"{self.path} has no golden inputs: bundle it again with data")
        with tempfile.TemporaryFile() as file, _named(self.path):
            self._decode(self.manifest.file(GOLDEN), file, None)
            file.seek(0)
            arrays = [
                np.frombuffer(file.read(array_bytes(spec)), spec.dtype).reshape(spec.shape)
                for spec in (*golden.inputs, *golden.outputs)
            ]
        count = len(golden.inputs)
        return tuple(arrays[:count]), tuple(arrays[count:])

    def check(self, artifact: Artifact) -> GoldenCheck:
        """Run the golden inputs through an artifact and compare.

        Raises:
            ModelError: there are none.
            RuntimeFailure, MissingExtra: the runtime cannot run it.
        """
        inputs, wanted = self.golden()
        given = artifact.run(*inputs)
        given = given if isinstance(given, tuple) else (given,)
        far = tuple(_distance(g, w) for g, w in zip(given, wanted, strict=True))
        tolerance = self.manifest.golden.tolerance
        passed = all(f <= t for f, t in zip(far, tolerance, strict=True))
        return GoldenCheck(passed, len(inputs[0]), far, tolerance)

    def _verify(self, key, allow_unsigned: bool) -> tuple[bool, str]:
        """Hash every member and check the signature over the hashes."""
        digests = {}
        for name, member in self._members.items():
            digest = hashlib.sha256()
            for chunk in container.chunks(self._file, member):
                digest.update(chunk)
            digests[name] = digest.hexdigest()
        self._digests = dict(digests)
        known = "".join(f"{name}\n{digests[name]}\n" for name in sorted(digests))
        whole = hashlib.sha256(known.encode()).hexdigest()
        digests.pop(signature.SIGNATURE, None)
        if key is None and allow_unsigned:
            return False, whole
        if key is None:
            raise InputError(
                "no key to check the signature with: give the public key of who signed it, or "
                "allow unsigned bundles"
            )
        if signature.SIGNATURE not in self._members:
            raise ModelError("it is not signed: do not use it, or sign it when bundling")
        text = self._read_member(signature.SIGNATURE, LARGEST_SIGNATURE)
        signature.verify(text, digests, key)
        return True, whole

    def _read_member(self, name: str, most: int) -> bytes:
        member = self._members.get(name)
        if member is None:
            raise ModelError(f"it has no {name}: it is no bundle, or was changed")
        if member.size > most:
            raise ModelError(f"its {name} has {member.size} bytes, more than the {most} allowed")
        data = b"".join(container.chunks(self._file, member))
        if hashlib.sha256(data).hexdigest() != self._digests[name]:
            raise ModelError(f"its {name} was changed while it was being read: do not use it")
        return data

    def _decode(self, entry: FileEntry, out: BinaryIO, base: Path | None) -> None:
        """Decode one file into `out`, checking size and sha256."""
        member = self._members[entry.name + CODED]

        def read(offset: int, size: int) -> bytes:
            size = max(0, min(size, member.size - offset))
            return os.pread(self._file.fileno(), size, member.offset + offset)

        size = member.size
        if entry.salt is not None:
            if self._secret is None:
                raise InputError("it is encrypted: give the secret")
            read = Sealed(read, size, self._secret, entry.salt).read
            size = sealed_size(size)
        old = None if entry.base is None else _old_file(entry, base)
        digest = hashlib.sha256()

        def write(data) -> None:
            digest.update(data)
            out.write(data)

        codec.decode(read, size, entry.size, write, old)
        if digest.hexdigest() != entry.sha256:
            raise ModelError(f"'{entry.name}' is not what the manifest describes: do not use it")


def open_bundle(
    path: str | os.PathLike[str],
    key: str | os.PathLike[str] | bytes | None = None,
    *,
    allow_unsigned: bool = False,
    secret: bytes | None = None,
) -> Bundle:
    """Open a bundle and check its signature and every hash before anything else is read.

    Args:
        key: the public key of who signed it: a PEM file, or its content.
        allow_unsigned: take a bundle without a key, too; its hashes then only guard against
            accidents.
        secret: the 32 bytes that decrypt it (`read_secret`).

    Raises:
        ModelError: the file is no bundle, was changed, or is signed by nobody or another.
        InputError: the key cannot be used, or none was given.
        MissingExtra: `cryptography` is not installed.
    """
    path = Path(path)
    try:
        # Opening a pipe would wait for somebody to write to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ModelError(f"{path} is not a file")
        with _named(path):
            return Bundle(path, file, key=key, allow_unsigned=allow_unsigned, secret=secret)
    except BaseException:
        file.close()
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the bundle's path in front of what is wrong with it, and make it one line."""
    try:
        yield
    except InputError as error:
        text = "".join(c if c.isprintable() else "?" for c in str(error))
        raise type(error)(f"{path}: {text}") from error


def _old_file(entry: FileEntry, base: Path | None) -> np.ndarray:
    if base is None:
        raise InputError(
            "it is an update: give the folder of the version that it is the difference to"
        )
    for found in sorted(base.glob("*" + Path(entry.name).suffix)) if base.is_dir() else ():
        data = np.memmap(found, np.uint8, "r") if found.stat().st_size else np.empty(0, np.uint8)
        if hashlib.sha256(data).hexdigest() == entry.base:
            return data
    raise ModelError(
        f"'{entry.name}' is the difference to a file that is not in {base}: take the full bundle"
    )


def _distance(given: np.ndarray, wanted: np.ndarray) -> float:
    if given.shape != wanted.shape:
        return float("inf")
    difference = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
    # NaN compares with nothing: it must count as the largest difference there is.
    difference[~np.isfinite(difference)] = np.inf
    return float(difference.max(initial=0.0))

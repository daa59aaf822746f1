"""The other end: a TUF repository of static files, written where the keys are.

    metadata/1.root.json ...        who may sign what; by the root keys
    metadata/7.targets.json ...     which bundles there are, with hash and roll-out
    metadata/9.snapshot.json ...    which of these belong together
    metadata/timestamp.json         which is the newest; the only name whose content changes
    targets/keywords/HASH.3.edge    bundles, under the hash of their content

Any web server, object store or CDN can serve it. Bundles are written first, then the metadata from
the root down, the timestamp last: whoever looks while it is written sees the old state or the new
one.

Specification: The Update Framework 1.0, sections 4 and 6, with consistent snapshots.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from ...errors import InputError, MissingExtra
from ..bundle import Bundle
from .release import FIELD, NAME, Release, Terms, reads

try:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import (
        Metadata,
        MetaFile,
        Root,
        Signed,
        Snapshot,
        TargetFile,
        Targets,
        Timestamp,
    )
except ImportError:
    raise MissingExtra("what writes update repositories", "agent") from None

__all__ = ["ROLES", "Publisher", "create"]

ROLES = ("root", "targets", "snapshot", "timestamp")
DAYS = {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 7}  # until they expire


class Publisher:
    """A repository and the keys that are at hand.

    Every change is made on the metadata in memory and written by `write`.

    Args:
        folder: of the repository.
        keys: folders with private keys in PEM, of any roles.
        days: until snapshot and timestamp expire: after that devices take nothing, so that
            nobody can hold back what is new for longer.

    Raises:
        InputError: no repository, or no keys.
    """

    def __init__(self, folder: Path, keys: Sequence[Path], days: int = DAYS["timestamp"]):
        self._metadata, self._files = folder / "metadata", folder / "targets"
        self._days = {**DAYS, "snapshot": days, "timestamp": days}
        self._signers = dict(_signers(keys))
        self._changed: set[str] = set()
        timestamp = self._read("timestamp.json", Timestamp)
        snapshot = self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json", Snapshot)
        version = snapshot.signed.meta["targets.json"].version
        self._roles: dict[str, Metadata] = {
            "root": self._read(f"{self._newest_root()}.root.json", Root),
            "targets": self._read(f"{version}.targets.json", Targets),
            "snapshot": snapshot,
            "timestamp": timestamp,
        }

    @property
    def releases(self) -> list[Release]:
        """What is published."""
        return reads(self._roles["targets"].signed.targets)

    @property
    def expires(self) -> datetime:
        """When devices stop to believe it, unless it is signed anew."""
        return min(metadata.signed.expires for metadata in self._roles.values())

    def add(self, bundle: Bundle, rollout: Mapping[str, int]) -> Release:
        """Publish a bundle, as a new version of the model of its name.

        A bundle that holds only a difference is added to the release of the same version, which
        must be there before.

        Raises:
            InputError: a version that is not newer, no golden inputs, or a name that no model can
                have.
        """
        manifest = bundle.manifest
        model, version = manifest.name, manifest.version
        if not NAME.fullmatch(model):
            raise InputError(
                f"'{model}' cannot be a model's name: bundle it with --name, of letters, digits, "
                "'.', '_' and '-'"
            )
        if manifest.golden is None:
            raise InputError(
                f"{bundle.path} has no golden inputs, by which devices try a release before they "
                "run it: bundle it again with data"
            )
        bases = tuple(sorted({file.base for file in manifest.files if file.base is not None}))
        if bases:
            release = self.find(model, version)
            path = f"{model}/{version}-from-{bases[0][:12]}.edge"
            differences = {**release.terms.differences, path: bases}
            self._put(path, bundle.path, {})
            return self._set(replace(release.terms, differences=differences))
        newest = max((r.terms.version for r in self._of(model)), default=-1)
        floor = max(newest, self._floors().get(model, -1))
        if version <= floor:
            raise InputError(
                f"'{model}' {version} is not newer than {floor}, which was published: bundle it "
                f"with --version {floor + 1}"
            )
        terms = Terms(model, version, dict(rollout))
        self._put(_path(terms), bundle.path, {FIELD: msgspec.to_builtins(terms)})
        return self.find(model, version)

    def roll_out(self, model: str, version: int, rollout: Mapping[str, int]) -> Release:
        """Change which devices take a release."""
        return self._set(replace(self.find(model, version).terms, rollout=dict(rollout)))

    def withdraw(self, model: str, version: int) -> None:
        """Take a release back: devices that run it go to the newest that is left."""
        release = self.find(model, version)
        targets = self._change("targets")
        floors = {**self._floors(), model: max(self._floors().get(model, -1), version)}
        # A version number is never given twice.
        targets.unrecognized_fields[FIELD] = {"withdrawn": floors}
        for path in (release.target.path, *release.terms.differences):
            targets.targets.pop(path, None)

    def rotate(self, role: str, new: Sequence[Path], threshold: int | None = None) -> None:
        """Replace a role's keys by others; devices learn it from the next root.

        Args:
            new: PEM files with the new private keys.
            threshold: how many of them must sign; by default as many as before, where there are.

        Raises:
            InputError: fewer keys than must sign.
        """
        root = self._change("root")
        signers = dict(_signers(new))
        wanted = min(root.roles[role].threshold, len(signers)) if threshold is None else threshold
        if not 1 <= wanted <= len(signers):
            raise InputError(f"{wanted} of {len(signers)} keys cannot sign: give more keys")
        self._signers |= signers
        for known in list(root.roles[role].keyids):
            root.revoke_key(known, role)
        for signer in signers.values():
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = wanted
        if role != "root":
            self._change(role)

    def renew(self) -> None:
        """Sign anew what expires soon: the snapshot and the timestamp, and what is half over."""
        self._change("snapshot")
        for role in ("root", "targets"):
            left = self._roles[role].signed.expires - datetime.now(UTC)
            if left < timedelta(days=self._days[role]) / 2 and self._missing(role) <= 0:
                self._change(role)

    def write(self) -> None:
        """Sign all that was changed, and write it.

        Raises:
            InputError: fewer keys are at hand than must sign; nothing was written.
        """
        if "targets" in self._changed:
            self._change("snapshot")
        if "snapshot" in self._changed:
            self._change("timestamp")
        snapshot, timestamp = self._roles["snapshot"].signed, self._roles["timestamp"].signed
        snapshot.meta["targets.json"] = MetaFile(self._roles["targets"].signed.version)
        timestamp.snapshot_meta = MetaFile(snapshot.version)
        for role in (r for r in ROLES if r in self._changed):
            if (missing := self._missing(role)) > 0:
                raise InputError(
                    f"{missing} more of the keys of '{role}' must sign: give the folder that they "
                    "are in (--keys, repeatable)"
                )
        old = self._read(f"{self._newest_root()}.root.json", Root).signed.roles["root"]
        if "root" in self._changed and len(set(old.keyids) & self._signers.keys()) < old.threshold:
            raise InputError(
                f"a new root must be signed by {old.threshold} of the root's keys until now, too: "
                "give the folder that they are in (--keys, repeatable)"
            )
        for role in (r for r in ROLES if r in self._changed):
            metadata = self._roles[role]
            metadata.signatures.clear()
            keyids = {*self._root.roles[role].keyids, *(old.keyids if role == "root" else ())}
            for keyid in sorted(keyids & self._signers.keys()):
                metadata.sign(self._signers[keyid], append=True)
            name = role if role == "timestamp" else f"{metadata.signed.version}.{role}"
            _write(self._metadata / f"{name}.json", metadata.to_bytes())
        self._changed.clear()

    def find(self, model: str, version: int) -> Release:
        """A release that is published.

        Raises:
            InputError: there is none.
        """
        for release in self._of(model):
            if release.terms.version == version:
                return release
        known = ", ".join(f"{r.terms.model}/{r.terms.version}" for r in self.releases) or "nothing"
        raise InputError(f"'{model}/{version}' is not published: there is {known}")

    @property
    def _root(self) -> Root:
        return self._roles["root"].signed

    def _of(self, model: str) -> list[Release]:
        return [release for release in self.releases if release.terms.model == model]

    def _floors(self) -> dict[str, int]:
        said = self._roles["targets"].signed.unrecognized_fields.get(FIELD, {})
        return dict(said.get("withdrawn", {}))

    def _set(self, terms: Terms) -> Release:
        targets = self._change("targets").targets
        targets[_path(terms)].unrecognized_fields["custom"] = {FIELD: msgspec.to_builtins(terms)}
        return self.find(terms.model, terms.version)

    def _put(self, path: str, source: Path, custom: Mapping[str, object]) -> None:
        """Copy a file to where its hash says, and list it."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        fields = {"custom": dict(custom)} if custom else {}
        target = TargetFile(source.stat().st_size, {"sha256": digest}, path, fields)
        folder, _, name = path.rpartition("/")
        to = self._files / folder / f"{digest}.{name}"
        to.parent.mkdir(parents=True, exist_ok=True)
        new = to.with_name(to.name + ".new")
        shutil.copyfile(source, new)
        new.replace(to)
        self._change("targets").targets[path] = target

    def _change(self, role: str) -> Signed:
        signed = self._roles[role].signed
        if role not in self._changed:
            self._changed.add(role)
            signed.version += 1
            signed.expires = _in_days(self._days[role])
        return signed

    def _missing(self, role: str) -> int:
        known = self._root.roles[role]
        return known.threshold - len(set(known.keyids) & self._signers.keys())

    def _newest_root(self) -> int:
        version = 0
        while (self._metadata / f"{version + 1}.root.json").exists():
            version += 1
        return version

    def _read(self, name: str, kind: type[Signed]) -> Metadata:
        path = self._metadata / name
        if not path.is_file():
            raise InputError(
                f"{self._metadata.parent} is no update repository (no {name}): begin one with "
                "edgewise publish --init"
            )
        return Metadata[kind].from_file(str(path))


def create(folder: Path, keys: Path, root_keys: int = 1, threshold: int = 1) -> Path:
    """Begin a repository, and make the keys of its roles.

    Args:
        folder: must not have one yet.
        keys: a new folder, with the private keys, in PEM without a password: keep the root's
            elsewhere, they are needed only to replace keys.
        root_keys: how many keys the root role has,
        threshold: and how many of them must sign.

    Returns:
        The first root, which goes onto the devices.

    Raises:
        InputError: there is a repository, or keys.
    """
    metadata = folder / "metadata"
    if metadata.exists() or (keys.exists() and any(keys.iterdir())):
        raise InputError(f"{metadata} or {keys} exists: give new folders")
    if not 1 <= threshold <= root_keys:
        raise InputError(f"{threshold} of {root_keys} root keys cannot sign: give more keys")
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = {"root": [f"root-{n}" for n in range(1, root_keys + 1)]}
    names |= {role: [role] for role in ROLES if role != "root"}
    signers = {role: [_new_key(keys / f"{n}.pem") for n in names[role]] for role in ROLES}
    root = Root(version=1, expires=_in_days(DAYS["root"]), consistent_snapshot=True)
    for role, made in signers.items():
        for signer in made:
            root.add_key(signer.public_key, role)
    root.roles["root"].threshold = threshold
    parts = {
        "root": root,
        "targets": Targets(version=1, expires=_in_days(DAYS["targets"])),
        "snapshot": Snapshot(version=1, expires=_in_days(DAYS["snapshot"])),
        "timestamp": Timestamp(version=1, expires=_in_days(DAYS["timestamp"])),
    }
    metadata.mkdir(parents=True)
    (folder / "targets").mkdir(exist_ok=True)
    for role, signed in parts.items():
        whole = Metadata(signed)
        for signer in signers[role]:
            whole.sign(signer, append=True)
        name = "timestamp" if role == "timestamp" else f"1.{role}"
        _write(metadata / f"{name}.json", whole.to_bytes())
    return metadata / "1.root.json"


def _signers(places: Sequence[Path]) -> Iterator[tuple[str, CryptoSigner]]:
    """By key id, the private keys in files, and in the files of folders."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    for place in places:
        files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
        if not files:
            raise InputError(f"{place} has no keys (*.pem)")
        for file in files:
            try:
                signer = CryptoSigner(load_pem_private_key(file.read_bytes(), None))
            except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
                raise InputError(f"{file} is not a private key in PEM: {error}") from None
            yield signer.public_key.keyid, signer


def _new_key(path: Path) -> CryptoSigner:
    signer = CryptoSigner.generate_ed25519()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(signer.private_bytes)
    return signer


def _path(terms: Terms) -> str:
    return f"{terms.model}/{terms.version}.edge"


def _in_days(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)

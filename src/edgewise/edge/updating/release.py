"""What a repository says of each release, under signature, and whether it is for this device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ...errors import UpdateError

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

__all__ = ["ALL", "EVERYONE", "NAME", "Release", "Terms", "choose", "reads", "share"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as `edgewise serve` takes it
EVERYONE, ALL = "*", 10_000
FIELD = "edgewise"  # in a target's custom metadata
DIGITS = 12  # of a sha256, in names


@dataclass(frozen=True)
class Terms:
    """What the signed metadata say of a release beside the hash of its bundle.

    Attributes:
        model: its name.
        version: counts up.
        rollout: of 10,000 devices of each cohort, how many shall take it (signed JSON has no
            fractions); ``"*"`` stands for every cohort that is not named.
        differences: paths of bundles that hold only the difference, each with the sha256 of the
            files that it is the difference to.
    """

    model: str
    version: int
    rollout: dict[str, int] = field(default_factory=lambda: {EVERYONE: ALL})
    differences: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """A bundle in a repository.

    Attributes:
        terms: what is said of it.
        target: where it is, its length and hash.
        differences: likewise of the bundles that hold only the difference.
    """

    terms: Terms
    target: TargetFile
    differences: tuple[TargetFile, ...] = ()

    @property
    def sha256(self) -> str:
        """Of its full bundle."""
        return self.target.hashes["sha256"]

    @property
    def slot(self) -> str:
        """The name of the folder that it is installed in."""
        return f"{self.terms.version}-{self.sha256[:DIGITS]}"

    def smallest(self, files: Iterable[str]) -> TargetFile:
        """The bundle to fetch on a device that has files of these sha256."""
        have = set(files)
        usable = [d for d in self.differences if have.issuperset(self.terms.differences[d.path])]
        return min([*usable, self.target], key=lambda target: target.length)


def reads(targets: Mapping[str, TargetFile]) -> list[Release]:
    """The releases among a repository's targets, whatever else there is left out.

    Raises:
        UpdateError: signed terms that this version of edgewise cannot read.
    """
    releases = []
    for path, target in sorted(targets.items()):
        said: Any = (target.custom or {}).get(FIELD)
        if said is None:
            continue
        try:
            terms = msgspec.convert(said, Terms)
        except msgspec.ValidationError as error:
            raise UpdateError(
                f"what is signed of '{path}' cannot be read: {error}; install the edgewise that "
                "published it"
            ) from None
        if not NAME.fullmatch(terms.model) or not 0 <= terms.version < 2**53:
            raise UpdateError(f"'{path}' has a model name or version that no release may have")
        if "sha256" not in target.hashes:
            raise UpdateError(f"'{path}' has no sha256: publish it by edgewise")
        smaller = tuple(targets[d] for d in sorted(terms.differences) if d in targets)
        releases.append(Release(terms, target, smaller))
    return releases


def share(device: str, release: Release) -> float:
    """Where in 0..10,000 this device stands for this release, evenly and by chance.

    Another release gives another place, so that it is not always the same devices that go first.
    """
    text = f"{device} {release.terms.model} {release.terms.version}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64 * ALL


def choose(
    releases: Iterable[Release], device: str, cohort: str | None, current: str | None
) -> Release | None:
    """The release of one model that this device shall run.

    The newest that is rolled out to it, or the one that it runs, whichever is newer: a device only
    goes back when what it runs was withdrawn.

    Args:
        current: the slot of what it runs.
    """
    listed = sorted(releases, key=lambda release: release.terms.version, reverse=True)
    for release in listed:
        rollout = release.terms.rollout
        most = rollout.get(cohort or EVERYONE, rollout.get(EVERYONE, 0))
        if release.slot == current or share(device, release) < most:
            return release
    return None

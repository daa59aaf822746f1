"""Debian packages of any suite and architecture, fetched by the user's own apt and unpacked.

Nothing is installed and nothing of the system is changed: apt is given lists, a cache and a (void)
status of its own, while the user's proxies, credentials and mirror stay in force.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import DeviceError

__all__ = ["architecture", "unpack"]

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
# What apt would update, which it tells without lists, network or privileges.
RELEASE = re.compile(r"'(\S+)/dists/([a-z]+)/InRelease'")
SUITES = {"bullseye", "bookworm", "trixie", "forky", "oldstable", "stable", "testing", "sid"}
MIRROR = "https://deb.debian.org/debian"  # where apt has no Debian mirror of the user's


def unpack(packages: Sequence[str], suite: str, arch: str, into: Path) -> None:
    """Unpack these packages and all that they depend on.

    Args:
        suite: of Debian, by its code name.
        arch: Debian's name of the architecture (``"arm64"``).
        into: a folder; nothing is written elsewhere.

    Raises:
        DeviceError: apt is not there, or what it said when it failed.
    """
    with tempfile.TemporaryDirectory(prefix=".apt-", dir=into.parent) as scratch:
        folder = Path(scratch)
        (folder / "sources.list").write_text(_source(suite, arch))
        (folder / "status").touch()
        apt = ("apt-get", "-q", *_options(folder, arch))
        _run(*apt, "update")
        _run(*apt, "install", "-y", "--no-install-recommends", "--download-only", *packages)
        for package in sorted((folder / "cache/archives").glob("*.deb")):
            _run("dpkg-deb", "-x", str(package), str(into))


def architecture() -> str:
    """Debian's name of this machine's."""
    return _run("dpkg", "--print-architecture").strip()


def _source(suite: str, arch: str) -> str:
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None:
        raise DeviceError(
            f"packages of Debian {suite} cannot be checked without Debian's keys: run  apt-get "
            "install debian-archive-keyring"
        )
    return f"deb [arch={arch} signed-by={keyring}] {_mirror()} {suite} main\n"


def _mirror() -> str:
    """The mirror of Debian that this machine's apt uses already."""
    for uri, suite in RELEASE.findall(_run("apt-get", "-q", "update", "--print-uris")):
        if suite in SUITES:
            return uri
    return MIRROR


def _options(folder: Path, arch: str) -> list[str]:
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Architecture": arch,
        "APT::Architectures::": arch,
        "APT::Sandbox::User": "",  # its own user could not write into the user's cache
    }
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise DeviceError(
            f"Debian's packages cannot be fetched without {command[0]}: make the emulated device "
            "on Debian or Ubuntu"
        ) from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        said = said or done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise DeviceError(f"{command[0]} failed: {said[0].removeprefix('E:').strip()}")
    return done.stdout

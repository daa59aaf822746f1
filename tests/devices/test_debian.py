"""The user's own apt is asked for its mirror; here it is one that the test made."""

import pytest

from edgewise.devices import debian
from edgewise.errors import DeviceError


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """Have ``apt-get`` print these lines, or fail."""

    def make(says: str, code: int = 0) -> None:
        program = tmp_path / "apt-get"
        program.write_text(f"#!/bin/sh\n{says}\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return make


ROW = "echo \"'{}/dists/{}/InRelease' name 0\""


@pytest.mark.parametrize(
    ("rows", "mirror"),
    [
        ([("http://mirror.example/debian", "trixie")], "http://mirror.example/debian"),
        (
            [("http://a.example", "noble"), ("http://b.example/debian", "bookworm")],
            "http://b.example/debian",
        ),
        (
            [("http://a.example/security", "bookworm-security"), ("http://b.example", "bookworm")],
            "http://b.example",
        ),
        ([("http://ports.ubuntu.example", "noble")], debian.MIRROR),
        ([], debian.MIRROR),
    ],
)
def test_the_mirror_is_the_users_where_that_has_debian(apt, rows, mirror):
    apt("\n".join(ROW.format(*row) for row in rows))
    assert debian._mirror() == mirror


def test_what_apt_says_is_passed_on(apt, tmp_path, monkeypatch):
    keyring = tmp_path / "keys.gpg"
    keyring.touch()
    monkeypatch.setattr(debian, "KEYRINGS", (keyring,))
    apt("echo 'E: no such suite' >&2", code=100)
    with pytest.raises(DeviceError, match="apt-get failed: no such suite"):
        debian.unpack(("base-files",), "trixie", "arm64", tmp_path / "into")


def test_packages_are_not_taken_unchecked(monkeypatch, tmp_path):
    monkeypatch.setattr(debian, "KEYRINGS", (tmp_path / "none",))
    with pytest.raises(DeviceError, match="install debian-archive-keyring"):
        debian.unpack(("base-files",), "trixie", "arm64", tmp_path / "into")

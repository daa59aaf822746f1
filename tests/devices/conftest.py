"""A real sshd on loopback, with keys, a configuration, a home and, where it can be, a user."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgewise.devices import cache, connect
from edgewise.devices.emulated import Emulated

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv HOME={folder}/home
"""
CLIENT = """
IdentityFile {folder}/client_key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile none
"""


# What the device runs: another where a user of its own cannot run this one (as in root's home).
PYTHON = os.environ.get("EDGEWISE_DEVICE_PYTHON", sys.executable)


@dataclass(frozen=True)
class Server:
    """Where it listens, and the home of the user who is let in."""

    address: str
    home: Path
    python: str = PYTHON

    def files(self) -> set[str]:
        """Every file and folder below the home."""
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*")}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Open to other users, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="edgewise-sshd-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def sshd(folder) -> Iterator[Server]:
    """The server. The client is the system's ssh with the user's configuration: ours."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("needs sshd and ssh (apt-get install openssh-server)")
    for key in ("host_key", "client_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    (folder / "config").write_text(CLIENT.format(folder=folder))
    (folder / "sshd_config").write_text(SSHD.format(folder=folder, port=port))
    wrapper = folder / "bin/ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    wrapper.chmod(0o755)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log, home = folder / "log", folder / "home"
    home.mkdir()
    command = (program, "-D", "-f", folder / "sshd_config", "-E", log)
    with _user(home) as user, pytest.MonkeyPatch.context() as patch:
        server = subprocess.Popen(command)
        try:
            _wait(port, log)
            patch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
            yield Server(f"ssh://{user}@127.0.0.1:{port}", home)
        finally:
            server.terminate()
            server.wait()


CPU = "emulated:cortex-a72"


@pytest.fixture
def emulated_place(tmp_path, monkeypatch) -> Iterator[Emulated]:
    """A Cortex-A72 with an empty home, where one was made before: no test downloads anything."""
    made = cache.folder() / "aarch64"
    if not (made / "bookworm").exists() or not list(made.glob("onnxruntime*")):
        pytest.skip(f"no emulated device in the cache: run `edgewise doctor --device {CPU}` once")
    with connect(CPU) as place:
        monkeypatch.setattr(Emulated, "home", tmp_path / "home")
        yield place


@contextmanager
def _user(home: Path) -> Iterator[str]:
    """A user made for this, where we may make one who can run this interpreter; else ourselves."""
    name = f"edgewise-{secrets.token_hex(4)}"
    if os.getuid() != 0 or shutil.which("useradd") is None:
        yield getpass.getuser()
        return
    # '*' lets nobody in by password, but unlike '!' does not lock the account.
    _run("useradd", "-M", "-d", home, "-s", "/bin/sh", "-p", "*", name)
    try:
        _run("chown", name, home)
        can = subprocess.run(("runuser", "-u", name, "--", PYTHON, "-c", "import numpy"))
        if can.returncode:
            _run("chown", "root", home)
        yield getpass.getuser() if can.returncode else name
    finally:
        _run("userdel", name)


def _run(*command: object) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _wait(port: int, log: Path) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip(f"sshd does not start here: {log.read_text().strip()}")

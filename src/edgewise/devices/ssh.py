"""A device behind ssh: the user's own ssh program, keys and configuration.

Everything goes through ``ssh HOST COMMAND``, files too (``cat >`` at the other end), so that a
device needs nothing but an ssh server and Python with numpy and the runtime. Whether a host key is
known, which key opens the door and which jump host leads there is the user's configuration; nobody
is asked anything. What is carried there lies in one hidden folder in the home, which goes away when
the connection ends.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..errors import DeviceError, InputError
from .runner import NAME, runner

__all__ = ["Ssh"]

# No part may begin with a dash, which ssh would take for an option.
ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?(?P<host>[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>\d{1,5}))?(?P<python>/.*)?"
)
OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
)
UNREACHED = 255  # ssh's own code, where the command's is not known
PYTHON = "python3"
CHECK = (
    "import sys; sys.version_info >= (3, 11) or sys.exit('Python is ' + sys.version.split()[0] + "
    "', 3.11 or later is needed'); import numpy"
)


class Ssh:
    """A `Place` behind ssh.

    Args:
        name: ``ssh://[user@]host[:port][/path/of/python]``. The path is of the interpreter that
            has the runtime, ``/~/venv/bin/python`` where it lies in the home; by default the
            ``python3`` that the device finds.

    Raises:
        InputError: the name is no such address.
        DeviceError: on entering: it cannot be reached, or has no fitting Python.
    """

    timed = True

    def __init__(self, name: str) -> None:
        found = ADDRESS.fullmatch(name)
        if found is None:
            raise InputError(f"'{name}' is no address: give ssh://USER@HOST[:PORT][/PYTHON]")
        host = found["host"].strip("[]")
        port = ("-p", found["port"]) if found["port"] else ()
        target = f"{found['user']}@{host}" if found["user"] else host
        self.name = name
        self._ssh = ("ssh", *OPTIONS, *port, target)
        self._python = _python(found["python"] or "")
        self._folder = ""
        self._sent: dict[tuple[Path, int, int], str] = {}
        self._folders: dict[Path, str] = {}

    def __enter__(self) -> Ssh:
        said = self.shell('umask 077; mktemp -d "$HOME/.edgewise-XXXXXX"')
        self._folder = said.splitlines()[-1]  # a login shell may greet first
        try:
            self.shell(f"cat > {shlex.quote(self._there(NAME))}", given=runner())
            self.shell(f"{self._python} -B -c {shlex.quote(CHECK)}")
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # Where something failed already, that is what has to be said.
        with suppress(*() if kind is None else (DeviceError,)):
            self.shell(f"rm -rf {shlex.quote(self._folder)}")

    def command(self, runtime: str) -> Sequence[str]:
        """A worker from the file that was carried there; whether it has the runtime it says."""
        # The shell waits, to tell a signal that kills the worker (128 + n) from ssh's own 255.
        return (*self._ssh, _sh(f"{self._python} -B {shlex.quote(self._there(NAME))}; exit $?"))

    def send(self, path: Path) -> str:
        """Carry a file there, unless it is there already; files of one folder stay together."""
        path = path.resolve()
        stat = path.stat()
        version = path, stat.st_mtime_ns, stat.st_size
        if version not in self._sent:
            if path.parent not in self._folders:
                self._folders[path.parent] = self._there(str(len(self._folders)))
                self.shell(f"mkdir {shlex.quote(self._folders[path.parent])}")
            there = f"{self._folders[path.parent]}/{path.name}"
            with path.open("rb") as file:
                self.shell(f"cat > {shlex.quote(there)}", given=file)
            self._sent[version] = there
        return self._sent[version]

    def machine(self, found: dict[str, Any]) -> dict[str, Any]:
        """All of it: the worker ran on the device."""
        return found

    @property
    def scratch(self) -> str:
        """A folder there that goes away."""
        return self._folder

    def keep(self, paths: Sequence[str]) -> str:
        """Move files that lie there into ``~/edgewise``, each in one step; that folder."""
        files = " ".join(map(shlex.quote, paths))
        script = f'cd && mkdir -p edgewise && mv -f {files} edgewise/ && echo "$PWD/edgewise"'
        return self.shell(script).splitlines()[-1]

    def shell(self, script: str, given: bytes | IO[bytes] = b"") -> str:
        """Run lines of sh there and give what they print.

        Raises:
            DeviceError: it cannot be reached, or the script failed.
        """
        source = {"input": given} if isinstance(given, bytes) else {"stdin": given}
        try:
            done = subprocess.run((*self._ssh, _sh(script)), capture_output=True, **source)
        except FileNotFoundError:
            raise DeviceError(f"{self.name} cannot be reached without the program ssh") from None
        if not done.returncode:
            return done.stdout.decode(errors="replace")
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"code {done.returncode}"
        if done.returncode == UNREACHED:
            raise DeviceError(
                f"{self.name} cannot be reached ({said}): see that  {shlex.join(self._ssh)} true  "
                "works without a question"
            )
        raise DeviceError(f"{self.name} cannot be used ({said})")

    def _there(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _python(path: str) -> str:
    """The interpreter, quoted for the shell there."""
    if path.startswith("/~/"):
        return '"$HOME"/' + shlex.quote(path.removeprefix("/~/"))
    return shlex.quote(path) if path.strip("/") else PYTHON


def _sh(script: str) -> str:
    """One command line, whatever shell the user has there."""
    return f"sh -c {shlex.quote(script)}"

"""An Arm processor in software: the real aarch64 wheels on the device's exact instruction set.

qemu's user mode (10 or later; 7.2 crashes in the runtimes) runs Debian's Python and the runtime's
own wheel as that processor would, so that what comes out, what is missing (an illegal instruction
ends the worker by SIGILL) and roughly how much memory it takes are known before a device is at
hand. How long it takes says nothing about the device.

The root is Debian bookworm's: Python 3.11 and glibc 2.36, as on Raspberry Pi OS 12. It is fetched
on first use (about 15 MB, 70 MB more where qemu is too old here) and kept in the user's cache, as
are the wheels of each runtime in the version that is installed here.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..edge import runners
from ..errors import DeviceError, InputError
from . import cache, debian
from .runner import NAME, runner

__all__ = ["CPUS", "Emulated"]

CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")  # as qemu calls them
RUNTIMES = ("onnxruntime", "litert")
BESIDE = ("numpy", "msgspec", "cryptography")
SUITE, QEMU_SUITE = "bookworm", "trixie"
PACKAGES = ("base-files", "python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
PYTHON = "usr/bin/python3.11"
GLIBC = range(17, 37)  # manylinux_2_17 to 2_36, which bookworm's glibc can load
PROGRAMS = ("qemu-aarch64", "qemu-aarch64-static")
LEAST = 10
# Its sensors, cores and memory are this machine's and not the processor's that is emulated.
TRUE_OF_IT = ("cpu", "flags", "architecture", "libc", "os", "python")
# Paths before the root's own; the zip holds nothing but pure Python.
START = "import sys; sys.path[:0] = sys.argv[1:]; from edgewise.edge.worker import main; main()"


class Emulated:
    """A `Place` that is an emulated processor.

    Args:
        cpu: one of `CPUS`.

    Raises:
        InputError: another processor.
        DeviceError: on entering: there is no qemu of version 10, and none can be fetched.
    """

    timed = False

    def __init__(self, cpu: str) -> None:
        if cpu not in CPUS:
            raise InputError(f"no processor '{cpu}' is emulated: choose one of {', '.join(CPUS)}")
        self.cpu = cpu
        self.name = f"emulated:{cpu}"

    def __enter__(self) -> Emulated:
        self._qemu = qemu()
        self._root = cache.once(
            f"aarch64/{SUITE}", lambda into: debian.unpack(PACKAGES, SUITE, "arm64", into)
        )
        self._folder = tempfile.TemporaryDirectory(prefix="edgewise-")
        self._runner = Path(self._folder.name) / NAME
        self._runner.write_bytes(runner())
        return self

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    def command(self, runtime: str) -> Sequence[str]:
        """A worker under qemu, with nothing of this machine's environment."""
        if runtime not in RUNTIMES:
            raise InputError(
                f"{self.name} has no {runtime}: lower the model for {' or '.join(RUNTIMES)}"
            )
        return (
            *("env", "-i", "LC_ALL=C.UTF-8", self._qemu, "-cpu", self.cpu, "-L", str(self._root)),
            *(str(self._root / PYTHON), "-I", "-S", "-c", START),
            *(str(wheels(runtime)), str(self._runner)),
        )

    def send(self, path: Path) -> str:
        """The same file: qemu lets it through where the root has none of that name."""
        return str(path.resolve())

    @property
    def scratch(self) -> str:
        """A folder that goes away."""
        return self._folder.name

    @property
    def home(self) -> Path:
        """Where what is deployed stays: in the user's cache, one for each processor."""
        return cache.folder() / "aarch64/home" / self.cpu

    def keep(self, paths: Sequence[str]) -> str:
        """Copy files into ``edgewise`` in its home, each in one step; that folder."""
        kept = self.home / "edgewise"
        kept.mkdir(parents=True, exist_ok=True)
        for path in map(Path, paths):
            partial = kept / f".{path.name}.partial"
            shutil.copyfile(path, partial)
            partial.replace(kept / path.name)
        return str(kept)

    def machine(self, found: dict[str, Any]) -> dict[str, Any]:
        """What is the emulated processor's and not this machine's."""
        true = {name: found[name] for name in TRUE_OF_IT if name in found}
        return {**true, "emulator": f"qemu {_version(self._qemu)}"} if true else {}


def qemu() -> str:
    """The path of a qemu that can emulate: the user's, or the one of the cache.

    Raises:
        DeviceError: there is none, and it cannot be fetched either.
    """
    for program in filter(None, map(shutil.which, PROGRAMS)):
        if int(_version(program).partition(".")[0]) >= LEAST:
            return program
    try:
        made = cache.once(f"qemu-{platform.machine()}", _fetch_qemu)
    except DeviceError as error:
        raise DeviceError(
            f"emulated devices need qemu-aarch64 of version {LEAST} or later: install the package "
            f"qemu-user of Debian 13, Ubuntu 25.10 or later ({error})"
        ) from None
    return str(made / PROGRAMS[0])


def _fetch_qemu(into: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".qemu-", dir=into.parent) as scratch:
        unpacked = Path(scratch) / "package"
        unpacked.mkdir()
        debian.unpack(("qemu-user",), QEMU_SUITE, debian.architecture(), unpacked)
        shutil.copy(unpacked / "usr/bin" / PROGRAMS[0], into)  # linked statically
    _version(str(into / PROGRAMS[0]))


def _version(program: str) -> str:
    try:
        said = subprocess.run((program, "--version"), capture_output=True, text=True).stdout
    except OSError as error:
        raise DeviceError(f"{program} cannot be run: {error.strerror}") from None
    found = re.search(r"version (\d+[\d.]*)", said)
    if found is None:
        raise DeviceError(f"{program} does not say its version: install qemu-user anew")
    return found[1]


def wheels(runtime: str) -> Path:
    """A folder with the runtime and what bundles need for aarch64, from the user's own pip.

    Raises:
        DeviceError: what pip said when it failed.
    """
    package = runners.get(runtime).package
    try:
        wanted = (f"{package}=={metadata.version(package)}", *BESIDE)
    except metadata.PackageNotFoundError:
        wanted = (package, *BESIDE)
    return cache.once(f"aarch64/{'+'.join(wanted)}", lambda into: _install(wanted, into))


def _install(wanted: Sequence[str], into: Path) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
    abis = [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
    command = (
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
        *("--target", str(into), "--only-binary=:all:"),
        *("--python-version=3.11", "--implementation=cp", *abis, *platforms, *wanted),
    )
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise DeviceError(
            f"pip cannot fetch {', '.join(wanted)} for aarch64 and Python 3.11: {said}"
        )

"""deploy: carry an artifact or a bundle to a device, try it there, leave it if it holds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .devices import connect
from .devices.opened import Opened
from .edge import runners
from .edge.agreement import LIMITS
from .edge.artifact import Artifact
from .edge.benchmark import Progress
from .edge.bundle import Bundle, GoldenCheck, open_bundle
from .edge.place import HERE, Place
from .edge.worker import Worker
from .errors import DeviceError, InputError, MissingExtra
from .measuring import measure
from .record import Measurement

__all__ = ["Deployment", "Trial", "deploy"]

TIMEOUT = 300.0  # seconds to check and unpack a bundle there


@dataclass(frozen=True)
class Trial:
    """How one artifact did on the device.

    Attributes:
        runtime: that it is for.
        passed: whether it may stay: the golden outputs of a bundle came out, each within its
            tolerance, and the outputs are those of the same file on this machine, within what its
            precision may lose on another processor.
        measurement: latency (never of an emulated device), memory, temperature, agreement.
        golden: how far the golden outputs were off; None of an artifact alone.
        skipped: why it was not tried: the device lacks its runtime.
    """

    runtime: str
    passed: bool
    measurement: Measurement | None = None
    golden: GoldenCheck | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class Deployment:
    """What became of a deployment.

    Attributes:
        subject, device: what was carried where.
        checked: what was checked on the device before a runtime opened anything:
            ``"signature"`` (and every hash), or ``"sha256"``.
        trials: one an artifact.
        kept: the folder there in which it stays; None where nothing was left.
    """

    subject: str
    device: str
    checked: str
    trials: tuple[Trial, ...]
    kept: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every artifact that could be tried passed."""
        return all(trial.passed for trial in self.trials if trial.skipped is None)


class Target(Place, Protocol):
    """A place that files can stay at."""

    scratch: str

    def keep(self, paths: Sequence[str]) -> str:
        """Leave files that lie there for good; the folder."""
        ...


def deploy(
    subject: Artifact | str | os.PathLike[str],
    device: str | Target,
    *,
    key: str | os.PathLike[str] | None = None,
    allow_unsigned: bool = False,
    secret: bytes | None = None,
    data: Any = None,
    runs: int = 700,
    threads: int | None = None,
    clean: bool = False,
    progress: Progress | None = None,
) -> Deployment:
    """Copy to a device, check it there, run golden inputs there, measure, and leave it there.

    All is tried in a folder that goes away; only what passed is moved into ``~/edgewise``.

    Args:
        subject: an artifact, or a bundle (a file of another suffix).
        device: as `edgewise.devices.connect` takes or gives it, but not this machine.
        key: the public key that a bundle is signed with.
        allow_unsigned: take a bundle without a key, too.
        secret: that decrypts a bundle, see `edgewise.edge.bundle.read_secret`.
        data: real inputs to try and to time with (anything that `load_data` takes); with labels,
            the accuracy there is measured, too. By default random ones.
        runs, threads, progress: as of `edgewise.measure`.
        clean: leave nothing.

    Raises:
        InputError: the subject, the key or an option cannot be used.
        ModelError: the bundle is not what was signed.
        DeviceError: the device cannot be reached, lacks every runtime, or has other bytes.
        MissingExtra: the artifact's runtime, with whose outputs here it is compared, or
            `cryptography` is not installed.
        RuntimeFailure: a runtime crashed or hung there.
    """
    options = {"data": data, "runs": runs, "threads": threads, "progress": progress}
    with ExitStack() as stack:
        load = _load(stack, subject, key, allow_unsigned, secret)
        target = stack.enter_context(connect(device))
        if target is HERE:
            raise InputError("deploy carries to another device: give ssh://USER@HOST or emulated:")
        lacks = _lacks(target, load)
        runtime = next(a.runtime for a in load.artifacts if a.runtime not in lacks)
        place, checked = load.carry(target, runtime)
        trials = tuple(
            Trial(artifact.runtime, passed=False, skipped=lacks[artifact.runtime])
            if artifact.runtime in lacks
            else _try(artifact, place, load.bundle, options)
            for artifact in load.artifacts
        )
        found = Deployment(load.name, target.name, checked, trials)
        if clean or not found.passed:
            return found
        kept = target.keep(load.kept(target))
        return Deployment(load.name, target.name, checked, trials, kept)


@dataclass(frozen=True)
class Load:
    """What is carried.

    Attributes:
        name: of the file given.
        artifacts: as they lie here.
        bundle: opened and checked here; None of an artifact alone.
    """

    name: str
    artifacts: tuple[Artifact, ...]
    bundle: Bundle | None = None
    key: str | None = None
    secret: bytes | None = None

    def carry(self, target: Target, runtime: str) -> tuple[Place, str]:
        """Copy it and check there what came; the place at which it is found, and what was checked.

        A device that has this runtime has Python; no runtime is imported for it.
        """
        if self.bundle is not None:
            return self._carry_bundle(target, runtime)
        (artifact,) = self.artifacts
        with _worker(target, runtime, self.name) as worker:
            for path in _files(artifact):
                there = worker.ask(digest=target.send(path))["sha256"]
                if there != artifact.files[path.name]:
                    raise DeviceError(
                        f"{path.name} arrived at {target.name} with other bytes: see whether its "
                        "storage is full or failing"
                    )
        return target, "sha256"

    def kept(self, target: Target) -> list[str]:
        """Paths there of the files that stay: the bundle, or the artifact with its record."""
        if self.bundle is not None:
            return [target.send(self.bundle.path)]
        (artifact,) = self.artifacts
        record = artifact.path.with_name(artifact.path.name + ".json")
        return [target.send(path) for path in (*_files(artifact), record) if path.exists()]

    def _carry_bundle(self, target: Target, runtime: str) -> tuple[Place, str]:
        """The device checks the signature and every hash itself, and unpacks it itself."""
        with _worker(target, runtime, self.name) as worker:
            said = worker.ask(
                unbundle=target.send(self.bundle.path),
                into=f"{target.scratch}/unpacked",
                key=self.key,
                secret=self.secret and self.secret.hex(),
            )
        here = self.artifacts[0].path.parent
        place = Unpacked(target, here, f"{target.scratch}/unpacked")
        return place, "signature" if said["signed"] else "sha256"


class Unpacked:
    """A place where the files of a folder here lie already, in a folder there."""

    def __init__(self, place: Place, here: Path, there: str) -> None:
        self.place, self.here, self.there = place, here, there
        self.name, self.timed = place.name, place.timed
        self.command, self.machine = place.command, place.machine

    def send(self, path: Path) -> str:
        """Where it lies; carried there first if it does not."""
        return f"{self.there}/{path.name}" if path.parent == self.here else self.place.send(path)


def _load(
    stack: ExitStack,
    subject: Artifact | str | os.PathLike[str],
    key: str | os.PathLike[str] | None,
    allow_unsigned: bool,
    secret: bytes | None,
) -> Load:
    """Open what is to be carried, here."""
    if isinstance(subject, Artifact):
        return Load(subject.path.name, (subject,))
    path = Path(subject)
    if path.suffix.lower() in {r.suffixes[0] for r in runners.RUNTIMES.values()}:
        return Load(path.name, (Artifact.open(path),))
    bundle = open_bundle(path, key, allow_unsigned=allow_unsigned, secret=secret)
    stack.enter_context(bundle)
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgewise-")))
    artifacts = bundle.extract((scratch / "unpacked").resolve())
    pem = None if key is None else Path(key).read_text()
    return Load(path.name, artifacts, bundle, pem, secret)


def _try(artifact: Artifact, place: Place, bundle: Bundle | None, options: dict[str, Any]) -> Trial:
    """Golden inputs, then figures."""
    golden = None
    if bundle is not None and bundle.manifest.golden is not None:
        with Opened(artifact, place) as there:
            golden = bundle.check(there)
        if not golden.passed:
            return Trial(artifact.runtime, passed=False, golden=golden)
    found = measure(artifact, device=place, **options)
    passed = found.device_agreement.mean_steps <= LIMITS.get(artifact.precision, LIMITS["int8"])
    return Trial(artifact.runtime, passed, found, golden)


def _lacks(target: Target, load: Load) -> dict[str, str]:
    """Runtimes that the device lacks, each with the reason.

    Raises:
        DeviceError: it lacks all of them.
    """
    reasons = {}
    for artifact in load.artifacts:
        try:
            with _worker(target, artifact.runtime, load.name) as worker:
                worker.ask(probe=artifact.runtime)
        except (InputError, MissingExtra) as error:
            reasons[artifact.runtime] = str(error)
    if len(reasons) == len(load.artifacts):
        reason = "; ".join(dict.fromkeys(reasons.values()))
        raise DeviceError(f"{target.name} can run nothing of {load.name}: {reason}")
    return reasons


def _worker(place: Place, runtime: str, subject: str) -> Worker:
    return Worker(runtime, subject, timeout=TIMEOUT, command=place.command(runtime))


def _files(artifact: Artifact) -> tuple[Path, ...]:
    return runners.files(artifact.runtime, artifact.path)

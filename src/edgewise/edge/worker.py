"""A process of its own that runs one file through its runtime; and the handle to talk to it.

A runtime can kill the process that imports it (SIGILL where its build is too new for the
processor, SIGSEGV on a bad file) and its threads disturb whatever else is measured, so each file
that is measured gets a process. The two ends speak one line of JSON a message on the worker's
stdin and stdout, so that the same protocol works on this machine and over ssh:

    {"probe": "litert"}                        -> {"version"}
    {"specimen": "specimen.tflite"}            -> {}: the runtime computes rightly
    {"open": "net.tflite", "threads": 2|null}  -> {"version", "threads", "signature", "load_ns",
                                                   "before_bytes", "peak_bytes"}
    {"feed": "inputs.npz"}                     -> {"bytes"}
    {"warm": 0.3}                              -> {"ns": [...]}: for that many seconds
    {"run": 20, "skip": 5}                     -> {"ns": [...], "peak_bytes"}: 20 after 5 uncounted
    {"profile": 20}                            -> {"operators": [...]}: of 20, by its own profiler
    {"infer": [array, ...]}                    -> {"outputs": [array, ...]}, as `edgewise.edge.wire`
    {"describe": "litert"}                     -> {"machine", "versions"}
    {"state": null}                            -> clock, temperature ... as they are now
    {"digest": "net.tflite"}                   -> {"sha256", "bytes"}
    {"unbundle": "net.edge", "into": "folder",
     "key": PEM|null, "secret": hex|null,
     "base": folder|null}                      -> {"files": {runtime: path}, "signed"}; a bundle is
                                                  taken unsigned where there is no key
    {"golden": "net.edge", "file": "net.tflite",
     "secret": hex|null}                       -> {"passed", "max_abs", "tolerance"}: of a bundle
                                                  that was checked, through a file that it held

Each message also has ``"limit"``, the seconds it may take. A failure is answered by
``{"error", "message", "fields"}``. The worker ends when its stdin does, so it does not outlive
whoever started it; an alarm ends it when it hangs in the runtime.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import errors
from ..errors import DeviceError, EdgewiseError, RuntimeFailure
from . import machine, profilers, runners, specimen
from .energy import Packages
from .wire import pack, unpack

__all__ = ["Worker"]

SETTLE_PAUSE = 0.02  # seconds
SETTLE_TRIES = 25  # a thread that still spins then will always

LOCAL = (sys.executable, "-P", "-m", "edgewise.edge.worker")

DOING = {
    "probe": "being imported",
    "specimen": "running a small int8 net",
    "open": "opening {}",
    "feed": "taking inputs for {}",
    "warm": "running {}",
    "run": "running {}",
    "profile": "profiling {}",
    "infer": "running {}",
    "describe": "describing its machine",
    "state": "reading its machine's sensors",
    "digest": "reading {}",
    "unbundle": "checking {}",
    "golden": "running the golden inputs through {}",
}

CAUSES = {
    signal.SIGILL: "this build of it uses instructions that the processor lacks; install another "
    "version, or lower the model for another runtime",
    signal.SIGKILL: "most likely the machine ran out of memory; close other programs, or take a "
    "smaller model or batch",
}


class Worker:
    """The parent's end: start the process, ask it, end it.

    Args:
        runtime: named in errors.
        subject: the file that it works on, named in errors.
        timeout: seconds that it may take for one answer.
        command: what starts the process; by default this interpreter on this machine.
    """

    def __init__(
        self, runtime: str, subject: str = "", *, timeout: float, command: Sequence[str] = LOCAL
    ):
        self.runtime, self.subject, self.timeout = runtime, subject, timeout
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (`close` does)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0
        )
        self._pending = b""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, *, longer: float = 0, **message: Any) -> dict[str, Any]:
        """Send one message and wait for its answer, `longer` seconds more than the timeout.

        Raises:
            EdgewiseError: the one that the worker raised (`MissingExtra`, `ModelError` ...).
            RuntimeFailure: the process died or did not answer in time; it is gone afterwards.
        """
        verb, limit = next(iter(message)), self.timeout + longer
        try:
            self._process.stdin.write(json.dumps({**message, "limit": limit}).encode() + b"\n")
        except BrokenPipeError:
            raise self._death(verb) from None
        line = self._read_line(verb, limit)
        while not line.startswith(b"{"):  # the greeting of a login shell on a device
            line = self._read_line(verb, limit)
        answer = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"])
            error = kind.__new__(kind, answer["message"])
            vars(error).update(answer["fields"])
            raise error
        return answer

    def close(self) -> None:
        """End the process, by force if it does not end by itself."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_line(self, verb: str, limit: float) -> bytes:
        deadline = time.monotonic() + limit
        stdout = self._process.stdout
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                self._process.kill()
                raise RuntimeFailure(
                    f"{self.runtime} did not answer for {limit:g} s while {self._doing(verb)} and "
                    "was stopped: allow more time, or check what else this machine is doing"
                )
            chunk = os.read(stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._death(verb)
            self._pending += chunk
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _death(self, verb: str) -> RuntimeFailure:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)  # its pipe closes a moment before it is gone
        self._process.kill()
        code = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        doing = self._doing(verb)
        # A shell between (as over ssh) says 128 + n for the signal n.
        number = -code if code < 0 else code - 128
        if number not in set(signal.Signals):
            last = f": {said[-1]}" if said else ""
            return RuntimeFailure(f"{self.runtime} ended with code {code} while {doing}{last}")
        cause = CAUSES.get(number, "this is a fault of the runtime; try another version of it")
        name = signal.Signals(number).name
        return RuntimeFailure(f"{self.runtime} was killed by {name} while {doing}: {cause}")

    def _doing(self, verb: str) -> str:
        return DOING[verb].format(self.subject)


# The worker's end.


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each line of `requests` by a line of `answers` until the requests end."""
    session = Session()
    for line in requests:
        message = json.loads(line)
        # The kernel's default for SIGALRM ends the process even when it hangs in native code; the
        # parent gives up first, so this only speaks when the parent is gone.
        signal.alarm(math.ceil(message.pop("limit")) + 1)
        try:
            answer = session.answer(message)
        except EdgewiseError as error:
            answer = _failure(error)
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            doing = DOING[next(iter(message))].format(session.path)
            what = f"{session.runtime} failed while {doing}: {type(error).__name__}: {text}"
            answer = _failure(RuntimeFailure(what))
        signal.alarm(0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _failure(error: EdgewiseError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": str(error), "fields": vars(error)}


class Session:
    """What the worker holds between messages: the opened file and its inputs."""

    def __init__(self) -> None:
        self.runtime = "the runtime"
        self.path: Path | None = None
        self.threads = 1
        self.runner: runners.Runner | None = None
        self.feeds: Iterator[tuple[np.ndarray, ...]] = iter(())
        self.packages = Packages()

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what the message's first key says."""
        verbs = (
            *(self.probe, self.specimen, self.open, self.feed, self.warm, self.run),
            *(self.profile, self.infer, self.describe, self.state, self.digest),
            *(self.unbundle, self.golden),
        )
        (verb, argument), *options = message.items()
        return {v.__name__: v for v in verbs}[verb](argument, **dict(options))

    def probe(self, runtime: str) -> dict[str, Any]:
        """Import the runtime."""
        self.runtime = runtime
        return {"version": runners.probe(runtime)}

    def specimen(self, path: str) -> dict[str, Any]:
        """Run the small net that every runtime has a file of."""
        specimen.try_out(self.runtime, Path(path))
        return {}

    def open(self, path: str, threads: int | None) -> dict[str, Any]:
        """Open the file, timing that alone: the runtime is imported before."""
        self.path, self.runtime = Path(path), runners.runtime_of(path)
        self.threads = threads = threads or os.cpu_count() or 1
        runners.probe(self.runtime)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection inside a run would be timed with it
        before = reset_peak()
        begin = time.perf_counter_ns()
        self.runner = runners.open_file(self.runtime, path, threads)
        load = time.perf_counter_ns() - begin
        return {
            "version": self.runner.version,
            "threads": threads,
            "signature": asdict(self.runner.signature),
            "load_ns": load,
            "before_bytes": before,
            "peak_bytes": peak_bytes(),
        }

    def feed(self, path: str) -> dict[str, Any]:
        """Lay out inputs: arrays ``0``, ``1`` ..., one an input, of shape (feeds, *input)."""
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[str(i)] for i in range(len(file.files))]
        self.feeds = itertools.cycle(list(zip(*arrays, strict=True)))
        return {"bytes": sum(array.nbytes for array in arrays)}

    def warm(self, seconds: float) -> dict[str, Any]:
        """Run at least once and until `seconds` have passed."""
        ns, end = self._time(1), time.monotonic() + seconds
        while time.monotonic() < end:
            ns += self._time(1)
        return {"ns": ns}

    def run(self, count: int, skip: int) -> dict[str, Any]:
        """Time `count` inferences, each by itself, after `skip` more, and wait for quiet."""
        self._time(skip)
        before = self.packages.read()
        ns = self._time(count)
        energy = self.packages.since(before)
        settle()
        return {"ns": ns, "peak_bytes": peak_bytes(), "energy_mj": energy}

    def profile(self, runs: int) -> dict[str, Any]:
        """What each operator takes, by the runtime's own profiler."""
        found = profilers.profile(self.runtime, self.path, self.threads, self.feeds, runs)
        return {"operators": [asdict(operator) for operator in found]}

    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Run once and give what comes out."""
        return {"outputs": [pack(array) for array in self.runner.run(*map(unpack, inputs))]}

    def describe(self, runtime: str) -> dict[str, Any]:
        """What machine this is and what is installed; the runtime only names the worker."""
        self.runtime = runtime
        return {"machine": machine.describe(), "versions": machine.versions()}

    def state(self, nothing: None) -> dict[str, Any]:
        """What the machine's sensors say now."""
        return machine.state()

    def digest(self, path: str) -> dict[str, Any]:
        """The sha256 of a file as it lies there."""
        self.path = Path(path)
        with self.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": sha256, "bytes": self.path.stat().st_size}

    def unbundle(
        self, path: str, into: str, key: str | None, secret: str | None, base: str | None = None
    ) -> dict[str, Any]:
        """Check signature and hashes of a bundle, then unpack it into a new folder."""
        self.path = Path(path)
        pem, known = key and key.encode(), secret and bytes.fromhex(secret)
        try:
            from .bundle import open_bundle

            with open_bundle(path, pem, allow_unsigned=key is None, secret=known) as bundle:
                files = {a.runtime: str(a.path) for a in bundle.extract(into, base)}
                return {"files": files, "signed": bundle.signed}
        except ModuleNotFoundError as error:
            raise DeviceError(
                f"{path} cannot be checked without {error.name}: run  pip install {error.name}  "
                "on the device"
            ) from None

    def golden(self, path: str, file: str, secret: str | None) -> dict[str, Any]:
        """Run a bundle's golden inputs through one of its files."""
        from .artifact import Artifact
        from .bundle import open_bundle

        self.path, self.runtime = Path(file), runners.runtime_of(file)
        known = secret and bytes.fromhex(secret)
        with open_bundle(path, allow_unsigned=True, secret=known) as bundle:
            check = bundle.check(Artifact.open(file))
        return {name: getattr(check, name) for name in ("passed", "max_abs", "tolerance")}

    def _time(self, count: int) -> list[int]:
        clock, run, ns = time.perf_counter_ns, self.runner.run, [0] * count
        for i, feed in zip(range(count), self.feeds, strict=False):
            begin = clock()
            run(*feed)
            ns[i] = clock() - begin
        return ns


def settle() -> None:
    """Wait until the runtime's threads sleep, so that they do not disturb the next worker.

    Runtimes let their threads spin after an inference in the hope of another (ONNX Runtime for
    40 ms on a server). The kernel counts a thread's time at its ticks only, every 10 ms at worst.
    """
    for _ in range(SETTLE_TRIES):
        before = time.process_time()
        time.sleep(SETTLE_PAUSE)
        if time.process_time() - before < SETTLE_PAUSE / 10:
            return


def reset_peak() -> int:
    """Set the peak of this process' memory to what it holds now, and return it, in bytes.

    Where the system has no such reset the peak stays, and what comes is counted from there.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The most physical memory that this process held since `reset_peak`.

    `getrusage` only where there is no /proc: on Linux its figure starts at the peak of the
    process that started this one.
    """
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeFailure(f"/proc/self/status has no {field}: memory cannot be measured here")


def main() -> None:
    """Serve stdin and stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who then ends this
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # runtimes print; only answers may reach the parent's pipe
    with suppress(BrokenPipeError):  # the parent is gone
        serve(sys.stdin.buffer, answers)
    os._exit(0)  # without the runtime's own clean-up, which may hang


if __name__ == "__main__":
    main()

"""The agent: looks at a repository now and then, and keeps a device's models up to it.

What the folder can look like, for one model, and what leads from one state to the next. Each arrow
is one durable step (`disk`): a crash leaves what is on its left or on its right.

    proven       models/M -> good          good=G  trial=-
      | a newer release: download and unpack into work/, golden inputs in a child, rename to slots/
      | (a crash here leaves work/, which is swept, or a slot that nothing leads to: likewise)
      v  state.json
    begun        models/M -> good          good=G  trial=T      at start: forgotten, tried anew
      v  rename of the link
    on trial     models/M -> trial         good=G  trial=T      at start: watched anew, three times
      | the server loads it, and is watched
      |-- well:  state.json ------------------> proven, with G = T
      v  otherwise: state.json
    refused      models/M -> trial         good=G  trial=T  refused[T]=why     at start: goes on:
      v  rename of the link
    going back   models/M -> good          good=G  trial=T  refused[T]=why     at start: goes on:
      v  state.json
    proven       models/M -> good          good=G  trial=-

In every one of them `models/M` leads to a slot that is complete and synced and has passed its
golden inputs on this device.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ...errors import EdgewiseError, InputError, UpdateError
from ...record import decode, encode
from ..bundle import read_secret
from .client import Client, packed, unpacked
from .disk import Disk, clear, folder, save
from .fetch import Fetcher
from .release import Release, choose, reads
from .service import Service
from .slots import Slots
from .trial import Refused, try_out, unpack

__all__ = ["Agent", "Settings", "Watch", "wait_for"]

MOST_STARTS = 3  # of the agent while one trial goes on
MOST_ILL = 3  # looks one after the other
MOST_FAILED = 0.05  # of the clients' requests
LONGEST_PAUSE = 24 * 3600.0


@dataclass(frozen=True)
class Watch:
    """How a new version is watched after the switch.

    Attributes:
        admin: the server's socket for administration.
        check: a command line of the user's that ends with 0 while all is well.
        seconds: for how long it must do well,
        every: and how often that is looked at.
    """

    admin: Path | None = None
    check: str | None = None
    seconds: float = 60.0
    every: float = 2.0


@dataclass(frozen=True)
class Settings:
    """What an agent does.

    Attributes:
        repo: URL of the repository, as `edgewise publish` writes it.
        root: its first root, which came with the device.
        folder: of the agent.
        models: those to keep up to date; all that there are when empty.
        cohort: the group of devices that this one belongs to.
        key: who must have signed the bundles, beside the repository's keys.
        secret: where the key is that decrypts them (see `edgewise.edge.bundle.read_secret`).
        watch: how a new version is watched.
        interval: seconds from one look to the next, on average.
        largest: bytes of a bundle.
    """

    repo: str
    root: Path
    folder: Path
    models: tuple[str, ...] = ()
    cohort: str | None = None
    key: Path | None = None
    secret: str | None = None
    watch: Watch = field(default_factory=Watch)
    interval: float = 3600.0
    largest: int = 1 << 30


@dataclass(frozen=True)
class Trusted:
    """The content of `trusted.json`: the newest metadata that were verified.

    Attributes:
        root: sha256 of the root that all began with: with another one, it begins anew.
        files: by name, their text.
    """

    root: str = ""
    files: dict[str, str] = field(default_factory=dict)


class Agent:
    """One device's agent; only one may run in a folder.

    Args:
        settings: what it does.
        disk: what changes its folder.
        sleep: how it waits.
        say: where it tells what it did.
        fetcher: how it fetches.

    Raises:
        InputError: the folder has an agent already, or its state cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        disk: Disk | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] | None = None,
        fetcher: Fetcher | None = None,
    ):
        self.settings, self._sleep, self._say = settings, sleep, say or _say
        self._disk = disk or Disk()
        self._secret = read_secret(settings.secret) if settings.secret else None
        self._root = _read_root(settings.root)
        self._fetcher = fetcher or Fetcher()
        self._service = Service(settings.watch.admin, settings.watch.check)
        self._lock = _lock(folder(self._disk, settings.folder))
        try:
            self.slots = Slots(settings.folder, self._disk)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let another agent have the folder."""
        self._fetcher.close()
        os.close(self._lock)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self) -> None:
        """Recover, then look for ever."""
        self.recover()
        failures = 0
        if not any(map(self.slots.current, self.slots.models())):  # nothing to run: do not wait
            failures = 0 if self.update() else 1
        while True:
            self._sleep(wait_for(self.settings.interval, failures))
            failures = 0 if self.update() else failures + 1

    def recover(self) -> None:
        """Bring what a crash has left into order, and go on with a trial that it cut off."""
        for model in self.slots.models():
            before = self.slots.current(model)
            self.slots.recover(model)
            if self.slots.current(model) != before:
                self._say(f"{model}: {before} was left unfinished or damaged")
                self._tell(model)
        self.slots.sweep()
        for model in self.slots.models():
            if self.slots.of(model).trial is not None:
                if self.slots.started_again(model) > MOST_STARTS:
                    self._go_back(model, f"the agent did not survive {MOST_STARTS} trials of it")
                else:
                    self._try(model)

    def update(self) -> bool:
        """Look once, and take what is new; whether all went well."""
        try:
            if any(self.slots.of(model).trial for model in self.slots.models()):
                self.recover()  # an earlier look had no room to note how its trial ended
            with self._looking() as client:
                wanted = self._wanted(reads(client.targets()))
                done = [self._take(client, release) for release in wanted]
            return all(done)
        except (EdgewiseError, OSError) as error:
            self._say(f"not updated: {error}")
            return False

    @contextmanager
    def _looking(self) -> Iterator[Client]:
        """The repository as it is now; what was learned of it is kept, whatever comes."""
        path, digest = self.settings.folder / "trusted.json", hashlib.sha256(self._root).hexdigest()
        known = decode(path.read_bytes(), Trusted, str(path)) if path.exists() else Trusted()
        if known.root != digest:
            known = Trusted(digest)
        url = self.settings.repo.rstrip("/")
        with unpacked(known.files) as metadata:
            root = None if known.files else self._root
            client = Client(f"{url}/metadata", f"{url}/targets", metadata, self._fetcher, root)
            try:
                client.refresh()
            finally:
                now = Trusted(digest, packed(metadata))
                if now != known:
                    save(self._disk, path, encode(now))
            yield client

    def _wanted(self, releases: list[Release]) -> list[Release]:
        """Of each model that this device shall have, the release that it does not run yet."""
        settings, wanted = self.settings, []
        known = {release.terms.model for release in releases}
        if missing := sorted(set(settings.models) - known):
            raise UpdateError(f"{settings.repo} has no release of '{missing[0]}'")
        for model, group in groupby(releases, key=lambda release: release.terms.model):
            if settings.models and model not in settings.models:
                continue
            current = self.slots.current(model)
            open_to = [r for r in group if r.slot not in self.slots.state.refused]
            chosen = choose(open_to, self.slots.state.device, settings.cohort, current)
            if chosen is not None and chosen.slot != current:
                wanted.append(chosen)
        return wanted

    def _take(self, client: Client, release: Release) -> bool:
        """Install a release beside what runs, and put it on trial; whether it does well."""
        model, name = release.terms.model, f"{release.terms.model} {release.terms.version}"
        try:
            self.slots.sweep()
            if not self.slots.intact(model, release.slot):
                self._install(client, release)
        except Refused as error:
            self.slots.refuse(release.slot, str(error))
            self._say(f"{name}: refused: {error}")
            return False
        except (EdgewiseError, OSError) as error:
            self._say(f"{name}: not installed: {error}")
            return False
        self.slots.begin(model, release.slot)
        return self._try(model)

    def _install(self, client: Client, release: Release) -> None:
        slots, settings = self.slots, self.settings
        model, current = release.terms.model, slots.current(release.terms.model)
        target = release.smallest(slots.digests(model, current))
        if target.length > settings.largest:
            raise Refused(f"it has {target.length} bytes, more than the {settings.largest} allowed")
        bundle = slots.work / f"{target.hashes['sha256']}.part"
        for other in slots.work.glob("*.part"):
            if other != bundle:
                clear(self._disk, other)
        free = os.statvfs(slots.work)
        if target.length > free.f_bavail * free.f_frsize:
            raise InputError(f"{slots.work} has no room for {target.length} bytes: free some")
        client.download(target, bundle)
        new = slots.work / "new"
        clear(self._disk, new)
        folder(self._disk, new)
        base = slots.path(model, current) / "files" if current else None
        files = unpack(bundle, new / "files", base=base, key=settings.key, secret=self._secret)
        artifact = try_out(bundle, files, self._secret)
        slots.place(new, artifact, model, release.slot)
        clear(self._disk, bundle)

    def _try(self, model: str) -> bool:
        """Have the server take what is on trial, watch it, and decide; whether it does well."""
        slot = self.slots.of(model).trial
        why = self._ills(model, int(slot.partition("-")[0]))
        if why:
            self._go_back(model, why)
        else:
            self.slots.commit(model)
            self._say(f"{model}: {slot} runs")
        return not why

    def _ills(self, model: str, version: int) -> str:
        """What is wrong with a version that is watched; nothing when it did well throughout."""
        watch, service = self.settings.watch, self._service
        if not service.watched:
            return ""
        if watch.admin is not None:
            if not service.up():
                # Not this version's fault; the server will find it when it comes.
                self._say(f"{model}: the server at {watch.admin} does not answer: not watched")
                return ""
            if why := service.load(model):
                return why
        before, looks, ill = service.health(model, version), 0, 0
        while looks * watch.every < watch.seconds or ill:  # it does not end on a bad look
            self._sleep(watch.every)
            now, looks = service.health(model, version), looks + 1
            answered, failed = now.answered - before.answered, now.failed - before.failed
            if now.well and failed > max(0, answered) * MOST_FAILED:
                return f"{failed} of {answered} requests failed"
            ill = 0 if now.well else ill + 1
            if ill >= MOST_ILL:
                return now.why
        return ""

    def _go_back(self, model: str, why: str) -> None:
        state = self.slots.of(model)
        self.slots.roll_back(model, why)
        self._say(f"{model}: {state.trial} rolled back to {state.good or 'nothing'}: {why}")
        self._tell(model)

    def _tell(self, model: str) -> None:
        """Have the server serve what is current; it says itself where it cannot."""
        if self.settings.watch.admin is None:
            return
        if self.slots.current(model) is None:
            self._service.unload(model)
        elif why := self._service.load(model):
            self._say(f"{model}: {why}")


def wait_for(interval: float, failures: int) -> float:
    """Seconds to the next look: by chance, so that a fleet never comes all at once.

    Between looks that went well 0.5 to 1.5 intervals. After a failure anything up to a sixtieth
    of an interval, twice as long after each further one, up to an interval (exponential back-off
    with full jitter; M. Brooker, AWS Architecture Blog, 2015).
    """
    if failures == 0:
        return min(interval * random.uniform(0.5, 1.5), LONGEST_PAUSE)
    most = min(interval, interval / 60 * 2.0 ** min(failures, 30))
    return min(random.uniform(0, most) + 1.0, LONGEST_PAUSE)


def _lock(home: Path) -> int:
    number = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        raise InputError(
            f"an agent runs in {home} already: end it, or give another --dir"
        ) from None
    return number


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; give the 1.root.json that "
            "`edgewise publish --init` wrote"
        ) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

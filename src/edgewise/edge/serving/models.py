"""The models that are served now, and how one takes the place of another while requests run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .lane import Lane, open_lane
from .limits import Limits, Refused
from .metrics import Metrics
from .repository import Entry, Trust, find

__all__ = ["Models"]


class Models:
    """The lanes by name.

    A request takes its lane once and is answered by that one, so that no answer mixes versions. A
    new version is opened and tried beside the old one; the change itself is one assignment on the
    event loop. The old one answers what it has taken, and ends.

    Args:
        root: where models are found.
        limits: of the server.
        trust: which bundles are served.
        threads, instances: see `open_lane`.

    Attributes:
        ready: whether every model found is served, and there was one.
        metrics: what was counted.
    """

    def __init__(
        self,
        root: Path,
        limits: Limits,
        *,
        trust: Trust | None = None,
        threads: int | None = None,
        instances: int = 1,
    ):
        self.root, self.limits, self._trust = root, limits, trust or Trust()
        self.ready = False
        self.metrics = Metrics()
        self._options = {"threads": threads, "instances": instances}
        self._lanes: dict[str, Lane] = {}
        self._leaving: list[Lane] = []  # closed, with requests that still wait
        self._change = asyncio.Lock()

    def lane(self, name: str, version: str = "") -> Lane:
        """The model of that name and, where one is asked for, that version.

        Raises:
            Refused: 404 where it is not served.
        """
        lane = self._lanes.get(name)
        if lane is None:
            known = ", ".join(self._lanes) or "none"
            raise Refused(404, f"there is no model '{name[:100]}': served are {known}")
        if version and version != lane.version:
            raise Refused(404, f"'{name}' is served in version {lane.version}, not {version[:100]}")
        return lane

    def index(self) -> list[Lane]:
        """Every lane."""
        return list(self._lanes.values())

    async def load_all(self) -> None:
        """Serve whatever is found now, and no more what is gone.

        Raises:
            EdgewiseError: something that cannot be served; what was served before still is.
        """
        async with self._change:
            entries = await asyncio.to_thread(find, self.root)
            for entry in entries.values():
                await self._load(entry)
            for name in set(self._lanes) - set(entries):
                self._leave(self._lanes.pop(name))
            self.ready = True

    async def load(self, name: str) -> Lane:
        """Serve what is found now under one name.

        Raises:
            Refused: 404 where nothing is.
            EdgewiseError: it cannot be served; what was served before still is.
        """
        async with self._change:
            entry = (await asyncio.to_thread(find, self.root)).get(name)
            if entry is None:
                raise Refused(404, f"there is no '{name[:100]}' to load")
            lane = await self._load(entry)
            self.ready = True
            return lane

    async def unload(self, name: str) -> None:
        """Serve a model no more.

        Raises:
            Refused: 404 where it was not served.
        """
        async with self._change:
            self.lane(name)
            self._leave(self._lanes.pop(name))

    def expire(self) -> None:
        """Give up requests that have waited for too long."""
        for lane in (*self._lanes.values(), *self._leaving):
            lane.expire()
        self._leaving = [lane for lane in self._leaving if lane.waiting]

    def exposition(self) -> str:
        """The metrics as Prometheus reads them."""
        return self.metrics.exposition(self.index())

    def close(self) -> None:
        """End every lane."""
        while self._lanes:
            self._lanes.popitem()[1].close()

    async def _load(self, entry: Entry) -> Lane:
        lane = await asyncio.to_thread(self._open, entry)
        lane.start(asyncio.get_running_loop())
        old, self._lanes[entry.name] = self._lanes.get(entry.name), lane
        if old is not None:
            self._leave(old)
        return lane

    def _leave(self, lane: Lane) -> None:
        lane.close()
        self._leaving.append(lane)

    def _open(self, entry: Entry) -> Lane:
        with entry.opened(self._trust) as (version, artifacts):
            return open_lane(entry.name, version, artifacts, self.limits, **self._options)

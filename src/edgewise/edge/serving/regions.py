"""Inputs in shared memory, for programs of the same user on the same device.

The addresses and parameters are those of Triton's extension "system_shared_memory". A region is
read, never mapped: a client that shortens it while it is read gets an error, where a mapping would
kill the server. Only on the Unix socket, and only regions of the server's own user.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .limits import Refused

__all__ = ["Regions"]

FOLDER = Path("/dev/shm")
KEY = re.compile(r"/?([A-Za-z0-9_-][A-Za-z0-9._-]{0,199})")
MOST = 64


class Registration(msgspec.Struct):
    """What a client says of a region."""

    key: str
    byte_size: int
    offset: int = 0


@dataclass(frozen=True)
class Region:
    """An opened region: `size` bytes from `offset` on."""

    file: int
    key: str
    offset: int
    size: int


class Regions:
    """The regions that clients have registered, by name.

    Args:
        most_bytes: that one tensor may have.
    """

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._regions: dict[str, Region] = {}

    def answer(self, parts: list[str], method: str, body: bytes) -> Any:
        """What comes of a request under ``/v2/systemsharedmemory``.

        Raises:
            Refused: 400 or 404 with the reason.
        """
        match method, parts:
            case "GET", ["status"]:
                return [self._status(name) for name in self._regions]
            case "GET", ["region", name, "status"]:
                self._get(name)
                return [self._status(name)]
            case "POST", ["region", name, "register"]:
                self._register(name, body)
            case "POST", ["region", name, "unregister"]:
                if name in self._regions:
                    os.close(self._regions.pop(name).file)
            case "POST", ["unregister"]:
                self.close()
            case _:
                raise Refused(404, "there is nothing at this address")
        return {}

    def read(self, parameters: dict[str, Any], size: int) -> np.ndarray:
        """The bytes that an input's parameters point at, as a copy.

        Args:
            parameters: ``shared_memory_region``, ``shared_memory_byte_size`` and perhaps
                ``shared_memory_offset``.
            size: that the input must have.

        Raises:
            Refused: 400 where they are not there, or not as many.
        """
        region = self._get(parameters["shared_memory_region"])
        offset = parameters.get("shared_memory_offset", 0)
        given = parameters.get("shared_memory_byte_size")
        if given != size or size > self._most_bytes:
            raise Refused(400, f"an input of {size} bytes has {given} in shared memory")
        if not isinstance(offset, int) or not 0 <= offset <= region.size - size:
            raise Refused(400, f"{size} bytes from {offset} on are not within the region")
        data = np.empty(size, np.uint8)
        if os.preadv(region.file, [data], region.offset + offset) != size:
            raise Refused(400, "the region is shorter than it was registered")
        return data

    def close(self) -> None:
        """Let go of every region."""
        while self._regions:
            os.close(self._regions.popitem()[1].file)

    def _register(self, name: str, body: bytes) -> None:
        try:
            given = msgspec.json.decode(body, type=Registration)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"this is no registration of a region: {error}") from None
        key = KEY.fullmatch(given.key)
        if key is None or not 0 <= given.offset < 2**48 or not 0 < given.byte_size < 2**48:
            raise Refused(400, "the key, offset or size of the region is not one that can be")
        if name in self._regions or len(self._regions) >= MOST:
            raise Refused(400, f"the region is registered already, or {MOST} others are")
        try:
            file = os.open(FOLDER / key[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise Refused(400, f"the region cannot be opened: {error.strerror}") from None
        found = os.fstat(file)
        sound = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
        if not sound or found.st_size < given.offset + given.byte_size:
            os.close(file)
            raise Refused(400, "the region is another user's, or shorter than was said")
        self._regions[name] = Region(file, given.key, given.offset, given.byte_size)

    def _get(self, name: Any) -> Region:
        if not isinstance(name, str) or name not in self._regions:
            raise Refused(400, "there is no such region: register it first")
        return self._regions[name]

    def _status(self, name: str) -> dict[str, Any]:
        region = self._regions[name]
        return {
            "name": name,
            "key": region.key,
            "offset": region.offset,
            "byte_size": region.size,
        }

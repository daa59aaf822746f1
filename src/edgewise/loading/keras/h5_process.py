"""Reads HDF5 in a process of its own: run as a script by `h5`, it imports nothing of edgewise.

The HDF5 library is not made for files from strangers: some damaged ones make it loop for ever or
crash. And HDF5 can point to other files (external links, external storage, virtual datasets), to
itself, to filters that are loaded from a library path, and can declare arrays far larger than the
file: none of these is followed.

On standard input: a line of JSON with the path, or the number of bytes of a file that follow it;
then a request a line, ``[method, *arguments]``. On standard output: for each, a line of JSON with
``error`` or ``value``, or ``dtype``, ``shape`` and ``bytes`` of the array that follows it.
"""

from __future__ import annotations

import io
import json
import math
import sys
from typing import Any

import h5py
import numpy as np

__all__ = ["Reader", "Refusal", "main"]

# Deflate and LZF cannot do better.
MAX_RATIO = 1100
SMALL = 1 << 20
MAX_TEXT = 64 << 20
DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
BROKEN = (OSError, ValueError, RuntimeError, KeyError, TypeError, MemoryError)


class Refusal(Exception):
    """One sentence: why something is not read."""


class Reader:
    """An open file; walks hard links only."""

    def __init__(self, source: str | io.BytesIO):
        try:
            self._file = h5py.File(source, "r")
        except BROKEN as error:
            raise Refusal(f"no sound HDF5 file: {_line(error)}") from None

    def has(self, path: str) -> bool:
        """Whether there is a group or an array under this path."""
        return self._find(path) is not None

    def array(self, path: str) -> np.ndarray:
        """The numbers under this path, at most 32 bits wide when they float.

        Raises:
            Refusal: there is none, it lies outside the file or is larger than the file can
                hold, or is no array of numbers.
        """
        found = self._find(path)
        if not isinstance(found, h5py.Dataset):
            raise Refusal(f"the file has no weight '{path}'")
        where = f"weight '{path}' in the file"
        try:
            self._check(found, where)
            data = found[()]
        except BROKEN as error:
            raise Refusal(f"{where} cannot be read: {_line(error)}") from None
        return np.asarray(
            data, np.float32 if data.dtype.kind == "f" else data.dtype.newbyteorder("=")
        )

    def text(self, path: str, attribute: str) -> str | None:
        """An attribute that is text; None where there is none."""
        value = self._attribute(path, attribute)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def texts(self, path: str, attribute: str) -> list[str] | None:
        """An attribute that is a list of texts (in parts ``name0``, ``name1`` ... when long)."""
        values = self._attribute(path, attribute)
        if values is None:
            values, part = [], 0
            while (more := self._attribute(path, f"{attribute}{part}")) is not None:
                values.extend(more)
                part += 1
            if not part:
                return None
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]

    def _attribute(self, path: str, name: str) -> Any:
        found = self._find(path)
        try:
            if found is None or name not in found.attrs:
                return None
            kept = found.attrs.get_id(name)
            size = math.prod(kept.shape or ()) * kept.dtype.itemsize
            if size > MAX_TEXT:
                raise Refusal(f"attribute '{name}' in the file has {size} bytes")
            value = found.attrs[name]
        except BROKEN as error:
            raise Refusal(f"attribute '{name}' in the file is damaged: {_line(error)}") from None
        if isinstance(value, np.ndarray) and value.dtype.kind not in "SOU" and value.size:
            raise Refusal(f"attribute '{name}' in the file is no text")
        return value

    def _find(self, path: str) -> Any:
        """What lies under a path, walking hard links only."""
        here = self._file
        try:
            for part in filter(None, path.split("/")):
                if not isinstance(here, h5py.Group) or part not in here:
                    return None
                link = here.get(part, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise Refusal(
                        f"'{path}' in the file is a link to elsewhere, which is not followed"
                    )
                here = here[part]
        except BROKEN as error:
            raise Refusal(f"'{path}' in the file is damaged: {_line(error)}") from None
        return here

    def _check(self, dataset: Any, where: str) -> None:
        """Refuse what is not stored here, in full, in a usual way."""
        layout = dataset.id.get_create_plist()
        if dataset.is_virtual or layout.get_external_count():
            raise Refusal(f"{where} lies in another file, which is not opened")
        if dataset.dtype.kind not in "fiub" or dataset.shape is None:
            raise Refusal(f"{where} holds no numbers ({dataset.dtype})")
        filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
        if odd := filters - {DEFLATE, SHUFFLE, FLETCHER32, LZF}:
            raise Refusal(f"{where} is packed by the unknown filter {min(odd)}")
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > max(SMALL, stored * (MAX_RATIO if filters else 1)):
            raise Refusal(
                f"{where} claims the shape {dataset.shape}, but the file holds {stored} bytes of it"
            )


def _line(error: BaseException) -> str:
    """The reason in one line that moves no cursor."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def main() -> None:
    """Serve one file until standard input ends."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    source = json.loads(requests.readline())
    reader = None
    try:
        reader = Reader(source if isinstance(source, str) else io.BytesIO(requests.read(source)))
        answer: dict[str, Any] = {"value": None}
    except Refusal as refusal:
        answer = {"error": str(refusal)}
    data = b""
    while True:
        replies.write(json.dumps(answer).encode() + b"\n" + data)
        replies.flush()
        if reader is None or not (request := requests.readline()):
            return
        method, *arguments = json.loads(request)
        data = b""
        try:
            value = getattr(reader, method)(*arguments)
            answer = {"value": value}
            if isinstance(value, np.ndarray):
                data = value.tobytes()
                answer = {"dtype": str(value.dtype), "shape": value.shape, "bytes": len(data)}
        except (Refusal, MemoryError) as refusal:
            answer = {"error": str(refusal) or "more than fits into memory"}


if __name__ == "__main__":
    main()

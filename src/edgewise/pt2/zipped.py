"""Zip archives from strangers: every size is checked before anything of that size is allocated."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

from ..errors import ModelError

__all__ = ["ZipArchive"]

# Bytes of the table of contents: about 60,000 entries with names as torch gives them.
MAX_DIRECTORY = 8 << 20
# Deflate cannot do better than 1032 to 1; weights and JSON stay far below this.
MAX_RATIO = 20
# Below this size any ratio is harmless.
SMALL = 1 << 20

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}

# What zipfile and zlib raise on a broken archive, as tried by changing bits.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class ZipArchive:
    """A zip file opened for reading, its table of contents checked.

    Names are only keys: nothing is ever unpacked to disk. Used as a context manager, it puts the
    file's path in front of every `ModelError` that is raised inside, and makes it one line.

    Raises:
        ModelError: no regular file, no zip, cut off, or with entries that are encrypted, links,
            folders, listed twice, or larger than the file can hold.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.exists():
            raise ModelError(f"{path} does not exist")
        if not self.path.is_file():
            raise ModelError(f"{path} is not a file")
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self._entries = self._read_directory()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if isinstance(error, ModelError):
            # Names from the file are in the message: none may move a terminal's cursor.
            text = "".join(c if c.isprintable() else "?" for c in str(error))
            raise ModelError(f"{self.path}: {text}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries, in the order of the table of contents."""
        return tuple(self._entries)

    def size(self, name: str) -> int:
        """Bytes of an entry, 0 when there is none of that name."""
        return self._entries[name].file_size if name in self._entries else 0

    def read(self, name: str, most: int) -> bytes:
        """The content of an entry, its checksum verified.

        Args:
            most: the largest acceptable size in bytes.

        Raises:
            ModelError: no such entry, larger than `most`, or damaged.
        """
        if name not in self._entries:
            raise ModelError(f"there is no entry '{name}': the file is not complete")
        info = self._entries[name]
        if info.file_size > most:
            raise ModelError(
                f"entry '{name}' has {info.file_size} bytes, more than the {most} that are read"
            )
        try:
            with self._zip.open(info) as entry:
                # Asking for a size keeps deflate from giving more than was declared.
                data = entry.read(info.file_size + 1)
        except BROKEN as error:
            raise ModelError(f"entry '{name}' is damaged ({error})") from None
        if len(data) != info.file_size:
            raise ModelError(f"entry '{name}' has {len(data)} of {info.file_size} bytes")
        return data

    def _read_directory(self) -> dict[str, zipfile.ZipInfo]:
        length = self._file.seek(0, os.SEEK_END)
        directory = self._directory_bytes(length)
        if directory > min(MAX_DIRECTORY, length):
            raise ModelError(f"{self.path} has a table of contents of {directory} bytes")
        try:
            self._zip = zipfile.ZipFile(self._file)
        except BROKEN as error:
            raise ModelError(f"{self.path} is damaged: {error}") from None
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            self._check_entry(info)
            if info.filename in entries:
                raise ModelError(f"{self.path} has two entries named '{info.filename}'")
            entries[info.filename] = info
        if sum(info.compress_size for info in entries.values()) > length:
            raise ModelError(f"{self.path} is damaged: its entries overlap")
        return entries

    def _directory_bytes(self, length: int) -> int:
        """Size of the table of contents as the file's last bytes give it.

        APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16; a comment after it is not accepted.
        """
        self._file.seek(max(0, length - 98))
        tail = self._file.read(98).rjust(98, b"\0")
        if tail[-22:-18] != b"PK\5\6":
            raise ModelError(
                f"{self.path} is cut off, or no file of its kind: it does not end as a zip"
            )
        if tail[-42:-38] == b"PK\6\7":  # the 64 bit form, for files over 4 GB
            return struct.unpack("<Q", tail[-58:-50])[0]
        return struct.unpack("<L", tail[-10:-6])[0]

    def _check_entry(self, info: zipfile.ZipInfo) -> None:
        where = f"{self.path}: entry '{info.filename}'"
        if info.flag_bits & 0x1:
            raise ModelError(f"{where} is encrypted")
        if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            raise ModelError(f"{where} is a folder or a link")
        if info.compress_type not in METHODS:
            raise ModelError(
                f"{where} is compressed by method {info.compress_type}, not by deflate"
            )
        stored = info.compress_type == zipfile.ZIP_STORED
        if stored and info.file_size != info.compress_size:
            raise ModelError(f"{where} is damaged: it has two sizes")
        if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
            raise ModelError(
                f"{where} would unpack from {info.compress_size} to {info.file_size} bytes: "
                f"more than {MAX_RATIO} to 1 is refused"
            )

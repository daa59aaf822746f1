"""Zip files that are made to hurt: bombs, lies about sizes, and what is no file at all."""

from __future__ import annotations

import io
import os
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewise.errors import ModelError
from edgewise.loading.pt2 import load_pt2
from edgewise.pt2.zipped import ZipArchive

from .archives import DOCUMENT, saved, zipped


def written(change: Callable[[zipfile.ZipFile], None]) -> bytes:
    """A Model's file with more done to it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in saved().items():
            archive.writestr(name, data)
        change(archive)
    return buffer.getvalue()


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(DOCUMENT, b"{}")


def bzip(archive: zipfile.ZipFile) -> None:
    archive.writestr("more", b"x" * 100, zipfile.ZIP_BZIP2)


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("more", bytes(200 << 20), zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (link, "a folder or a link"),
        (lambda archive: archive.mkdir("folder"), "a folder or a link"),
        (twice, "two entries named"),
        (bzip, "method 12"),
        (bomb, "20 to 1"),
        (lambda archive: archive.writestr("../../etc/cron.d/x", b""), "does not belong there"),
        (lambda archive: archive.writestr("/etc/cron.d/x", b""), "does not belong there"),
        (lambda archive: archive.writestr("weights.pt", b""), "does not belong there"),
        (lambda archive: setattr(archive, "comment", b"x" * 30), "does not end as a zip"),
    ],
)
def test_entries_that_do_not_belong_are_refused(
    change: Callable, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(written(change))
    with pytest.raises(ModelError, match=says) as error:
        load_pt2(path)
    assert str(error.value).startswith(str(path))
    assert os.listdir(tmp_path) == ["net.pt2"]


def central(data: bytes, name: str) -> int:
    """Where the table of contents has the entry of that name."""
    return data.rindex(name.encode()) - 46


def patched(data: bytes, at: int, kind: str, value: int) -> bytes:
    field = struct.pack(kind, value)
    return data[:at] + field + data[at + len(field) :]


# Offset in the entry's row of the table (APPNOTE 4.3.12), type, value -> what the message says.
LIES = {
    "encrypted": (8, "<H", 1, "encrypted"),
    "checksum": (16, "<L", 1, "damaged"),
    "compressed size": (20, "<L", 10, "two sizes"),
    "uncompressed size": (24, "<L", 2**31, "two sizes"),
    "offset": (42, "<L", 2**31, "damaged"),
    "offset of another": (42, "<L", 0, "damaged|overlap"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_of_contents_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    at, kind, value, says = LIES[lie]
    data = written(lambda archive: None)
    name = list(saved())[1]
    path = tmp_path / "net.pt2"
    path.write_bytes(patched(data, central(data, name) + at, kind, value))
    with pytest.raises(ModelError, match=says):
        load_pt2(path)


def test_a_deflated_entry_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    """A stream of 64 MB in an entry that says 1 MB: no more than a little over 1 MB is made."""
    size = 1 << 20
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = deflater.compress(bytes(64 << 20)) + deflater.flush()
    path = zipped(tmp_path / "net.pt2", {"more": stream})
    data = path.read_bytes()
    row = central(data, "more")
    for start, at in ((row, 10), (0, 8)):
        data = patched(data, start + at, "<H", zipfile.ZIP_DEFLATED)
    for start, at in ((row, 24), (0, 22)):
        data = patched(data, start + at, "<L", size)
    path.write_bytes(data)
    with ZipArchive(path) as archive:
        assert archive.size("more") == size
        tracemalloc.start()
        with pytest.raises(ModelError, match="damaged"):
            archive.read("more", 1 << 30)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * size


def test_a_large_entry_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "net.pt2", {"more": bytes(1000)})
    with pytest.raises(ModelError, match="more than the 999"), ZipArchive(path) as archive:
        archive.read("more", 999)


def test_a_large_table_of_contents_is_refused(tmp_path: Path) -> None:
    data = bytearray(written(lambda archive: None))
    path = tmp_path / "net.pt2"
    path.write_bytes(patched(bytes(data), len(data) - 10, "<L", 2**30))
    with pytest.raises(ModelError, match="table of contents of 1073741824 bytes"):
        load_pt2(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\3\4" * 10, b"x" * 10_000, b"PK\5\6" + bytes(18)]
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load_pt2(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_pt2(tmp_path / "no.pt2")
    with pytest.raises(ModelError, match="is not a file"):
        load_pt2(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt2")  # opening it would wait for ever
    with pytest.raises(ModelError, match="is not a file"):
        load_pt2(tmp_path / "pipe.pt2")

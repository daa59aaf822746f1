"""The container of a bundle: a zip of stored members in which no byte is free.

A zip, because every machine can open one and because the folder that it unpacks to is what
OpenSSF model-signing signs. Strict, because the formats of attacks are the freedoms of zip: there
are no folders, links, comments, extra fields, dates, second sizes or gaps. Nothing of the table of
contents is believed: names, sizes and checksums are taken from it, the one zip that they allow is
written again, and the file must be that, byte for byte.

Format: APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ...errors import ModelError

__all__ = ["CHUNK", "Member", "chunks", "read_members", "write_members"]

CHUNK = 1 << 20  # bytes that are held at a time
MOST_MEMBERS = 256
LONGEST_NAME = 100
LARGEST = 2**32 - 2  # bytes of the file; zip's larger form has more than one way to say a size
# No separator: a name can neither leave a folder nor make one. No capitals: two names that some
# file system takes for one cannot occur.
NAME = re.compile(rb"[a-z0-9][a-z0-9._-]*")

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION, MONDAY = 20, 0x0021  # 2.0; the first of January 1980


@dataclass(frozen=True)
class Member:
    """Where a member's bytes are in the file, and their CRC-32."""

    name: str
    offset: int
    size: int
    crc: int


def write_members(file: BinaryIO, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write a container to a seekable file, the members in the order given.

    Raises:
        ModelError: more than 4 GiB.
    """
    members = []
    for name, data in contents:
        member = Member(name, file.tell() + LOCAL.size + len(name), len(data), zlib.crc32(data))
        if member.offset + member.size > LARGEST:
            raise ModelError("a bundle holds at most 4 GiB: leave a file out")
        file.write(_local(member))
        file.write(data)
        members.append(member)
    file.write(_directory(members, file.tell()))


def read_members(file: BinaryIO) -> dict[str, Member]:
    """The members of a container, in order; their contents are not read.

    Raises:
        ModelError: anything about the file differs from what `write_members` would write.
    """
    length = file.seek(0, os.SEEK_END)
    if not END.size <= length <= LARGEST:
        raise ModelError(f"it has {length} bytes, which no bundle has")
    file.seek(length - END.size)
    end = END.unpack(file.read(END.size))
    count, start = end[3], end[6]
    largest = count * (CENTRAL.size + LONGEST_NAME) + END.size
    if end[0] != b"PK\5\6" or not 1 <= count <= MOST_MEMBERS or not 0 < length - start <= largest:
        raise ModelError("it is cut off, changed, or no bundle: it does not end as one")
    file.seek(start)
    directory = file.read(length - start)
    members = list(_entries(directory, count))
    if _directory(members, start) != directory or len({m.name for m in members}) < count:
        raise ModelError("its table of contents is not as edgewise writes it: it was changed")
    at = 0
    for member in members:
        header = _local(member)
        if member.offset != at + len(header) or member.offset + member.size > start:
            raise ModelError(f"member '{member.name}' is not where it belongs: it was changed")
        file.seek(at)
        if file.read(len(header)) != header:
            raise ModelError(f"the header of '{member.name}' is not as edgewise writes it")
        at = member.offset + member.size
    if at != start:
        raise ModelError("there are bytes between its members and its table of contents")
    return {member.name: member for member in members}


def chunks(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """A member's bytes, `CHUNK` of them at a time, its checksum verified at the end.

    Raises:
        ModelError: the checksum differs, or the file became shorter.
    """
    crc, at, end = 0, member.offset, member.offset + member.size
    while at < end:
        file.seek(at)
        data = file.read(min(CHUNK, end - at))
        if not data:
            break
        crc = zlib.crc32(data, crc)
        at += len(data)
        yield data
    if at != end or crc != member.crc:
        raise ModelError(f"member '{member.name}' is damaged: its checksum differs")


def _entries(directory: bytes, count: int) -> Iterator[Member]:
    at = 0
    for _ in range(count):
        if at + CENTRAL.size > len(directory):
            raise ModelError("its table of contents is cut off")
        fields = CENTRAL.unpack_from(directory, at)
        crc, size, length, header = fields[7], fields[9], fields[10], fields[16]
        name = directory[at + CENTRAL.size : at + CENTRAL.size + length]
        if length > LONGEST_NAME or not NAME.fullmatch(name):
            text = name[:LONGEST_NAME].decode("ascii", "replace")
            shown = "".join(c if c.isprintable() else "?" for c in text)
            raise ModelError(f"it has a member named '{shown}', which no bundle may have")
        yield Member(name.decode(), header + LOCAL.size + length, size, crc)
        at += CENTRAL.size + length


def _local(member: Member) -> bytes:
    name = member.name.encode()
    size = member.size
    head = LOCAL.pack(
        b"PK\3\4", VERSION, 0, 0, 0, MONDAY, member.crc, size, size, len(name), 0
    )  # fmt: skip
    return head + name


def _directory(members: list[Member], start: int) -> bytes:
    rows = b""
    for member in members:
        name, size = member.name.encode(), member.size
        header = member.offset - LOCAL.size - len(name)
        if not 0 <= header <= LARGEST:
            raise ModelError(f"member '{member.name}' is not where it belongs: it was changed")
        rows += CENTRAL.pack(
            b"PK\1\2", VERSION, VERSION, 0, 0, 0, MONDAY, member.crc, size, size,
            len(name), 0, 0, 0, 0, 0, header,
        )  # fmt: skip
        rows += name
    return rows + END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(rows), start, 0)

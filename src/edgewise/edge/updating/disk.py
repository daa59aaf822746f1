"""Every system call by which the agent changes its folder, in one place.

A test puts another `Disk` here: it can stop before and after each call, and forget what was
written and not yet synced, as a power cut does. What is built from them below is durable when it
returns and, until then, either as before or as after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NEW", "Disk", "clear", "folder", "move", "point", "save", "sync_tree"]

NEW = ".new"  # suffix of what is not yet in its place


class Disk:
    """The calls themselves, one a method."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a file anew."""
        with path.open("wb") as file:
            file.write(data)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        os.link(old, new)

    def symlink(self, target: str, path: Path) -> None:
        """Make a symbolic link."""
        os.symlink(target, path)

    def mkdir(self, path: Path) -> None:
        """Make a folder that only this user can read."""
        os.mkdir(path, 0o700)

    def rename(self, old: Path, new: Path) -> None:
        """Put something into its place, over what was there."""
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a file or link."""
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def sync(self, path: Path) -> None:
        """Wait until a file's bytes, or a folder's names, are on the medium."""
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def folder(disk: Disk, path: Path) -> Path:
    """The folder, made where it is not there."""
    if not path.is_dir():
        folder(disk, path.parent)
        disk.mkdir(path)
        disk.sync(path.parent)
    return path


def save(disk: Disk, path: Path, data: bytes) -> None:
    """Replace a file's content: after a crash it has the old or the new, whole."""
    new = path.with_name(path.name + NEW)
    disk.write(new, data)
    disk.sync(new)
    disk.rename(new, path)
    disk.sync(path.parent)


def point(disk: Disk, link: Path, target: str, scratch: Path) -> None:
    """Make a symbolic link lead elsewhere: after a crash it leads to the old or the new.

    Args:
        scratch: a folder where it is made, so that nobody ever sees two.
    """
    new = scratch / "link"
    clear(disk, new)
    disk.symlink(target, new)
    disk.rename(new, link)
    disk.sync(link.parent)


def move(disk: Disk, old: Path, new: Path) -> None:
    """Put a complete folder into its place, which is free: it is there whole or not at all."""
    sync_tree(disk, old)
    disk.rename(old, new)
    disk.sync(new.parent)


def clear(disk: Disk, path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        for inside in sorted(path.iterdir()):
            clear(disk, inside)
        disk.rmdir(path)
    elif path.is_symlink() or path.exists():
        disk.unlink(path)


def sync_tree(disk: Disk, path: Path) -> None:
    """Sync a folder's files, then its names, from the inside out."""
    for inside in _inside_out(path):
        disk.sync(inside)


def _inside_out(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for inside in sorted(path.iterdir()):
            yield from _inside_out(inside)
    yield path

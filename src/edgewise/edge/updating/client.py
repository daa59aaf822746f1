"""The TUF client: what the repository says now, and its files, verified.

Specification: The Update Framework 1.0, section 5 (https://theupdateframework.github.io).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MissingExtra, UpdateError

try:
    from tuf.api import exceptions
    from tuf.api.metadata import Metadata, Targets
    from tuf.ngclient import Updater

    from .fetch import Fetcher
except ImportError:
    raise MissingExtra("the client of update repositories", "agent") from None

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

__all__ = ["Client", "packed", "unpacked"]


class Client:
    """One look at a repository.

    Args:
        metadata: URL of its metadata,
        targets: and of its files.
        folder: of the metadata trusted so far, as python-tuf keeps it; changed here.
        fetcher: how to fetch.
        root: the root that came with the device, to begin from; None to begin from the folder's.

    Raises:
        UpdateError: the root to begin from is none.
    """

    def __init__(
        self,
        metadata: str,
        targets: str,
        folder: Path,
        fetcher: Fetcher,
        root: bytes | None = None,
    ):
        self._targets, self._folder, self._fetcher = targets.rstrip("/"), folder, fetcher
        self.url = metadata
        with self._named():
            self._updater = Updater(str(folder), metadata, fetcher=fetcher, bootstrap=root)

    def refresh(self) -> None:
        """Bring the metadata up to date.

        Raises:
            UpdateError: they are expired, older than those seen, mixed, not signed by whom they
                must be, too long or too slow; the sentence says which.
        """
        with self._named():
            self._updater.refresh()

    def targets(self) -> Mapping[str, TargetFile]:
        """Every file that the repository's own role lists, by its path, after a refresh."""
        # The updater has written what it has verified; it gives files by name only.
        return Metadata[Targets].from_file(str(self._folder / "targets.json")).signed.targets

    def find(self, path: str) -> TargetFile:
        """The file of that path, looked for in delegated roles, too.

        Raises:
            UpdateError: there is none.
        """
        with self._named():
            target = self._updater.get_targetinfo(path)
        if target is None:
            raise UpdateError(f"{self.url} has no '{path}'")
        return target

    def download(self, target: TargetFile, path: Path) -> None:
        """Fetch a file, going on where an earlier attempt ended.

        Raises:
            UpdateError: it cannot be fetched, or is not what was signed; `path` then holds what
                came of it, or is removed where that is wrong.
        """
        with self._named():
            begun = path.stat().st_size if path.exists() else 0
            if begun > target.length:
                path.unlink()
                begun = 0
            if begun < target.length or target.length == 0:
                begun = self._append(target, path, begun)
            if not _matches(target, path) and begun:
                # The part that lay there may be at fault: once more, from the beginning.
                path.unlink()
                self._append(target, path, 0)
            if not _matches(target, path):
                path.unlink()
                raise UpdateError(f"'{target.path}' is not what was signed: its hash differs")

    def _append(self, target: TargetFile, path: Path, begun: int) -> int:
        """Fetch what is missing; from where on it came."""
        start, chunks = self._fetcher.resume(self._address(target), begun)
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            at = start
            for chunk in chunks:
                at += len(chunk)
                if at > target.length:
                    path.unlink()
                    raise exceptions.DownloadLengthMismatchError(
                        f"'{target.path}' is longer than the {target.length} bytes that were signed"
                    )
                file.write(chunk)
        return start

    def _address(self, target: TargetFile) -> str:
        path = target.path
        if self.consistent:
            folder, slash, name = path.rpartition("/")
            path = f"{folder}{slash}{next(iter(target.hashes.values()))}.{name}"
        return f"{self._targets}/{path}"

    @property
    def consistent(self) -> bool:
        """Whether files are named by their hash (TUF's consistent snapshots)."""
        root = Metadata.from_file(str(self._folder / "root.json"))
        return bool(root.signed.consistent_snapshot)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in one sentence what the repository is refused for."""
        try:
            yield
        except exceptions.ExpiredMetadataError as error:
            raise UpdateError(
                f"{self.url}: {error}: someone holds back what is new, nobody renewed it "
                "(edgewise publish), or this device's clock is wrong"
            ) from None
        except exceptions.BadVersionNumberError as error:
            raise UpdateError(f"{self.url} is older than what was seen before: {error}") from None
        except exceptions.UnsignedMetadataError as error:
            raise UpdateError(f"{self.url} is not signed as it must be: {error}") from None
        except exceptions.DownloadHTTPError as error:
            raise UpdateError(str(error)) from None
        except (exceptions.DownloadError, exceptions.RepositoryError) as error:
            raise UpdateError(f"{self.url} is refused: {error}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UpdateError(f"{self.url} cannot be followed: {error}") from None


def _matches(target: TargetFile, path: Path) -> bool:
    with path.open("rb") as file:
        try:
            target.verify_length_and_hashes(file)
        except exceptions.LengthOrHashMismatchError:
            return False
    return True


@contextmanager
def unpacked(files: Mapping[str, str]) -> Iterator[Path]:
    """A folder for python-tuf with the metadata trusted so far.

    python-tuf rewrites files at every look and does not sync them: it works on a copy (in memory,
    where that is what the system's folder for temporary files is), and the agent keeps what
    changed in one file, durably.
    """
    with tempfile.TemporaryDirectory(prefix="edgewise-") as name:
        for file, text in files.items():
            Path(name, file).write_bytes(text.encode())
        yield Path(name)


def packed(folder: Path) -> dict[str, str]:
    """The newest metadata that python-tuf trusts, by file name."""
    return {path.name: path.read_bytes().decode() for path in sorted(folder.glob("*.json"))}

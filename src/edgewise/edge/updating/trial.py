"""What a new release must pass before it is run: in processes of their own.

A file that kills whatever opens it kills one of these, and not the agent, whose memory stays small,
too: bundles are decoded and run there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import EdgewiseError, MissingExtra, RuntimeFailure
from ..worker import Worker

__all__ = ["Refused", "try_out", "unpack"]

UNPACK_SECONDS = 600.0
TRIAL_SECONDS = 300.0


class Refused(Exception):
    """A release that must not run on this device; the text says why."""


def unpack(
    bundle: Path, into: Path, *, base: Path | None, key: Path | None, secret: bytes | None
) -> dict[str, Path]:
    """Check a bundle and write its files into a new folder.

    Args:
        base: the folder with the files that it is the difference to.
        key: the public key of who must have signed it; None where the repository's signatures are
            enough.

    Returns:
        By runtime, the file that it opens.

    Raises:
        EdgewiseError: it is not what it must be, or there is no room.
    """
    with Worker("unpacking", str(bundle), timeout=UNPACK_SECONDS) as worker:
        answer = worker.ask(
            unbundle=str(bundle),
            into=str(into),
            key=key and key.read_text(),
            secret=secret and secret.hex(),
            base=base and str(base),
        )
    return {runtime: Path(path) for runtime, path in answer["files"].items()}


def try_out(bundle: Path, files: Mapping[str, Path], secret: bytes | None) -> Path:
    """Run a bundle's golden inputs through the first of its files whose runtime is installed.

    Returns:
        That file.

    Raises:
        Refused: it gives something else here than where it was made, or ends the process.
        MissingExtra: none of its runtimes is installed.
    """
    missing: EdgewiseError | None = None
    for runtime, path in files.items():
        with Worker(runtime, path.name, timeout=TRIAL_SECONDS) as worker:
            try:
                worker.ask(probe=runtime)
            except (MissingExtra, RuntimeFailure) as error:
                missing = missing or error
                continue
            try:
                found = worker.ask(
                    golden=str(bundle), file=str(path), secret=secret and secret.hex()
                )
            except EdgewiseError as error:
                raise Refused(str(error)) from error
        if not found["passed"]:
            raise Refused(
                f"its outputs for the golden inputs differ here by {found['max_abs']} from those "
                f"it was bundled with, allowed are {found['tolerance']}"
            )
        return path
    raise missing or Refused("it has no artifact")

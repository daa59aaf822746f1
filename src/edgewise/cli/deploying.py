"""The command that carries to a device: deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .app import Answer, command, progress
from .options import DataOptions, PixelOptions

__all__ = ["deploy"]


@command
def deploy(
    subject: Annotated[
        Path, Argument(metavar="ARTIFACT|BUNDLE", help="What `edgewise lower` or `bundle` wrote.")
    ],
    device: Annotated[
        str,
        Argument(metavar="DEV", help="ssh://USER@HOST[:PORT][/PYTHON], or emulated:cortex-a72."),
    ],
    data: DataOptions,
    pixels: PixelOptions,
    key: Annotated[
        Path | None, Option(metavar="FILE", help="Public key of who signed the bundle.")
    ] = None,
    allow_unsigned: Annotated[
        bool, Option("--allow-unsigned", help="Take a bundle without a key, too.")
    ] = False,
    secret: Annotated[
        str | None,
        Option(metavar="SOURCE", help="file:PATH, env:NAME or command:LINE: decrypts a bundle."),
    ] = None,
    runs: Annotated[
        int, Option(metavar="N", help="Inferences to time: 64 for a p90, 662 for a p99.")
    ] = 700,
    threads: Annotated[
        int | None, Option(metavar="N", help="Of the runtime. Default: one a processor.")
    ] = None,
    clean: Annotated[bool, Option("--clean", help="Leave nothing there.")] = False,
) -> Answer:
    """Carry to a device, check, try and measure it there, leave it.

    Hashes and signature are checked on the device before a runtime opens anything. What passes is
    moved into ~/edgewise; of anything else nothing stays. Exit code 1 when it does not pass.
    """
    from .. import deploy
    from ..edge.bundle import read_secret
    from ..reporting import terminal

    samples = data.open(None, pixels)
    known = None if secret is None else read_secret(secret)
    with progress("deploying") as advance:
        found = deploy(
            subject, device, key=key, allow_unsigned=allow_unsigned, secret=known, data=samples,
            runs=runs, threads=threads, clean=clean, progress=advance,
        )  # fmt: skip
    return Answer(found, lambda: terminal.deployment(found), code=0 if found.passed else 1)

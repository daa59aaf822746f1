"""The command that shows it all: demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from .app import Answer, command, progress

__all__ = ["demo"]


@command
def demo(
    output: Annotated[
        Path, Option("--output", "-o", metavar="FOLDER", help="Where everything is written.")
    ] = Path("demo"),
    runs: Annotated[int, Option(metavar="N", help="Inferences to time for each file.")] = 200,
) -> Answer:
    """The whole story on real digits, offline.

    Trains a small network on the digits that scikit-learn ships, quantizes it, lowers it to every
    runtime that is installed, measures all files in turns, and writes report.html.
    """
    from ..demo import demo
    from ..reporting import terminal

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with progress("measuring") as advance:
        found = demo(output, runs=runs, say=say, progress=advance)
    return Answer(found, lambda: terminal.report(found))

"""The command that shows it all: demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from .app import Answer, command
from .fitting import answer, live

__all__ = ["demo"]


@command
def demo(
    output: Annotated[
        Path, Option("--output", "-o", metavar="FOLDER", help="Where everything is written.")
    ] = Path("demo"),
    time: Annotated[str, Option(metavar="TIME", help="The most that the fit may take.")] = "90s",
) -> Answer:
    """The whole story on real digits, offline.

    Trains a small network on the digits that scikit-learn ships, and fits it to a budget: at most
    1 point of accuracy, 40 kB. Ends with the verdict and the page run/report.html.
    """
    from ..demo import demo

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with live() as watch:
        run = demo(output, time=time, say=say, watch=watch)
    return answer(run)

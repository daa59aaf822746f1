"""Making a float and an int8 file from a network, timed stage by stage, as one command.

`benchmarks.ours` and each of `benchmarks.peers` is such a command, so that all are timed alike:
in a fresh process, after their imports, from the PyTorch module to the files.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from .nets import NETS, Net, load

__all__ = ["RECORD", "Stages", "arguments", "main", "make"]

RECORD = "record.json"

Make = Callable[[Net, Path, "Stages"], None]


class Stages:
    """Wall seconds of each named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def main(make_float: Make, make_int8: Make, packages: tuple[str, ...]) -> None:
    """Parse ``--net NAME --out FOLDER`` and `make` both files there."""
    parser = arguments()
    given = parser.parse_args()
    make(given.net, given.out, make_float, make_int8, packages)


def arguments() -> argparse.ArgumentParser:
    """What each of these commands takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def make(
    name: str, folder: Path, make_float: Make, make_int8: Make, packages: tuple[str, ...]
) -> None:
    """Make a network's float and int8 file in `folder` and write ``record.json`` there.

    Each of the makers gets the network, the folder and its own stages; the int8 one must not
    need what the float one made, since the sum of its stages is the time from a module to an
    int8 file. It goes first, so that it profits from nothing that the other warmed up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # written last: marks the files as whole
    net = load(name)
    stages = {"int8": Stages(), "float": Stages()}
    make_int8(net, folder, stages["int8"])
    make_float(net, folder, stages["float"])
    record = {
        "net": name,
        "calibration_images": len(net.calibration),
        "seconds": {kind: s.seconds for kind, s in stages.items()},
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {package: version(package) for package in packages},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")

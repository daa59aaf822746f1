"""The server's figures; one JSON object a line.

python -m benchmarks.serving latency|throughput|overload|swaps|memory
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from . import latency, memory, pressure, swaps, throughput

OUT = Path(__file__).resolve().parents[1] / "out"


def made(net: str, name: str) -> Path:
    """A file that `python -m benchmarks.compare` left."""
    return OUT / net / "litert/ours" / f"{name}.tflite"


BOTH = [made(net, "int8") for net in ("resnet20", "mobilenet_v2")]


def measure(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    """What was asked for, file by file."""
    match given.what:
        case "latency":
            for path in given.file or BOTH:
                yield latency.run(path, given.rounds, given.threads)
        case "throughput":
            for path in given.file or BOTH:
                yield throughput.run(path, given.peers, given.rounds, given.workers)
        case "overload":
            for path in given.file or [made("resnet56", "float")]:
                yield pressure.run(path, given.seconds, given.threads, given.waiting)
        case "swaps":
            files = given.file or [made("resnet20", name) for name in ("float", "int8")]
            yield swaps.run(files, given.count)
        case "memory":
            for path in given.file or BOTH:
                yield memory.run(path, given.threads)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ("latency", "throughput", "overload", "swaps", "memory")
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--file", type=Path, action="append", help="an artifact")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="at twice the capacity")
    parser.add_argument("--waiting", type=int, default=4, help="requests that may wait")
    parser.add_argument("--count", type=int, default=100, help="swaps")
    parser.add_argument("--workers", type=int, default=1, help="inferences at the same time")
    parser.add_argument("--peers", type=Path, help="the Python of the peers' environment")
    for row in measure(parser.parse_args()):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

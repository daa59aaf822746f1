"""The server's figures: python -m benchmarks.serving latency|throughput|overload|swaps|memory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import latency

OUT = Path(__file__).resolve().parents[1] / "out"
FILES = [OUT / net / "litert/ours/int8.tflite" for net in ("resnet20", "mobilenet_v2")]


def main() -> None:
    """Parse, measure, print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("latency",))
    parser.add_argument("--file", type=Path, action="append", help="an artifact")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    for path in given.file or FILES:
        print(json.dumps(latency.run(path, given.rounds, given.threads)), flush=True)


if __name__ == "__main__":
    main()

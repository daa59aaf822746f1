"""Hostile input by the thousand: python -m benchmarks.fuzz requests|bundles --count 20000

Exit code 1 where something crashed, hung, grew or answered what it must not.
"""

from __future__ import annotations

import argparse
import json
import sys

from . import fuzz_bundles, fuzz_requests

__all__ = ["KINDS"]

KINDS = {"requests": fuzz_requests.run, "bundles": fuzz_bundles.run}


def main() -> None:
    """Run one kind and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = KINDS[given.kind](given.count, given.seed)
    print(json.dumps(found))
    sys.exit(bool(found["failures"]))


if __name__ == "__main__":
    main()

"""Random kills of the agent's process, and a fleet that looks at one repository.

python -m benchmarks.agent kills --count 300
python -m benchmarks.agent fleet --devices 1000
"""

from __future__ import annotations

import argparse
import json

from .fleet import fleet
from .kills import kills


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("kills")
    one.add_argument("--count", type=int, default=300)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--seconds", type=float, default=3600.0)
    commands.add_parser("fleet").add_argument("--devices", type=int, default=1000)
    given = parser.parse_args()
    if given.command == "kills":
        print(json.dumps(kills(given.count, given.seed, given.seconds)))
    else:
        print(json.dumps(fleet(given.devices), indent=2))


if __name__ == "__main__":
    main()

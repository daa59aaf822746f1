#!/usr/bin/env python
"""Our TUF client behind the command line of the TUF conformance suite.

    git clone https://github.com/theupdateframework/tuf-conformance
    pytest tuf-conformance/tuf_conformance --entrypoint tests/edge/updating/conformance.py

The protocol is that suite's CLIENT-CLI.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from edgewise.edge.updating.client import Client
from edgewise.edge.updating.fetch import Fetcher
from edgewise.errors import UpdateError


def main() -> int:
    """Do one command; 1 where the client refuses."""
    parser = argparse.ArgumentParser()
    for option in ("--metadata-url", "--target-dir", "--target-base-url"):
        parser.add_argument(option, default="")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    given = parser.parse_args()
    if given.command == "init":
        shutil.copyfile(given.root, given.metadata_dir / "root.json")
        return 0
    try:
        client = Client(
            given.metadata_url, given.target_base_url, given.metadata_dir, Fetcher(patience=5.0)
        )
        client.refresh()
        for name in given.target_name or ():
            client.download(client.find(name), Path(given.target_dir, quote(name, "")))
    except UpdateError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

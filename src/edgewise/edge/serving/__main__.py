"""The server's process: ``python -m edgewise.edge.serving SETTINGS``, a JSON of `Settings`.

`edgewise serve` becomes this process, so that what reads a command line (and what that imports)
does not stay in a device's memory for as long as the server runs.
"""

from __future__ import annotations

import sys

from ...errors import EdgewiseError
from ...record import decode
from .server import Server, Settings

WRONG_CALL = 2


def main() -> None:
    """Serve, and say where on standard error."""
    settings = decode(sys.argv[1].encode(), Settings, "the server's settings")
    try:
        Server(settings, started=_announce).run()
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_CALL)


def _announce(server: Server) -> None:
    for line in server.addresses():
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

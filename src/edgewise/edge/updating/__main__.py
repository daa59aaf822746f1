"""The agent's process: ``python -m edgewise.edge.updating SETTINGS [--once]``.

`edgewise agent` becomes this process, so that what reads a command line does not stay in memory.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from ...errors import EdgewiseError
from ...record import decode
from .agent import Agent, Settings

DONE, FAILED, WRONG_CALL = 0, 1, 2


def main() -> NoReturn:
    """Look once, or for ever."""
    signal.signal(signal.SIGTERM, _end)
    settings = decode(sys.argv[1].encode(), Settings, "the agent's settings")
    try:
        with Agent(settings) as agent:
            if sys.argv[2:] == ["--once"]:
                agent.recover()
                sys.exit(DONE if agent.update() else FAILED)
            agent.run()
    except KeyboardInterrupt:
        sys.exit(DONE)
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_CALL)


def _end(number: int, frame: object) -> NoReturn:
    """End between any two steps: that is as good a place as any (see `agent`)."""
    sys.exit(DONE)


if __name__ == "__main__":
    main()

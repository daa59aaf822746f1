"""The command line: parse, call a verb, print. One file for the commands about one thing.

`--help` imports neither torch nor rich: each command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from ..errors import EdgewiseError
from .app import app

# isort: off
# ruff: noqa: F401 - each adds its commands, in this order
from . import machine, models, pruning, sparsity, training, recipe, fitting, measurements
from . import bundles, deploying, serving, updating, demo
# isort: on

__all__ = ["main"]

DONE, FAILED, WRONG_CALL, BUG, INTERRUPTED = 0, 1, 2, 70, 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process.

    Exit codes: 0 done, 1 a budget or check was not met, 2 the call or its input was wrong,
    70 a fault of edgewise (with its traceback), 130 interrupted.
    """
    try:
        app(None if arguments is None else list(arguments), prog_name="edgewise")
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(WRONG_CALL)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has taken the KeyboardInterrupt and said nothing
            print("interrupted", file=sys.stderr)
        raise
    except Exception:
        traceback.print_exc()
        print("This is a fault of edgewise: please report the lines above.", file=sys.stderr)
        sys.exit(BUG)
    sys.exit(DONE)

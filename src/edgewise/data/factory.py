"""``package.module:factory``: a name for anything that a user's own code makes."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

from ..errors import DataError

__all__ = ["is_factory", "make", "resolve"]

PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_factory(source: Any) -> bool:
    return isinstance(source, str) and PATTERN.fullmatch(source) is not None


def resolve(name: str) -> Any:
    """What ``package.module:attribute`` names; the current folder is looked in as well.

    Raises:
        DataError: the module cannot be imported, or has no such callable.
    """
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code
        raise DataError(
            f"{name}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise DataError(f"{name}: {module_name} has no callable '{attribute}'")
    return found


def make(name: str) -> Any:
    """Call the factory, without arguments.

    Raises:
        DataError: it cannot be found, or fails.
    """
    factory = resolve(name)
    try:
        return factory()
    except Exception as error:  # the user's code
        raise DataError(f"{name} failed: {type(error).__name__}: {error}") from error

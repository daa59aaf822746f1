"""Devices by name: this machine, one behind ssh, or an emulated processor.

    with devices.connect("ssh://pi@pi4") as place:
        benchmark("net.tflite", place=place)

Each is a `edgewise.edge.place.Place`; leaving the ``with`` leaves nothing on the device.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from ..edge.place import HERE, Place
from ..errors import InputError
from .emulated import CPUS, Emulated
from .ssh import Ssh

__all__ = ["FORMS", "connect", "timed"]

EMULATED = "emulated:"
FORMS = f"local, ssh://USER@HOST[:PORT][/PYTHON] or {EMULATED}{{{', '.join(CPUS)}}}"


def connect(name: str | Place) -> AbstractContextManager[Place]:
    """The device of that name; of a place that is connected already, that place.

    Args:
        name: ``"local"``; ``"ssh://user@host:port/path/of/python"`` (port and path may be left
            out, the path may begin with ``/~/``); ``"emulated:cortex-a72"``.

    Raises:
        InputError: no device is named so.
        DeviceError: it cannot be reached or made.
    """
    if not isinstance(name, str):
        return nullcontext(name)
    if name == HERE.name:
        return nullcontext(HERE)
    if name.startswith("ssh://"):
        return Ssh(name)
    if name.startswith(EMULATED):
        return Emulated(name.removeprefix(EMULATED))
    raise InputError(f"unknown device '{name}': it takes {FORMS}")


def timed(name: str | Place) -> bool:
    """Whether the clock of that device tells how fast it is; nothing is connected for it."""
    return not name.startswith(EMULATED) if isinstance(name, str) else name.timed

"""The command about machines: doctor."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from .app import Answer, command, working

__all__ = ["doctor"]


@command
def doctor(
    device: Annotated[
        str,
        Option(metavar="DEV", help="local, ssh://USER@HOST[:PORT][/PYTHON], emulated:cortex-a72."),
    ] = "local",
) -> Answer:
    """Which runtimes work on this machine, or on a device.

    Each runs a small int8 net in a process of its own, which it may crash. Exit code 1 when one is
    broken, or when there is none.
    """
    from ..devices import connect
    from ..edge.doctor import describe, examine
    from ..reporting import terminal

    with working(f"reaching {device}") as now, connect(device) as place:
        now("trying the runtimes")
        probes = examine(place=place)
        machine = describe(place)
    works = [p for p in probes if p.state == "works"]
    sound = works and not any(p.state == "broken" for p in probes)
    found = {"runtimes": probes, "machine": machine}
    return Answer(found, lambda: terminal.examination(probes, machine), code=0 if sound else 1)

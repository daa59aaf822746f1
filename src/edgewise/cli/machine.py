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
    broken, or when there is none. Of a board that is known it says how it is sold.
    """
    from rich.console import Group

    from ..devices import connect
    from ..devices.profiles import profile_of
    from ..edge.doctor import describe, examine
    from ..reporting import terminal

    with working(f"reaching {device}") as now, connect(device) as place:
        now("trying the runtimes")
        probes = examine(place=place)
        machine = describe(place)
    works = [p for p in probes if p.state == "works"]
    sound = works and not any(p.state == "broken" for p in probes)
    profile = profile_of(machine.get("board", ""))
    found = {"runtimes": probes, "machine": machine}
    if profile is not None:
        found["profile"] = profile

    def view() -> Group:
        return Group(terminal.examination(probes, machine), *([str(profile)] if profile else []))

    return Answer(found, view, code=0 if sound else 1)

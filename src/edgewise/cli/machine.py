"""The command about this machine: doctor."""

from __future__ import annotations

from .app import Answer, command, working

__all__ = ["doctor"]


@command
def doctor() -> Answer:
    """Which runtimes work on this machine.

    Each runs a small int8 net in a process of its own, which it may crash. Exit code 1 when one is
    broken, or when there is none.
    """
    from ..edge.doctor import examine
    from ..edge.machine import describe
    from ..reporting import terminal

    with working("trying the runtimes"):
        probes, machine = examine(), describe()
    works = [p for p in probes if p.state == "works"]
    sound = works and not any(p.state == "broken" for p in probes)
    found = {"runtimes": probes, "machine": machine}
    return Answer(found, lambda: terminal.examination(probes, machine), code=0 if sound else 1)

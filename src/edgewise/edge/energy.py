"""Energy that the processor's packages take, as Linux counts it.

Intel's and AMD's processors count it themselves (Running Average Power Limit: Intel 64 and IA-32
Architectures Software Developer's Manual, volume 3, section 15.10); Linux shows the counters as
files (Documentation/power/powercap/powercap.rst), since version 5.10 to root alone. All that runs
on the machine is counted, its rest included. The counters tick about once in a millisecond: what
takes less is right on average alone.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

__all__ = ["Packages"]


class Packages:
    """The counters of all packages; none where the machine has none, or shows them to others.

    Args:
        root: of the file system.
    """

    def __init__(self, root: Path = Path("/")):
        self.counters: list[tuple[Path, int]] = []
        for zone in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
            if not re.fullmatch(r"intel-rapl:\d+", zone.name):
                continue  # a part of a package
            with suppress(OSError, ValueError):
                if (zone / "name").read_text().startswith("package"):
                    file, most = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
                    int(file.read_text())
                    self.counters.append((file, most))

    def read(self) -> tuple[int, ...]:
        """Of each package in microjoules, from an unknown beginning."""
        return tuple(int(file.read_text()) for file, _ in self.counters)

    def since(self, before: tuple[int, ...]) -> float | None:
        """Millijoules of all packages together since `before` was read; None without counters."""
        if not self.counters:
            return None
        rows = zip(self.read(), before, self.counters, strict=True)
        return sum((now - then) % (most + 1) for now, then, (_, most) in rows) / 1e3

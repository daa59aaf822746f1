"""Energy is read from the kernel's files, so those of other machines serve as examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgewise.edge import worker
from edgewise.edge.energy import Packages

MOST = 262_143_328_850


def zone(root: Path, where: str, name: str, energy: int) -> Path:
    folder = root / "sys/class/powercap" / where
    folder.mkdir(parents=True)
    for file, text in (("name", name), ("max_energy_range_uj", MOST), ("energy_uj", energy)):
        (folder / file).write_text(f"{text}\n")
    return folder / "energy_uj"


def test_packages_are_added_and_their_parts_are_not(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 1000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 5)
    zone(tmp_path, "intel-rapl:0:0", "core", 400)
    zone(tmp_path, "intel-rapl:2", "psys", 9000)
    packages = Packages(tmp_path)
    before = packages.read()
    assert before == (1000, 5)
    first.write_text("4000\n")
    second.write_text("7\n")
    assert packages.since(before) == pytest.approx(3.002)


def test_a_counter_begins_anew_at_its_end(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", MOST - 99)
    packages = Packages(tmp_path)
    before = packages.read()
    counter.write_text("900\n")
    assert packages.since(before) == pytest.approx(1.0)


@pytest.mark.parametrize("broken", ["", "many", None])
def test_what_cannot_be_read_counts_for_nothing(tmp_path, broken):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    if broken is None:
        counter.unlink()
    else:
        counter.write_text(broken)
    packages = Packages(tmp_path)
    assert packages.since(packages.read()) is None
    assert Packages(tmp_path / "nothing").since(()) is None


def test_only_what_is_timed_is_counted(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)

    class Hungry:
        def run(self, _):
            counter.write_text(f"{int(counter.read_text()) + 250}\n")

    session = worker.Session()
    session.packages, session.runner = Packages(tmp_path), Hungry()
    session.feeds = iter([(np.zeros(1),)] * 100)
    assert session.run(20, skip=5)["energy_mj"] == pytest.approx(20 * 0.25)

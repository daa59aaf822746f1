"""A disk without room at any of the agent's calls: what is served stays, and it goes on later."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from benchmarks.agent.medium import Quick

from edgewise.edge.updating.disk import Disk
from edgewise.edge.updating.slots import Slots

from .test_crashes import NEW, OLD, install, roll_back, served, update

NEED_ROOM = ("write", "link", "symlink", "mkdir", "rename", "sync")


class Full(Quick):
    """A disk that has no room from one of its calls on; nothing needs room to be removed.

    Args:
        at: the number of the call, counted from 0 among those that need room; None for never.
    """

    def __init__(self, at: int | None = None):
        self.at, self.count = at, 0


def _needing(name):
    def call(self, *arguments):
        now, self.count = self.count, self.count + 1
        if self.at is not None and now >= self.at:
            if name == "write":
                path, data = arguments
                Disk.write(self, path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        getattr(Quick, name)(self, *arguments)

    return call


for _name in NEED_ROOM:
    setattr(Full, _name, _needing(_name))


@pytest.mark.parametrize("story", [update, roll_back])
def test_without_room_what_is_served_stays_whole(story, tmp_path):
    before, home = tmp_path / "before", tmp_path / "home"
    slots = Slots(before, Quick())
    install(slots, OLD)
    slots.begin("tiny", OLD)
    slots.commit("tiny")

    def begin():
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(before, home, symlinks=True)
        return Full()

    whole = begin()
    story(Slots(home, whole))
    assert whole.count > 20
    for at in range(3, whole.count):
        disk = begin()
        slots = Slots(home, disk)
        disk.at, disk.count = at, 0
        with contextlib.suppress(OSError):  # nothing comes after a last sync
            story(slots)
        assert served(home) in (OLD, NEW), at
        disk.at = None  # somebody made room; the same agent goes on
        slots.recover("tiny")
        slots.sweep()
        assert served(home) == slots.current("tiny"), at
        assert Slots(home, Quick()).state == slots.state, at
        if NEW not in slots.state.refused:
            update(slots)
            assert served(home) == NEW, at


@pytest.mark.usefixtures("no_children")
def test_an_agent_without_room_says_so_and_goes_on_when_there_is(shop, device, tmp_path):
    shop.publish(1)
    assert device.update() and device.version == 1
    shop.publish(2)
    before, home = tmp_path / "before", device.settings.folder
    shutil.copytree(home, before, symlinks=True)
    whole = Full()
    assert device.update(whole) and device.version == 2
    for at in range(0, whole.count, 4):
        shutil.rmtree(home)
        shutil.copytree(before, home, symlinks=True)
        disk = Full()
        with device.agent(disk) as agent:
            agent.recover()
            disk.at, disk.count = at, 0
            assert not agent.update(), at
            assert "No space left" in device.said[-1], at
            disk.at = None
            assert agent.update(), at
            assert agent.slots.of("tiny").trial is None, at
        assert device.version == 2, at


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.usefixtures("no_children")
def test_a_download_without_room_is_begun_again(shop, device):
    shop.publish(1)
    assert device.update()
    shop.publish(2)
    digest = hashlib.sha256(shop.bundles[2].read_bytes()).hexdigest()
    part = device.settings.folder / "work" / f"{digest}.part"
    part.symlink_to("/dev/full")
    assert not device.update()
    assert "No space left" in device.said[-1]
    assert device.version == 1
    part.unlink()
    assert device.update() and device.version == 2

"""A crash before and after every state-changing system call, with what was not synced lost.

Here the states on disk alone, without network and runtime; `python -m benchmarks.agent kills`
kills whole updates at random.
"""

from __future__ import annotations

import shutil

import pytest
from benchmarks.agent.medium import CALLS, Crash, Medium, Quick

from edgewise.edge.artifact import Artifact
from edgewise.edge.serving.repository import find
from edgewise.edge.updating.disk import Disk, folder
from edgewise.edge.updating.slots import Slots
from edgewise.record import Signature, TensorSpec

OLD, NEW = "1-000000000000", "2-000000000000"


def install(slots, slot):
    """What the agent does before a trial."""
    new = folder(slots.disk, slots.work / "new")
    files = new / "files"
    files.mkdir()
    (files / "model.onnx").write_bytes(slot.encode() * 100)
    spec = (TensorSpec("x", (None, 4)),)
    Artifact.of("onnxruntime", files / "model.onnx", Signature(spec, spec)).save_record()
    slots.place(new, files / "model.onnx", "tiny", slot)


def update(slots):
    install(slots, NEW)
    slots.begin("tiny", NEW)
    slots.commit("tiny")
    slots.sweep()


def roll_back(slots):
    install(slots, NEW)
    slots.begin("tiny", NEW)
    slots.started_again("tiny")
    slots.roll_back("tiny", "it did ill")
    slots.sweep()


def served(home):
    """The version that a server would find before any agent runs, checked as it would."""
    (entry,) = find(home / "models").values()
    artifact = Artifact.open(entry.paths[0])
    data = artifact.path.read_bytes()
    assert data == data[:14] * 100
    return data[:14].decode()


def test_every_call_that_changes_the_disk_is_one_that_can_crash():
    assert {n for n in vars(Disk) if not n.startswith("_")} == set(CALLS)


@pytest.mark.parametrize("story", [update, roll_back])
def test_a_crash_leaves_one_whole_version(story, tmp_path):
    before, home, lost = tmp_path / "before", tmp_path / "home", tmp_path / "lost"
    slots = Slots(folder(Quick(), before), Quick())
    install(slots, OLD)
    slots.begin("tiny", OLD)
    slots.commit("tiny")

    def begin(*crash, **options):
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(before, home, symlinks=True)
        return Medium(home, *crash, **options)

    whole = begin()
    story(Slots(home, whole))
    assert whole.count > 20
    for at in range(whole.count):
        for after in (False, True):
            medium = begin(at, after=after)
            with pytest.raises(Crash):
                story(Slots(home, medium))
            shutil.rmtree(lost, ignore_errors=True)
            medium.left(lost)
            for left in (lost, home):
                where = f"call {at}, {'after' if after else 'before'}, {left.name}"
                assert served(left) in (OLD, NEW), where
                for _ in range(2):  # recovering twice is recovering once
                    slots = Slots(left, Quick())
                    slots.recover("tiny")
                    slots.sweep()
                    state, current = slots.of("tiny"), slots.current("tiny")
                    assert served(left) == current, where
                    assert current in (state.good, state.trial), where
                assert story is update or state.trial is None or not slots.state.refused, where


def test_recovery_removes_what_is_left_over(tmp_path):
    slots = Slots(folder(Quick(), tmp_path / "home"), Quick())
    install(slots, OLD)
    (slots.work / "new").mkdir()
    (slots.work / "a.part").write_bytes(b"begun")
    slots.sweep()
    assert [p.name for p in slots.work.iterdir()] == ["a.part"]
    assert not list(slots.home.glob("slots/*/*"))


def test_a_damaged_version_gives_way_to_the_one_before(tmp_path):
    slots = Slots(folder(Quick(), tmp_path / "home"), Quick())
    for slot in (OLD, NEW):
        install(slots, slot)
        slots.begin("tiny", slot)
        if slot == OLD:
            slots.commit("tiny")
    (slots.path("tiny", NEW) / "files" / "model.onnx").write_bytes(b"damaged")
    slots.recover("tiny")
    assert slots.current("tiny") == OLD and slots.of("tiny").trial is None

"""Updates from end to end: a real repository, web server, runtime and child processes."""

import json
import shutil
from dataclasses import replace

import pytest

from edgewise.edge.bundle import open_bundle
from edgewise.edge.updating.agent import wait_for
from edgewise.edge.worker import Worker
from edgewise.errors import InputError

from .conftest import address, make_device, serving


def test_a_device_follows_the_releases(shop, server, device):
    shop.publish(1)
    assert device.update() and device.version == 1
    server.asked.clear()
    assert device.update()
    # Nothing new costs two requests.
    assert server.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]
    shop.publish(2)
    assert device.update() and device.version == 2
    slots = list((device.settings.folder / "slots" / "tiny").iterdir())
    assert len(slots) == 2
    assert device.update()
    assert [p.name for p in (device.settings.folder / "slots" / "tiny").iterdir()] == [
        device.state.models["tiny"].good
    ]
    assert not list((device.settings.folder / "work").iterdir())


@pytest.mark.usefixtures("no_children")
def test_a_withdrawn_release_is_left_for_the_one_before(shop, device):
    for version in (1, 2):
        shop.publish(version)
    assert device.update() and device.version == 2
    publisher = shop.publisher()
    publisher.withdraw("tiny", 2)
    publisher.write()
    assert device.update() and device.version == 1
    with pytest.raises(InputError, match="not newer than 2"):
        shop.publish(2)
    shop.publish(3)
    assert device.update() and device.version == 3


@pytest.mark.usefixtures("no_children")
def test_a_release_reaches_its_cohort_and_its_share(tmp_path, shop, server, device):
    shop.publish(1)
    shop.publish(2, {"*": 0, "beta": 10_000})
    assert device.update() and device.version == 1
    device.settings = replace(device.settings, cohort="beta")
    assert device.update() and device.version == 2
    # Leaving the cohort takes nothing away.
    device.settings = replace(device.settings, cohort=None)
    assert device.update() and device.version == 2


def test_wrong_golden_outputs_are_refused_and_not_tried_again(shop, server, device, tmp_path):
    shop.publish(1)
    assert device.update()
    shop.bundles = {2: with_wrong_golden(tmp_path)}
    shop.publish(2)
    assert not device.update() and device.version == 1
    assert any("differ here by" in line for line in device.said)
    server.asked.clear()
    assert device.update()  # it stays with what it has, and does not fetch it again
    assert not any("targets/" in path for path in server.asked)


def test_a_model_that_kills_its_process_does_not_kill_the_agent(shop, device, monkeypatch):
    shop.publish(1)
    assert device.update()
    shop.publish(2)
    command = {"command": killer(shop.folder.parent)}
    monkeypatch.setattr(Worker.__init__, "__kwdefaults__", command)
    assert not device.update()
    monkeypatch.undo()
    assert device.version == 1
    (why,) = device.state.refused.values()
    assert "SIGSEGV" in why


@pytest.mark.usefixtures("no_children")
def test_a_version_that_does_ill_is_rolled_back(tmp_path, shop, server):
    shop.publish(1)
    flag = tmp_path / "ill"
    watch = {"check": f"test ! -e {flag}", "seconds": 0.4, "every": 0.1}
    device = make_device(tmp_path, shop, server, watch=watch)
    assert device.update() and device.version == 1
    shop.publish(2)
    flag.touch()
    assert not device.update() and device.version == 1
    assert "the check ended with code 1" in next(iter(device.state.refused.values()))
    flag.unlink()
    assert device.update() and device.version == 1
    shop.publish(3)
    assert device.update() and device.version == 3


@pytest.mark.usefixtures("no_children")
def test_a_trial_that_kills_the_agent_is_rolled_back(tmp_path, shop, server):
    device = make_device(tmp_path, shop, server, watch={"check": "true"})
    shop.publish(1)
    assert device.update()
    shop.publish(2)

    class Killed(BaseException):
        pass

    def die(seconds):
        raise Killed

    for _ in range(4):
        assert device.version in (1, 2)
        with pytest.raises(Killed):
            device.update(sleep=die)
    assert device.version == 2  # on trial for the fourth time
    with device.agent(sleep=die) as agent:
        agent.recover()
    assert device.version == 1
    assert "did not survive" in next(iter(device.state.refused.values()))


@pytest.mark.usefixtures("no_children")
def test_a_difference_is_fetched_where_it_helps(shop, server, device, tmp_path):
    from edgewise.bundling import bundle

    from ..tiny import write_onnx
    from .conftest import DATA

    shop.publish(1)
    assert device.update()
    shop.publish(2)
    source, small = write_onnx(tmp_path / "net2.onnx", outputs=2), tmp_path / "small.edge"
    with open_bundle(shop.bundles[1], allow_unsigned=True) as base:
        bundle(source, small, data=DATA, version=2, name="tiny", golden=1, base=base).close()
    publisher = shop.publisher()
    with open_bundle(small, allow_unsigned=True) as opened:
        release = publisher.add(opened, {})
    publisher.write()
    server.asked.clear()
    smaller = small.stat().st_size < shop.bundles[2].stat().st_size
    assert device.update() and device.version == 2
    assert any("-from-" in path for path in server.asked) == smaller
    assert len(release.differences) == 1


def test_a_folder_has_one_agent(device):
    with device.agent(), pytest.raises(InputError, match="already"):
        device.agent()


@pytest.mark.usefixtures("no_children")
def test_a_repository_elsewhere_with_another_root_begins_anew(tmp_path, shop, server, device):
    shop.publish(2)
    assert device.update()
    other = type(shop).begin(tmp_path / "other", shop.bundles)
    other.publish(1)
    with serving(other.folder) as elsewhere:
        moved = replace(device.settings, repo=address(elsewhere))
        device.settings = moved
        assert not device.update() and device.version == 2  # the root is not the one it knows
        device.settings = replace(moved, root=other.root)
        assert device.update() and device.version == 1


def test_pauses_are_by_chance_and_grow_with_failures():
    waits = [wait_for(3600.0, 0) for _ in range(200)]
    assert 1800 <= min(waits) < 2400 and 4800 < max(waits) <= 5400
    assert max(wait_for(3600.0, 1) for _ in range(200)) <= 121
    assert 600 < max(wait_for(3600.0, 40) for _ in range(200)) <= 3601


def with_wrong_golden(tmp_path):
    """A bundle of version 2 whose golden outputs are those of another net."""
    from unittest import mock

    from edgewise import bundling
    from edgewise.edge.artifact import Artifact

    from ..tiny import write_onnx
    from .conftest import DATA

    path = tmp_path / "wrong.edge"
    right = Artifact.run
    with mock.patch.object(Artifact, "run", lambda self, *x: right(self, *x) + 1):
        source = write_onnx(tmp_path / "net.onnx", outputs=2)
        bundling.bundle(source, path, data=DATA, version=2, name="tiny", golden=1).close()
    return path


def killer(folder):
    """The command of a worker that is killed as soon as it opens a model."""
    import sys

    script = folder / "killer.py"
    script.write_text(
        "import os, signal\n"
        "from edgewise.edge import runners, worker\n"
        "runners.open_file = lambda *a: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "worker.main()\n"
    )
    return (sys.executable, str(script))


@pytest.mark.usefixtures("no_children")
def test_the_metadata_that_were_seen_are_kept(shop, device):
    shop.publish(1)
    assert device.update()
    kept = json.loads((device.settings.folder / "trusted.json").read_text())
    assert sorted(kept["files"]) == ["root.json", "snapshot.json", "targets.json", "timestamp.json"]
    shutil.rmtree(shop.folder)
    assert not device.update() and device.version == 1


@pytest.mark.usefixtures("no_children")
def test_it_waits_between_looks_even_where_nothing_is_for_it(shop, server, device):
    class Enough(Exception):
        pass

    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Enough

    shop.publish(1, {"*": 0})
    with device.agent(sleep=sleep) as agent, pytest.raises(Enough):
        agent.run()
    assert server.asked.count("/metadata/timestamp.json") == 3  # the first at once
    assert min(pauses) >= 0.5 * device.settings.interval

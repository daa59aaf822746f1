"""Deployed over a real sshd, and onto an emulated processor; what stays is what is said to stay."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgewise.bundling import bundle
from edgewise.cli import main
from edgewise.deploying import deploy
from edgewise.devices import connect
from edgewise.edge import benchmark
from edgewise.edge.artifact import Artifact
from edgewise.edge.bundle import open_bundle
from edgewise.edge.worker import Worker
from edgewise.errors import DeviceError, InputError, ModelError

from ..edge.bundle.conftest import write_keys
from ..edge.tiny import write_onnx

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("onnx", reason="needs onnx to write a file")
pytest.importorskip("cryptography", reason="signs and checks signatures")


@pytest.fixture(autouse=True)
def _one_process_a_file(monkeypatch):
    monkeypatch.setattr(benchmark, "SITTINGS", 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with ``net.onnx`` (and its record), keys, and the signed bundle ``net.edge``."""
    folder = tmp_path_factory.mktemp("made")
    path = write_onnx(folder / "net.onnx")
    artifact = Artifact.open(path)
    artifact.save_record()
    write_keys(folder)
    write_keys(folder, "other")
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    bundle(artifact, folder / "net.edge", key=folder / "key.pem", data=x).close()
    return folder


@pytest.fixture
def address(sshd):
    return sshd.address + sshd.python


def test_a_bundle_is_checked_and_tried_there_and_nothing_stays(sshd, address, made):
    before = sshd.files()
    found = deploy(made / "net.edge", address, key=made / "key.pub", runs=64, threads=1, clean=True)
    assert (found.subject, found.device, found.checked) == ("net.edge", address, "signature")
    (trial,) = found.trials
    assert (trial.passed, found.passed, found.kept) == (True, True, None)
    assert (trial.golden.passed, trial.golden.n) == (True, 4)
    assert trial.measurement.latency_ms.runs >= 64
    assert trial.measurement.memory_bytes > 0
    assert trial.measurement.device_agreement.top1 == 1
    assert trial.measurement.machine["meanwhile"]
    assert sshd.files() == before


def test_what_passes_stays_as_it_was_sent(sshd, address, made, capfd):
    with pytest.raises(SystemExit) as end:
        main(["deploy", f"{made}/net.onnx", address, "--runs", "20", "--threads", "1", "--json"])
    assert not end.value.code
    found = json.loads(capfd.readouterr().out)
    assert found["checked"] == "sha256"
    assert found["kept"] == str(sshd.home / "edgewise")
    kept = sshd.home / "edgewise"
    assert {path.name for path in kept.iterdir()} == {"net.onnx", "net.onnx.json"}
    assert Artifact.open(kept / "net.onnx").sha256 == Artifact.open(made / "net.onnx").sha256
    assert not [name for name in sshd.files() if name.startswith(".edgewise")]


def test_a_device_that_computes_something_else_keeps_nothing(sshd, address, made, monkeypatch):
    """The check is the device's outputs against those of this machine: these are made wrong."""
    monkeypatch.setattr(Artifact, "run", lambda self, x: -self.run_on(self._runner, x))
    before = sshd.files()
    found = deploy(made / "net.onnx", address, runs=20, threads=1)
    assert (found.passed, found.kept) == (False, None)
    assert sshd.files() == before


def test_bytes_changed_on_the_way_are_refused_before_a_runtime_opens_them(address, made):
    with connect(address) as place:
        there = place.send(made / "net.onnx")
        place.shell(f"printf x >> {there}")
        with pytest.raises(DeviceError, match=r"net\.onnx arrived at ssh.* with other bytes"):
            deploy(made / "net.onnx", place, clean=True)


def test_a_bundle_changed_on_the_way_is_refused_by_the_device(address, made):
    with connect(address) as place:
        there = place.send(made / "net.edge")
        place.shell(f"printf x | dd of={there} bs=1 seek=100 conv=notrunc 2>/dev/null")
        with pytest.raises(ModelError, match=r"^/.*net\.edge: "):
            deploy(made / "net.edge", place, key=made / "key.pub", clean=True)
        assert "unpacked" not in place.shell(f"ls {place.scratch}")


def test_a_worker_decrypts_what_it_was_given_the_secret_for(made, tmp_path):
    secret = bytes(range(32))
    bundle(made / "net.onnx", tmp_path / "net.edge", key=made / "key.pem", secret=secret).close()
    key = (made / "key.pub").read_text()
    request = {"unbundle": str(tmp_path / "net.edge"), "into": str(tmp_path / "out"), "key": key}
    with Worker("onnxruntime", timeout=60) as worker:
        with pytest.raises(InputError, match="it is encrypted: give the secret"):
            worker.ask(**request, secret=None)
        said = worker.ask(**request, secret=secret.hex())
    assert said["signed"]
    unpacked = Path(said["files"]["onnxruntime"])
    assert unpacked.parent == tmp_path / "out"
    assert unpacked.read_bytes() == (made / "net.onnx").read_bytes()


def test_a_foreign_signature_is_refused_here_already(made):
    with pytest.raises(ModelError, match=r"net\.edge"):
        deploy(made / "net.edge", "emulated:cortex-a72", key=made / "other.pub")
    with pytest.raises(InputError, match="no key to check the signature with"):
        deploy(made / "net.edge", "emulated:cortex-a72")


def test_this_machine_is_no_target(made):
    with pytest.raises(InputError, match="deploy carries to another device"):
        deploy(made / "net.onnx", "local")


def test_a_device_without_the_runtime_says_what_to_install(sshd, made):
    (sshd.home / "onnxruntime.py").write_text("raise ModuleNotFoundError")
    bare = sshd.home / "bare"
    bare.write_text(f'#!/bin/sh\nPYTHONPATH=$HOME exec {sshd.python} "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(DeviceError, match=r"can run nothing of net\.onnx: .* pip install"):
        deploy(made / "net.onnx", sshd.address + "/~/bare")


def test_a_bundle_is_tried_on_an_emulated_processor(emulated_place, made):
    before = sorted(emulated_place.home.rglob("*"))
    found = deploy(made / "net.edge", emulated_place, key=made / "key.pub", threads=1, clean=True)
    (trial,) = found.trials
    assert (found.checked, found.passed, found.kept) == ("signature", True, None)
    assert trial.golden.passed
    assert trial.measurement.latency_ms is None
    assert trial.measurement.memory_bytes > 0
    assert sorted(emulated_place.home.rglob("*")) == before
    kept = emulated_place.keep([emulated_place.send(made / "net.edge")])
    with open_bundle(f"{kept}/net.edge", made / "key.pub") as again:
        assert again.signed

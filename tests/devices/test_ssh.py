"""Over a real sshd on loopback; the device is this machine under another user."""

import os
from contextlib import suppress

import numpy as np
import pytest

from edgewise import devices
from edgewise.devices.ssh import Ssh
from edgewise.edge import benchmark
from edgewise.edge.artifact import Artifact
from edgewise.edge.doctor import examine
from edgewise.edge.worker import Worker
from edgewise.errors import DeviceError, InputError, RuntimeFailure
from edgewise.explaining import explain
from edgewise.measuring import measure

from ..edge.tiny import write_onnx


@pytest.fixture
def address(sshd):
    """Of the server, with this interpreter: that of the user may have no numpy."""
    return sshd.address + sshd.python


def test_measures_as_here_and_leaves_nothing(sshd, address, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pytest.importorskip("onnx", reason="needs onnx to write a file")
    monkeypatch.setattr(benchmark, "SITTINGS", 1)
    before = sshd.files()
    path = write_onnx(tmp_path / "tiny.onnx", batch=2)
    x = np.random.default_rng(0).integers(-9, 9, (5, 4)).astype(np.float32)
    data = {"evaluation": (x, Artifact.open(path).run(x).argmax(1))}
    found = measure(path, data, device=address, runs=64, threads=1)
    assert found.device == address
    assert found.latency_ms.runs >= 64
    assert found.latency_ms.p50 > 0
    assert found.memory_bytes > 0
    assert (found.value, found.n) == (1.0, 5)
    assert (found.device_agreement.top1, found.device_agreement.max_steps) == (1.0, 0.0)
    assert found.machine["cpu"]
    assert sshd.files() == before


def test_an_error_leaves_nothing_either(sshd, address):
    before = sshd.files()
    with suppress(ZeroDivisionError), devices.connect(address):
        assert len(sshd.files()) == len(before) + 2  # the folder and the runner
        _ = 1 / 0
    assert sshd.files() == before


def test_a_folder_is_sent_once_and_stays_together(sshd, address, tmp_path):
    for name in ("net.xml", "net.bin"):
        (tmp_path / name).write_bytes(name.encode())
    with devices.connect(address) as place:
        first = [place.send(tmp_path / name) for name in ("net.xml", "net.bin")]
        assert len({os.path.dirname(path) for path in first}) == 1
        assert place.send(tmp_path / "net.xml") == first[0]
        (tmp_path / "net.bin").write_bytes(b"another")
        assert place.shell(f"cat {place.send(tmp_path / 'net.bin')}") == "another"


def test_a_worker_killed_there_is_named(sshd):
    """Its Python is one that dies as an illegal instruction would have it."""
    fatal = sshd.home / "fatal"
    fatal.write_text(f'#!/bin/sh\n[ "$2" = -c ] && exec {sshd.python} "$@"\nkill -ILL $$\n')
    fatal.chmod(0o755)
    with (
        devices.connect(sshd.address + "/~/fatal") as place,
        Worker("litert", timeout=60, command=place.command("litert")) as worker,
        pytest.raises(RuntimeFailure, match="litert was killed by SIGILL while being imported"),
    ):
        worker.ask(probe="litert")
    fatal.unlink()


def test_a_python_that_does_not_fit_is_refused(sshd):
    before = sshd.files()
    with pytest.raises(DeviceError, match="not found"):
        devices.connect(sshd.address + "/no/such/python").__enter__()
    assert sshd.files() == before


def test_a_stranger_is_not_let_in(sshd):
    address = "ssh://nobody-knows-me@" + sshd.address.partition("@")[2]
    with pytest.raises(DeviceError, match=r"cannot be reached .*Permission denied"):
        devices.connect(address).__enter__()


def test_an_unknown_host_key_is_not_accepted(sshd):
    """Checking host keys is left to the user's configuration, and nobody is asked."""
    with pytest.raises(DeviceError, match=r"cannot be reached .*Host key verification failed"):
        devices.connect(sshd.address.replace("127.0.0.1", "localhost")).__enter__()


@pytest.mark.parametrize(
    "name",
    [
        "ssh://", "ssh://-oProxyCommand=evil", "ssh://u@-host", "ssh://-u@host", "ssh://a b",
        "ssh://host:port", "ssh://host;rm", "ssh://ho'st", "ssh://host\n",
    ],
)  # fmt: skip
def test_what_ssh_would_take_for_an_option_is_no_address(name):
    with pytest.raises(InputError, match="is no address: give ssh://"):
        Ssh(name)


@pytest.mark.parametrize(
    ("name", "target", "python"),
    [
        ("ssh://pi@pi4", ("pi@pi4",), "python3"),
        ("ssh://pi4:2222/", ("-p", "2222", "pi4"), "python3"),
        ("ssh://pi@[fe80::1]/opt/v/bin/python", ("pi@fe80::1",), "/opt/v/bin/python"),
        ("ssh://Pi-4.local/~/my v/bin/python", ("Pi-4.local",), "\"$HOME\"/'my v/bin/python'"),
    ],
)
def test_an_address_is_read(name, target, python):
    place = Ssh(name)
    assert place._ssh[-len(target) :] == target
    assert place._python == python


def test_doctor_looks_there(address):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    with devices.connect(address) as place:
        (probe,) = examine(["onnxruntime"], place=place)
    assert probe.state == "works"


def test_explain_profiles_there(address, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pytest.importorskip("onnx", reason="needs onnx to write a file")
    path = write_onnx(tmp_path / "tiny.onnx")
    found = explain(path, runs=2, device=address)
    assert found.device == address
    assert [o.kind for o in found.operators] == ["MatMul"]

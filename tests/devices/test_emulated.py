"""The real aarch64 wheels under qemu, where that was made before: no test downloads anything."""

import numpy as np
import pytest

from edgewise import devices
from edgewise.devices import emulated
from edgewise.edge.artifact import Artifact
from edgewise.errors import DeviceError, InputError
from edgewise.measuring import measure

from ..edge.tiny import write_onnx

CPU = "emulated:cortex-a72"


def test_a_file_runs_there_and_its_time_is_never_called_latency(emulated_place, tmp_path):
    """Nothing but numpy, msgspec, the runtime and the runner's zip is there."""
    path = write_onnx(tmp_path / "tiny.onnx", batch=2)
    x = np.random.default_rng(0).integers(-9, 9, (5, 4)).astype(np.float32)
    data = {"evaluation": (x, Artifact.open(path).run(x).argmax(1))}
    found = measure(path, data, device=emulated_place, runs=700, threads=1)
    assert (found.device, found.runtime) == (CPU, "onnxruntime")
    assert (found.latency_ms, found.load_ms) == (None, None)
    assert found.memory_bytes > 0
    assert (found.value, found.n) == (1.0, 5)
    agreement = found.device_agreement
    assert (agreement.top1, agreement.max_steps, agreement.n) == (1.0, 0.0, 5)
    assert found.machine["cpu"] == "Cortex-A72"
    assert found.machine["architecture"] == "aarch64"
    assert not {"cores", "memory_bytes", "load", "frequency_mhz"} & set(found.machine)
    assert set(found.versions) <= {"numpy", "onnxruntime", "edgewise"}


def test_a_runtime_without_wheels_there_is_refused(emulated_place):
    with pytest.raises(InputError, match="has no executorch: lower the model for onnxruntime or"):
        emulated_place.command("executorch")


def test_only_known_processors_are_emulated():
    with pytest.raises(InputError, match="no processor 'z80' is emulated: choose one of cortex-a5"):
        devices.connect("emulated:z80")


def test_without_qemu_and_apt_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="install the package qemu-user of Debian 13") as caught:
        devices.connect(CPU).__enter__()
    assert "cannot be fetched without dpkg" in str(caught.value)


@pytest.mark.parametrize(("says", "taken"), [("7.2.22", False), ("10.0.3", True)])
def test_an_old_qemu_is_passed_over(tmp_path, monkeypatch, says, taken):
    program = tmp_path / "bin/qemu-aarch64"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'qemu-aarch64 version {says} (Debian)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if taken:
        assert emulated.qemu() == str(program)
    else:
        with pytest.raises(DeviceError, match="version 10 or later"):
            emulated.qemu()

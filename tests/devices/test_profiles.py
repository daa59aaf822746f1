"""Profiles are data: what follows from them is checked, not what they say."""

import pytest

from edgewise.devices import connect
from edgewise.devices.profiles import PROFILES, profile_of
from edgewise.edge.machine import ARM_CORES
from edgewise.edge.runners import RUNTIMES, lacks_wheels


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_a_row_is_whole(profile):
    assert profile.source.startswith("https://")
    assert min(profile.memory) >= 512 and profile.cores > 0 and profile.mhz >= 900
    assert profile.architecture == "x86_64" or profile.cpu in ARM_CORES.values()
    assert set(profile.runtimes) == set(RUNTIMES)
    if profile.emulated:
        assert connect(profile.emulated).name == profile.emulated


def test_the_board_is_found_by_what_its_system_calls_it():
    assert profile_of("Raspberry Pi 4 Model B Rev 1.4").cpu == "Cortex-A72"
    assert profile_of("Raspberry Pi 3 Model B Plus Rev 1.3").mhz == 1400
    assert profile_of("Raspberry Pi 3 Model B Rev 1.2").mhz == 1200
    assert profile_of("Raspberry Pi Zero 2 W Rev 1.0").memory == (512,)
    assert profile_of("some board") is None


@pytest.mark.parametrize(
    ("architecture", "libc", "says"),
    [
        ("aarch64", "glibc 2.36", None),
        ("aarch64", "glibc 2.28", None),
        ("x86_64", "", None),
        ("aarch64", "glibc 2.27", "needs glibc 2.28, this is glibc 2.27"),
        ("aarch64", "glibc 2.9", "needs glibc 2.28"),
        ("aarch64", "musl", "has no wheels for musl: use a system with glibc"),
        ("armv7l", "glibc 2.36", "has no wheels for armv7l, only for x86_64 and aarch64"),
    ],
)
def test_what_pip_cannot_install_is_said_before(architecture, libc, says):
    found = lacks_wheels("onnxruntime", architecture, libc)
    assert found is None if says is None else says in found

"""Machines are described from their files, so those of other machines serve as examples."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from edgewise.edge.machine import describe, versions

CORE = """\
processor\t: {index}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm {more} crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def cores(*parts: str, more: str = "") -> str:
    return "\n".join(CORE.format(index=i, part=p, more=more) for i, p in enumerate(parts))


def test_a_raspberry_pi(tmp_path):
    cpu0 = "sys/devices/system/cpu/cpu0/cpufreq"
    files = {
        "proc/cpuinfo": cores(*["0xd08"] * 4)
        + "\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/meminfo": "MemTotal:        3884376 kB\nMemFree:          100 kB\n",
        "proc/loadavg": "0.52 0.58 0.59 1/389 1234\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        f"{cpu0}/scaling_governor": "ondemand\n",
        f"{cpu0}/scaling_cur_freq": "1500000\n",
        "sys/class/thermal/thermal_zone0/temp": "61342\n",
        "sys/class/thermal/thermal_zone1/temp": "58000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "80000\n",
    }
    found = describe(write(tmp_path, files))
    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["cpu"] == "Cortex-A72"
    assert found["flags"] == ["asimd"]
    assert found["memory_bytes"] == 3884376 * 1024
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert (found["governor"], found["frequency_mhz"]) == ("ondemand", 1500.0)
    assert (found["temperature_c"], found["throttled"]) == (61.342, "80000")
    assert found["load"] == 0.52


def test_cores_of_two_kinds_and_one_that_is_not_known(tmp_path):
    files = {"proc/cpuinfo": cores("0xd05", "0xd05", "0xd0b", "0xfff", more="asimddp")}
    found = describe(write(tmp_path, files))
    assert found["cpu"] == "part 0xfff + Cortex-A76 + Cortex-A55"
    assert found["flags"] == ["asimd", "asimddp"]


def test_a_32_bit_kernel_names_the_architecture_not_the_core(tmp_path):
    text = "model name\t: ARMv7 Processor rev 3 (v7l)\nFeatures\t: half neon\nCPU part\t: 0xd08\n"
    found = describe(write(tmp_path, {"proc/cpuinfo": text}))
    assert (found["cpu"], found["flags"]) == ("Cortex-A72", ["neon"])


def test_a_processor_with_a_name(tmp_path):
    text = "model name\t: Intel(R) N100\nflags\t\t: fpu sse4_1 avx2 avx_vnni\ncpu MHz\t\t: 806.4\n"
    found = describe(write(tmp_path, {"proc/cpuinfo": text}))
    assert found["cpu"] == "Intel(R) N100"
    assert found["flags"] == ["sse4_1", "avx2", "avx_vnni"]
    assert found["frequency_mhz"] == 806.4


@pytest.mark.parametrize("root", [None, Path("/")])
def test_what_cannot_be_read_is_left_out(tmp_path, root):
    found = describe(root or tmp_path)
    assert None not in found.values()
    assert found["cores"] > 0
    assert json.loads(json.dumps(found)) == found


def test_versions_are_those_installed():
    found = versions()
    assert found["numpy"] == metadata.version("numpy")
    assert set(found) <= {
        *("edgewise", "numpy", "torch"),
        *("onnxruntime", "litert", "executorch", "openvino"),
    }

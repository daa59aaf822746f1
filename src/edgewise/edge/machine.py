"""What machine this is, and which runtimes are installed; read from files, nothing is imported.

Figures of speed mean nothing without it: the same file takes three times as long on a processor
without int8 dot products, and a hot Raspberry Pi runs at half its clock.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from .runners import RUNTIMES

__all__ = ["describe", "state", "versions"]

# Instructions that decide which kernels a runtime chooses (Linux's names for them).
FLAGS = (
    *("sse4_1", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)

# Arm's cores by the "CPU part" of /proc/cpuinfo, where the implementer is 0x41 (MIDR_EL1).
ARM_CORES = {
    "0xb76": "ARM1176",
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """The machine, leaving out what cannot be read.

    Args:
        root: where ``proc`` and ``sys`` lie.

    Returns:
        ``board`` (single-board computers), ``cpu``, ``cores``, ``flags`` (those of `FLAGS` that
        it has), ``memory_bytes``, ``architecture``, ``libc`` (``"glibc 2.36"``, ``"musl"``),
        ``os``, ``kernel``, ``python``; and its `state` at the moment.
    """
    cpuinfo = _cpuinfo(root)
    found = {
        "board": _text(root / "proc/device-tree/model"),
        "cpu": _cpu(cpuinfo),
        "cores": os.cpu_count(),
        "flags": _flags(cpuinfo),
        "memory_bytes": _memory(root),
        "architecture": platform.machine(),
        "libc": _libc(root),
        "os": _system(root),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    return {n: v for n, v in found.items() if v not in (None, "", [])} | state(root)


def state(root: Path = Path("/")) -> dict[str, Any]:
    """What changes while one measures, leaving out what cannot be read.

    Returns:
        ``governor``, ``frequency_mhz``, ``limit_mhz`` (the highest clock allowed now, which the
        kernel lowers when it is hot), ``temperature_c`` (the hottest zone), ``throttled``
        (Raspberry Pi: its bit mask, ``"0"`` when it never was), ``load`` (runnable processes, mean
        over a minute).
    """
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    found = {
        "governor": _text(frequency / "scaling_governor"),
        "frequency_mhz": _frequency(frequency, _cpuinfo(root)),
        "limit_mhz": _megahertz(frequency / "scaling_max_freq"),
        "temperature_c": _temperature(root),
        "throttled": _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled"),
        "load": _load(root),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def versions() -> dict[str, str]:
    """Versions of those installed of edgewise, numpy, torch and the runtimes, by their names."""
    packages = {name: name for name in ("edgewise", "numpy", "torch")}
    packages |= {runtime.name: runtime.package for runtime in RUNTIMES.values()}
    found = {}
    for name, package in packages.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def _cpuinfo(root: Path) -> list[dict[str, str]]:
    """The paragraphs of /proc/cpuinfo, one a processor."""
    paragraphs = (_text(root / "proc/cpuinfo") or "").split("\n\n")
    return [
        {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}
        for text in paragraphs
    ]


def _cpu(cpuinfo: list[dict[str, str]]) -> str:
    """Its name as sold; for Arm, which has none there, its kinds of core (big first)."""
    names = {}
    for cpu in cpuinfo:
        part = cpu.get("CPU part")
        arm = ARM_CORES.get(part, f"part {part}") if part else None
        names[arm or cpu.get("model name")] = None  # 32-bit kernels name the architecture
    return " + ".join(sorted((n for n in names if n), reverse=True)) or platform.processor()


def _flags(cpuinfo: list[dict[str, str]]) -> list[str]:
    have = (cpuinfo[0].get("flags") or cpuinfo[0].get("Features") or "").split()
    return [flag for flag in FLAGS if flag in have]


def _memory(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _libc(root: Path) -> str:
    """``"glibc 2.36"``, or ``"musl"``, for which no runtime has wheels."""
    known = " ".join(platform.libc_ver()).strip()
    return known or ("musl" if any(root.glob("lib/ld-musl-*")) else "")


def _system(root: Path) -> str:
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.platform()


def _frequency(folder: Path, cpuinfo: list[dict[str, str]]) -> float | None:
    if (now := _megahertz(folder / "scaling_cur_freq")) is not None:
        return now
    return float(cpuinfo[0]["cpu MHz"]) if "cpu MHz" in cpuinfo[0] else None


def _megahertz(path: Path) -> float | None:
    khz = _text(path)
    return int(khz) / 1000 if khz else None


def _temperature(root: Path) -> float | None:
    zones = (_text(p) for p in root.glob("sys/class/thermal/thermal_zone*/temp"))
    degrees = [int(zone) / 1000 for zone in zones if zone]
    return max(degrees, default=None)


def _load(root: Path) -> float | None:
    load = _text(root / "proc/loadavg")
    return float(load.split()[0]) if load else None

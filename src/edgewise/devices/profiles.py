"""What common devices are made of: plain data, each row with where it was read.

A profile says what a device can hold and which runtimes can be had for it, before there is one at
hand. It says nothing of speed: that is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..edge.runners import RUNTIMES, lacks_wheels

__all__ = ["PROFILES", "Profile", "profile_of"]


@dataclass(frozen=True)
class Profile:
    """One kind of device, with the system that its maker recommends.

    Attributes:
        name: as it is sold.
        board: how the system names it (``/proc/device-tree/model`` begins so); empty where that
            says nothing, as on a PC.
        cpu: its cores, as `edgewise.edge.machine` calls them.
        cores, mhz: how many, and their highest clock as sold.
        memory: the sizes that are sold, in MiB.
        storage: what it boots from.
        architecture, libc: what its wheels must be for; ``"glibc 2.36"`` or ``"musl"``.
        system: that has this C library.
        emulated: the device of `edgewise.devices.connect` with this core or the nearest older one;
            empty where this machine's own architecture is it.
        source: where these figures were read.
    """

    name: str
    board: str
    cpu: str
    cores: int
    mhz: int
    memory: tuple[int, ...]
    storage: str
    architecture: str
    libc: str
    system: str
    emulated: str
    source: str

    @property
    def runtimes(self) -> dict[str, str | None]:
        """Each runtime with None where there is a wheel for this device, else why there is not."""
        return {name: lacks_wheels(name, self.architecture, self.libc) for name in RUNTIMES}

    def __str__(self) -> str:
        sizes = " or ".join(f"{m / GIB:g} GiB" if m >= GIB else f"{m} MiB" for m in self.memory)
        emulated = f"; without one at hand, try  --device {self.emulated}" if self.emulated else ""
        return (
            f"{self.name}: {self.cores} x {self.cpu} of {self.mhz} MHz, sold with {sizes}, boots "
            f"from {self.storage}{emulated}"
        )


GIB = 1024
PI, PI_OS, PI_LIBC = "https://www.raspberrypi.com/products/", "Raspberry Pi OS 12", "glibc 2.36"
A53, A72, A76 = "emulated:cortex-a53", "emulated:cortex-a72", "emulated:cortex-a76"

PROFILES: tuple[Profile, ...] = (
    Profile(
        "Raspberry Pi Zero 2 W", "Raspberry Pi Zero 2", "Cortex-A53", 4, 1000, (512,), "microSD",
        "aarch64", PI_LIBC, PI_OS, A53, PI + "raspberry-pi-zero-2-w/",
    ),
    Profile(
        "Raspberry Pi 3 B+", "Raspberry Pi 3 Model B Plus", "Cortex-A53", 4, 1400, (GIB,),
        "microSD", "aarch64", PI_LIBC, PI_OS, A53, PI + "raspberry-pi-3-model-b-plus/",
    ),
    Profile(
        "Raspberry Pi 3 B", "Raspberry Pi 3 Model B", "Cortex-A53", 4, 1200, (GIB,), "microSD",
        "aarch64", PI_LIBC, PI_OS, A53, PI + "raspberry-pi-3-model-b/",
    ),
    Profile(
        "Raspberry Pi 4 B", "Raspberry Pi 4", "Cortex-A72", 4, 1800,
        (GIB, 2 * GIB, 4 * GIB, 8 * GIB), "microSD or USB", "aarch64", PI_LIBC, PI_OS, A72,
        PI + "raspberry-pi-4-model-b/specifications/",
    ),
    Profile(
        "Raspberry Pi Compute Module 4 (many gateways)", "Raspberry Pi Compute Module 4",
        "Cortex-A72", 4, 1500, (GIB, 2 * GIB, 4 * GIB, 8 * GIB), "eMMC", "aarch64", PI_LIBC, PI_OS,
        A72, PI + "compute-module-4/",
    ),
    Profile(
        "Raspberry Pi 5", "Raspberry Pi 5", "Cortex-A76", 4, 2400,
        (GIB, 2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB), "microSD or NVMe", "aarch64", PI_LIBC, PI_OS,
        A76, PI + "raspberry-pi-5/",
    ),
    Profile(
        "Jetson Orin Nano 8GB", "NVIDIA Jetson Orin Nano", "Cortex-A78AE", 6, 1500, (8 * GIB,),
        "microSD or NVMe", "aarch64", "glibc 2.35", "JetPack 6 (Ubuntu 22.04)", A76,
        "https://developer.nvidia.com/embedded/jetson-modules",
    ),
    Profile(
        "Jetson Nano", "NVIDIA Jetson Nano", "Cortex-A57", 4, 1430, (4 * GIB,), "microSD",
        "aarch64", "glibc 2.27", "JetPack 4 (Ubuntu 18.04)", A53,
        "https://developer.nvidia.com/embedded/jetson-modules",
    ),
    Profile(
        "Gateway with i.MX 8M Plus", "NXP i.MX8MPlus", "Cortex-A53", 4, 1800, (2 * GIB, 4 * GIB),
        "eMMC", "aarch64", PI_LIBC, "Debian 12", A53,
        "https://www.nxp.com/products/i.MX8MPLUS",
    ),
    Profile(
        "Gateway with an Intel N100", "", "Intel(R) N100", 4, 3400, (8 * GIB, 16 * GIB),
        "NVMe or eMMC", "x86_64", PI_LIBC, "Debian 12", "",
        "https://ark.intel.com/content/www/us/en/ark/products/231803/intel-processor-n100.html",
    ),
    Profile(
        "Router with OpenWrt on Arm", "", "Cortex-A53", 2, 1350, (512, GIB), "NAND flash",
        "aarch64", "musl", "OpenWrt", A53, "https://openwrt.org/docs/techref/instructionset/start",
    ),
    Profile(
        "Raspberry Pi 2 B", "Raspberry Pi 2", "Cortex-A7", 4, 900, (GIB,), "microSD", "armv7l",
        PI_LIBC, PI_OS + " (32-bit)", "", PI + "raspberry-pi-2-model-b/",
    ),
)  # fmt: skip


def profile_of(board: str) -> Profile | None:
    """The profile of a board that the system names so; the one that fits longest."""
    fits = [p for p in PROFILES if p.board and board.startswith(p.board)]
    return max(fits, key=lambda p: len(p.board), default=None)

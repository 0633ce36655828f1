"""What is known of Jetsons from NVIDIA's documents, as data: releases, modules, rails. Not verified on hardware.

Sources: NVIDIA's JetPack archive and release notes (JetPack, L4T, CUDA, TensorRT of each release), Jetson Linux
Developer Guides 32.7, 35.6 and 36.4 (power rails, thermal zones), Jetson module data sheets (modules). These tables
explain and name; what a board has installed is always read from the board.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class JetPack:
    """A release of NVIDIA's software for Jetsons.

    Attributes:
        name: e.g. ``4.6.1``.
        l4t: its L4T (Jetson Linux), e.g. ``32.7.1``.
        tensorrt: first two or three numbers of the TensorRT it brings.
        cuda: the CUDA it brings.
    """

    name: str
    l4t: str
    tensorrt: str
    cuda: str


JETPACKS = (
    JetPack("4.4", "32.4.3", "7.1.3", "10.2"),
    JetPack("4.4.1", "32.4.4", "7.1.3", "10.2"),
    JetPack("4.5", "32.5", "7.1.3", "10.2"),
    JetPack("4.5.1", "32.5.1", "7.1.3", "10.2"),
    JetPack("4.6", "32.6.1", "8.0.1", "10.2"),
    JetPack("4.6.1", "32.7.1", "8.2.1", "10.2"),
    JetPack("4.6.2", "32.7.2", "8.2.1", "10.2"),
    JetPack("4.6.3", "32.7.3", "8.2.1", "10.2"),
    JetPack("4.6.4", "32.7.4", "8.2.1", "10.2"),
    JetPack("4.6.5", "32.7.5", "8.2.1", "10.2"),
    JetPack("4.6.6", "32.7.6", "8.2.1", "10.2"),
    JetPack("5.0.2", "35.1", "8.4.1", "11.4"),
    JetPack("5.1", "35.2.1", "8.5.2", "11.4"),
    JetPack("5.1.1", "35.3.1", "8.5.2", "11.4"),
    JetPack("5.1.2", "35.4.1", "8.5.2", "11.4"),
    JetPack("5.1.3", "35.5", "8.5.2", "11.4"),
    JetPack("5.1.4", "35.6", "8.5.2", "11.4"),
    JetPack("5.1.5", "35.6.1", "8.5.2", "11.4"),
    JetPack("6.0", "36.3", "8.6.2", "12.2"),
    JetPack("6.1", "36.4", "10.3", "12.6"),
    JetPack("6.2", "36.4.3", "10.3", "12.6"),
    JetPack("6.2.1", "36.4.4", "10.3", "12.6"),
    JetPack("6.2.1", "36.4.7", "10.3", "12.6"),
    JetPack("7.0", "38.2", "10.13", "13.0"),
    JetPack("7.1", "38.4", "10.13", "13.0"),
    JetPack("7.2", "39.2", "10.16", "13.2"),
)

# Part number of a module (its first four digits and a variant) to its name. ``p3767-0005`` stands in developer kits.
MODULES = {
    "p3310-1000": "Jetson TX2 8GB",
    "p3489-0000": "Jetson TX2i",
    "p3489-0888": "Jetson TX2 4GB",
    "p3636-0001": "Jetson TX2 NX",
    "p3448-0000": "Jetson Nano 4GB (developer kit)",
    "p3448-0002": "Jetson Nano 4GB",
    "p3448-0003": "Jetson Nano 2GB",
    "p2888-0001": "Jetson AGX Xavier 16GB",
    "p2888-0004": "Jetson AGX Xavier 32GB",
    "p2888-0005": "Jetson AGX Xavier 64GB",
    "p3668-0000": "Jetson Xavier NX 8GB (developer kit)",
    "p3668-0001": "Jetson Xavier NX 8GB",
    "p3668-0003": "Jetson Xavier NX 16GB",
    "p3701-0000": "Jetson AGX Orin 32GB (developer kit)",
    "p3701-0004": "Jetson AGX Orin 32GB",
    "p3701-0005": "Jetson AGX Orin 64GB",
    "p3701-0008": "Jetson AGX Orin Industrial",
    "p3767-0000": "Jetson Orin NX 16GB",
    "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB",
    "p3767-0004": "Jetson Orin Nano 4GB",
    "p3767-0005": "Jetson Orin Nano 8GB (developer kit)",
    "p3834-0008": "Jetson AGX Thor T5000",
}

# The chip, as the device tree names it, to its GPU and CUDA's compute capability (CUDA documentation).
GPUS = {
    "tegra210": ("NVIDIA Maxwell (GM20B)", "5.3"),
    "tegra186": ("NVIDIA Pascal (GP10B)", "6.2"),
    "tegra194": ("NVIDIA Volta (GV11B)", "7.2"),
    "tegra234": ("NVIDIA Ampere (GA10B)", "8.7"),
    "tegra264": ("NVIDIA Blackwell (GB10B)", "11.0"),
}

# Rails whose sum is what the module takes in, the first set that a board has all of. A rail that another one of the
# set feeds is left out: on AGX Orin VDDQ_VDD2_1V8AO comes from VIN_SYS_5V0. The carrier board is in none of them.
_INPUT_RAILS = (
    ("VDD_IN",),  # TX1, TX2, TX2 NX, Xavier NX, Orin NX, Orin Nano
    ("POM_5V_IN",),  # Nano
    ("VIN",),  # AGX Thor
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


def input_rails(rails: Collection[str]) -> tuple[str, ...]:
    """Return those rails whose sum is what the module takes in; empty where that is not known."""
    return next((wanted for wanted in _INPUT_RAILS if set(wanted) <= set(rails)), ())


def jetpack_of(l4t: str | None) -> JetPack | None:
    """Return the JetPack that an L4T belongs to, ``32.5`` being ``32.5.0``; None where it is not listed."""
    wanted = _without_zeros(l4t or "")
    return next((item for item in JETPACKS if _without_zeros(item.l4t) == wanted), None)


def module_part(names: Collection[str]) -> str | None:
    """Return the part number of the module among device-tree names: ``p3767-0005`` of ``p3768-0000+p3767-0005``.

    Device-tree names of a board put the carrier first and may add a marketing suffix (``…-super``).
    """
    for name in names:
        for part in re.findall(r"p[0-9]{4}-[0-9]{4}", name[:200].casefold()):
            if part in MODULES:
                return str(part)
    return None


def _without_zeros(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)

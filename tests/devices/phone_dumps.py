"""Phones on this machine: a folder that stands for the phone's ``/``, read by a real shell through the real script."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from machine_trees import plant

from dfmobile.devices.android import probe_android
from dfmobile.devices.getprop import parse_getprop
from dfmobile.devices.profile import DeviceProfile
from dfmobile.devices.remote_files import RemoteFiles
from dfmobile.devices.transport.base import CommandResult
from dfmobile.devices.transport.local import LocalTransport

# Each shell with the tools that come with it: a phone has mksh and toybox.
SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh"), "mksh": ("mksh",)}
TOOLS = {"busybox": "busybox", "mksh": "toybox"}

PIXEL_3_BATTERY = """Current Battery Service state:
  AC powered: true
  USB powered: false
  Wireless powered: false
  status: 5
  level: 100
  scale: 100
  temperature: 215
"""
AWAKE = "POWER MANAGER (dumpsys power)\n  mWakefulness=Awake\n  mIsPowered=true\nDisplay Power: state=ON\n"


def installed_shells() -> list[str]:
    """Names of the shells of ``SHELLS`` that this machine has."""
    return [name for name, argv in SHELLS.items() if shutil.which(argv[0])]


def with_own_tools(name: str, folder: Path) -> tuple[str, ...] | None:
    """A command for the shell that finds only the tools that come with it; None where they are not installed."""
    tools = shutil.which(TOOLS.get(name, "")) if name in TOOLS else None
    shell = shutil.which(SHELLS[name][0])
    if tools is None or shell is None:
        return None
    for tool in ("od", "ls"):
        (folder / tool).symlink_to(tools)
    return ("/usr/bin/env", f"PATH={folder}", shell, *SHELLS[name][1:])


class FolderPhone(LocalTransport):
    """A folder as a phone: files through the script, properties and dumpsys from texts."""

    def __init__(
        self, root: Path, getprop: str = "", dumpsys: Mapping[str, str | CommandResult | Exception] = {}
    ) -> None:
        super().__init__()
        self.root = root
        self._getprop = getprop
        self._dumpsys = dumpsys

    def properties(self) -> dict[str, str]:
        return parse_getprop(self._getprop)

    def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
        if argv[0] != "dumpsys":
            return super().run(argv, **options)
        answer = self._dumpsys.get(argv[1])
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, CommandResult):
            return answer
        if answer is None:
            return CommandResult(tuple(argv), 0, f"Can't find service: {argv[1]}\n".encode(), b"", 1.0)
        return CommandResult(tuple(argv), 0, answer.encode(), b"", 1.0)

    def probe(self, shell: str = "") -> DeviceProfile:
        argv = SHELLS[shell] if shell else ("sh",)
        return probe_android(self, read_files=partial(RemoteFiles, shell_command=argv, root=str(self.root)))


def plant_phone(root: Path, files: Mapping[str, str]) -> Path:
    """Write a phone's files below a folder; it has ``/proc/self/status``, as every phone."""
    status = {"/proc/self/status": "Name:\tsh\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7"}
    return plant(root, {**status, **files})


def galaxy_s9(folder: Path, root: Path) -> FolderPhone:
    """The recorded Galaxy S9 (US); it has no cpusets, thermal zones and memory in it."""
    blocks = re.split(r"^== (/\S+)\n", (folder / "galaxy-s9-us_sdm845_sysfs.txt").read_text(), flags=re.M)
    files = {path: text.removesuffix("\n") for path, text in zip(blocks[1::2], blocks[2::2], strict=True)}
    files["/proc/cpuinfo"] = (folder / "galaxy-s9-us_proc_cpuinfo.txt").read_text()
    return FolderPhone(plant_phone(root, files), (folder / "galaxy-s9-us_getprop.txt").read_text(), {"power": AWAKE})


def pixel_3(folder: Path, root: Path) -> FolderPhone:
    """The recorded Pixel 3: cpuinfo, properties, battery, memory; no sysfs but the names of SDM845's zones."""
    text = (folder / "pixel3_blueline_cpuinfo_getprop_battery.txt").read_text()
    features = re.search(r"^Features : ([a-z0-9 ]+?) ;", text, re.M)
    memory = re.search(r"MemTotal: [0-9]+ kB", text)
    battery = re.search(r"--- dumpsys battery\n(.*?)\n\n", text, re.S)
    assert features is not None
    assert memory is not None
    assert battery is not None
    core = "processor\t: {}\nFeatures\t: {}\nCPU implementer\t: 0x51\nCPU architecture: 8\nCPU part\t: {}\n"
    cores = [core.format(number, features[1], "0x803" if number < 4 else "0x802") for number in range(8)]
    files = {
        "/proc/cpuinfo": "\n".join(cores) + "\nHardware\t: Qualcomm Technologies, Inc SDM845",
        "/proc/meminfo": memory[0],
    }
    zones = " ".join((folder / "sdm845_thermal_zones.txt").read_text().splitlines()[:3]).split()
    for number, zone in enumerate(zones):
        files[f"/sys/class/thermal/thermal_zone{number}/type"] = zone
        files[f"/sys/class/thermal/thermal_zone{number}/temp"] = str(31_000 + 100 * number)
    return FolderPhone(plant_phone(root, files), text.partition("---")[0], {"battery": battery[1], "power": AWAKE})

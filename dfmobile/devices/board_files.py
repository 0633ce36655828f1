"""What is brought from a Linux board to describe it: files and the output of a few tools, in one round trip.

Works with the POSIX sh and coreutils of Ubuntu 18.04. Knows which files and tools, not what they mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

from dfmobile.devices.remote_files import FileGroup, RemoteFiles, RemoteLimits
from dfmobile.devices.system_files import SystemFiles
from dfmobile.devices.transport.base import Transport

TOOLS = "/dfmobile-tools"
DEVFREQ = "/sys/class/devfreq"
HWMON = "/sys/class/hwmon"
INA3221X = "/sys/bus/i2c/drivers/ina3221x"  # L4T 28 to 32
CUDA = "/usr/local/cuda"
TENSORRT_HEADERS = tuple(
    f"{folder}/NvInferVersion.h"
    for folder in ("/usr/include/aarch64-linux-gnu", "/usr/include/x86_64-linux-gnu", "/usr/include")
)

_CPU = "/sys/devices/system/cpu"

# What changes from moment to moment: asked for before and after a measurement, and by the probe too.
STATE_FILES = (
    FileGroup("/proc", ("meminfo", "stat"), "bytes"),
    FileGroup("/proc", ("loadavg",)),
    FileGroup(_CPU, ("online",)),
    FileGroup(
        f"{_CPU}/cpu[0-9]*",
        tuple(f"cpufreq/scaling_{name}" for name in ("cur_freq", "min_freq", "max_freq", "governor")),
    ),
    FileGroup("/sys/class/thermal", (".",), "names"),
    FileGroup("/sys/class/thermal/thermal_zone*", ("type", "temp")),
    FileGroup("/sys/class/thermal/cooling_device*", ("type", "cur_state")),
    FileGroup(DEVFREQ, (".",), "names"),
    FileGroup(f"{DEVFREQ}/*", ("cur_freq", "min_freq", "max_freq", "governor")),
    FileGroup(HWMON, (".",), "names"),
    FileGroup(f"{HWMON}/hwmon*", ("name", *(f"oc{number}_event_cnt" for number in range(1, 4)))),
)

# Beyond STATE_FILES.
BOARD_FILES = (
    FileGroup("/proc", ("cpuinfo", "self/status"), "bytes"),
    FileGroup("/proc/sys/kernel", ("osrelease", "arch")),
    FileGroup(_CPU, ("present", "possible")),
    FileGroup(
        f"{_CPU}/cpu[0-9]*",
        (
            "cpu_capacity",
            "regs/identification/midr_el1",
            "topology/thread_siblings_list",
            "cpufreq/cpuinfo_max_freq",
            "cpufreq/cpuinfo_min_freq",
            "cpufreq/related_cpus",
            "cpufreq/scaling_available_governors",
        ),
    ),
    FileGroup(f"{_CPU}/cpu[0-9]*", ("cache",), "names"),
    FileGroup(f"{_CPU}/cpu[0-9]*/cache/index*", ("level", "type", "size", "shared_cpu_list", "coherency_line_size")),
    FileGroup("/sys/devices/soc0", ("family", "machine", "chip_name")),
    FileGroup("/etc", ("os-release", "nv_tegra_release"), "bytes"),
    FileGroup("/usr/lib", ("os-release",), "bytes"),
    FileGroup("/proc/device-tree", ("model", "compatible"), "bytes"),
    FileGroup("/sys/firmware/devicetree/base", ("model", "compatible"), "bytes"),
    FileGroup("/sys/class/dmi/id", ("sys_vendor", "product_name")),
    FileGroup("/sys/hypervisor", ("type",)),
    FileGroup("/sys/devices", ("cpu_core/cpus", "cpu_atom/cpus", "cpu_lowpower/cpus")),
    FileGroup("/sys/fs/cgroup", ("cpu.max", "memory.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")),
    FileGroup("/sys/fs/cgroup/memory", ("memory.limit_in_bytes",)),
    FileGroup("/proc/driver/nvidia/gpus/*", ("information",), "bytes"),
    FileGroup(f"{DEVFREQ}/*", ("available_frequencies",)),
    FileGroup(f"{HWMON}/hwmon*", tuple(f"in{number}_label" for number in range(1, 5))),
    FileGroup(f"{INA3221X}/*", (".",), "names"),
    FileGroup(f"{INA3221X}/*/iio?device*", tuple(f"rail_name_{number}" for number in range(3))),
    FileGroup(CUDA, ("version.json", "version.txt"), "bytes"),
    *(FileGroup(path.rpartition("/")[0], ("NvInferVersion.h",), "bytes") for path in TENSORRT_HEADERS),
)

_LIMITS = RemoteLimits(file_bytes=256 * 1024, total_bytes=2 * 2**20, timeout_s=60.0, command_characters=100_000)


@dataclass(frozen=True)
class ToolAnswer:
    """What a tool of the board wrote, or why there is nothing.

    Attributes:
        text: its output; None where it did not run or failed.
        reason: why, in a few words.
    """

    text: str | None
    reason: str = ""


def read_board(transport: Transport, *, root: str = "") -> RemoteFiles:
    """Bring everything that describes a board, in one round trip.

    Args:
        transport: the board.
        root: folder on the board that stands for ``/``, its tools included; for tests.

    Raises:
        DeviceError: if the board went away or has no shell. What cannot be read is no error.
    """
    return RemoteFiles(transport, (*STATE_FILES, *BOARD_FILES), _LIMITS, root=root, first=_tools("all"))


def read_board_state(transport: Transport, *, tools: bool = True, root: str = "") -> RemoteFiles:
    """Bring what changes from moment to moment, in one round trip.

    Args:
        transport: the board.
        tools: ask nvpmodel and jetson_clocks too; they take a core for some tenths of a second.
        root: folder on the board that stands for ``/``, its tools included; for tests.

    Raises:
        DeviceError: as ``read_board``.
    """
    return RemoteFiles(transport, STATE_FILES, _LIMITS, root=root, first=_tools("state") if tools else "")


def tool_answer(files: SystemFiles, name: str) -> ToolAnswer:
    """Return what a tool wrote, if it ended well."""
    path = f"{TOOLS}/{name}"
    text = files.read(path)
    if text is None:
        return ToolAnswer(None, f"{name}: {files.reason(path)}")
    body, _, last_line = text.rpartition("\n")
    found = re.fullmatch(r"exit ([0-9]{1,3})", last_line.strip())
    if found is None:
        return ToolAnswer(None, f"{name} wrote more than what is read of it")
    if found[1] == "0":
        return ToolAnswer(body)
    if found[1] == "124":
        return ToolAnswer(None, f"{name} did not end within 10 s")
    last = next((line.strip() for line in reversed(body.splitlines()) if line.strip()), "")
    return ToolAnswer(None, f"{name} ended with {found[1]}" + (f": {last[:200]}" if last else ""))


def tool_output(files: SystemFiles, name: str) -> str:
    """Return what a tool wrote, however it ended; empty where it did not run."""
    return (files.read(f"{TOOLS}/{name}") or "").rpartition("\n")[0]


@lru_cache(maxsize=2)
def _tools(which: Literal["all", "state"]) -> str:
    script = resources.files("dfmobile.devices").joinpath("board_tools.sh").read_text(encoding="utf-8")
    return f"tools={which}\n{script}"

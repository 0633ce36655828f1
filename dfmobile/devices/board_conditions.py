"""Conditions of a Linux board at one moment: what all devices have, and clocks, locks and alerts of a Jetson.

Taken before and after a measurement, one round trip each. Nothing on the board is changed: locking the clocks is
the user's to do, ``clocks_not_locked`` says how.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dfmobile.devices.board_files import DEVFREQ, HWMON, read_board_state, tool_answer
from dfmobile.devices.conditions import (
    Conditions,
    load_average,
    memory_available_bytes,
    stolen_ticks,
)
from dfmobile.devices.identity import text
from dfmobile.devices.jetson_tools import ClockRange, ClocksShown, parse_jetson_clocks, parse_power_mode
from dfmobile.devices.phone_conditions import THERMAL, current_khz, online_cores, zone_temperatures_c
from dfmobile.devices.system_files import SystemFiles, read_int
from dfmobile.devices.topology import CPU
from dfmobile.devices.transport.base import Transport

_TICK_MS = 10  # kernels of boards count 100 ticks a second for programs
_GPU_NODE = re.compile(r"gpu|gpu-gpc-0|.*\.(?:gpu|gm20b|gp10b|gv11b|ga10b|gb10b)")
# Since L4T 34 `gpu-throttle-alert`, `hot-surface-alert`, …; before, cooling devices of balanced and hard throttling.
_ALERT = re.compile(r".{1,60}-alert|(?:cpu|gpu|emergency|skin)-balanced|tegra-(?:heavy|emergency)", re.I)


@dataclass(frozen=True)
class BoardConditions:
    """A snapshot of a board; None or absent is unreadable.

    Attributes:
        base: what all devices have.
        power_mode: name of the nvpmodel mode.
        gpu_khz: clock of the GPU now.
        gpu_range_khz: limits of the GPU's clock.
        gpu_governor: frequency governor of the GPU.
        emc_khz: clock of the memory now; needs root on most boards.
        cpu_locked: the clock of every core is held at one value.
        gpu_locked: the GPU's clock is held at one value.
        emc_locked: the memory's clock is held at one value.
        throttling: alerts that are on (the kernel's cooling devices of that kind), e.g. ``gpu-throttle-alert``.
        throttle_events: over-current events since boot, counter to count; a difference is a throttled measurement.
        missing: what could not be read, and why.
    """

    base: Conditions
    power_mode: str | None = None
    gpu_khz: int | None = None
    gpu_range_khz: tuple[int, int] | None = None
    gpu_governor: str | None = None
    emc_khz: int | None = None
    cpu_locked: bool | None = None
    gpu_locked: bool | None = None
    emc_locked: bool | None = None
    throttling: tuple[str, ...] = ()
    throttle_events: dict[str, int] = field(default_factory=dict)
    missing: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON and YAML can hold; what only Jetsons have is absent where it is unknown."""
        document = self.base.to_dict()
        for name in ("power_mode", "gpu_khz", "gpu_governor", "emc_khz", "cpu_locked", "gpu_locked", "emc_locked"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        if self.gpu_range_khz is not None:
            document["gpu_range_khz"] = list(self.gpu_range_khz)
        if self.throttling:
            document["throttling"] = list(self.throttling)
        if self.throttle_events:
            document["throttle_events"] = dict(self.throttle_events)
        return document


def read_board_conditions(transport: Transport, *, tools: bool = True, root: str = "") -> BoardConditions:
    """Take a snapshot of a board, in one round trip.

    Args:
        transport: the board.
        tools: ask nvpmodel and jetson_clocks too, for the power mode and the memory's clock; they take a core for some
            tenths of a second.
        root: folder on the board that stands for ``/``, its tools included; for tests.

    Raises:
        DeviceError: if the board went away or has no shell. What cannot be read is no error.
    """
    return board_conditions(read_board_state(transport, tools=tools, root=root))


def board_conditions(files: SystemFiles) -> BoardConditions:
    """Return the conditions that files of a board show; what ``jetson_clocks --show`` says goes before them."""
    cores = online_cores(files)
    limits = {core: _limits_khz(files, core) for core in cores}
    governors = {
        core: name for core in cores if (name := text(files.read(f"{CPU}/cpu{core}/cpufreq/scaling_governor")))
    }
    ticks = stolen_ticks(files.read("/proc/stat"))
    base = Conditions(
        time_utc=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        load_1min=load_average(files.read("/proc/loadavg")),
        frequency_khz={core: current_khz(files, core) for core in cores},
        governor=governors or None,
        temperature_c=zone_temperatures_c(files),
        involuntary_switches=None,  # of a measuring process, which there is none of
        voluntary_switches=None,
        steal_ms=None if ticks is None else float(ticks * _TICK_MS),
        memory_available_bytes=memory_available_bytes(files.read("/proc/meminfo")),
    )
    shown_answer = tool_answer(files, "jetson_clocks")
    shown = parse_jetson_clocks(shown_answer.text) if shown_answer.text is not None else None
    mode_answer = tool_answer(files, "nvpmodel")
    if mode_answer.text is None:
        by_sudo = tool_answer(files, "nvpmodel-sudo")
        mode_answer = by_sudo if by_sudo.text is not None else mode_answer
    gpu, folder = _gpu(files, shown)
    emc = shown.emc if shown is not None else None
    missing = []
    if emc is None and folder is not None:
        missing.append(("observed.emc_locked", shown_answer.reason or "jetson_clocks --show does not say it"))
    mode = parse_power_mode(mode_answer.text or "") or (shown.power_mode if shown is not None else None)
    if mode is None and folder is not None:
        missing.append(("observed.power_mode", mode_answer.reason or "nvpmodel -q does not say it"))
    return BoardConditions(
        base=base,
        power_mode=mode,
        gpu_khz=gpu.current_khz if gpu is not None and gpu.current_khz else None,
        gpu_range_khz=(gpu.min_khz, gpu.max_khz) if gpu is not None else None,
        gpu_governor=text(files.read(f"{DEVFREQ}/{folder}/governor")) if folder is not None else None,
        emc_khz=emc.current_khz if emc is not None and emc.current_khz else None,
        cpu_locked=_cpus_locked(limits, shown),
        gpu_locked=gpu.locked if gpu is not None else None,
        emc_locked=emc.locked if emc is not None else None,
        throttling=_alerts(files),
        throttle_events=_events(files),
        missing=tuple(missing),
    )


def clocks_not_locked(conditions: BoardConditions) -> tuple[str, str] | None:
    """Return what to tell the user where a clock of a board is free to move, and a hint; None where none is known to.

    What cannot be read is not taken for free: the message is only of clocks that were seen to be.
    """
    names = (("CPU", conditions.cpu_locked), ("GPU", conditions.gpu_locked), ("memory", conditions.emc_locked))
    free = [name for name, locked in names if locked is False]
    if not free:
        return None
    what = f"the {' and '.join(filter(None, [', '.join(free[:-1]), free[-1]]))} clock{'s' * (len(free) > 1)}"
    return (
        f"{what} of the board {'are' if len(free) > 1 else 'is'} not locked: latencies will move with them",
        "run `sudo jetson_clocks` on the board (a reboot ends it); dfmobile never does that by itself",
    )


def throttled_between(before: BoardConditions, after: BoardConditions) -> list[str]:
    """Return the alerts and over-current counters that say that the board slowed down between two snapshots."""
    found = list(dict.fromkeys([*before.throttling, *after.throttling]))
    return found + [
        name
        for name, count in after.throttle_events.items()
        if name in before.throttle_events and count != before.throttle_events[name]
    ]


def gpu_node(files: SystemFiles) -> str | None:
    """Return the folder of the GPU's clock under /sys/class/devfreq; None where there is none."""
    return next((name for name in files.names(DEVFREQ) if _GPU_NODE.fullmatch(name)), None)


def _gpu(files: SystemFiles, shown: ClocksShown | None) -> tuple[ClockRange | None, str | None]:
    folder = gpu_node(files)
    if shown is not None and shown.gpu is not None:
        return shown.gpu, folder
    if folder is None:
        return None, None
    base = f"{DEVFREQ}/{folder}"
    low, high, now = (_khz_of_hertz(read_int(files, f"{base}/{name}_freq")) for name in ("min", "max", "cur"))
    return (ClockRange(low, high, now or 0) if low is not None and high is not None else None), folder


def _cpus_locked(limits: dict[int, tuple[int, int] | None], shown: ClocksShown | None) -> bool | None:
    if shown is not None and shown.cpus:
        return all(clock.locked for clock in shown.cpus.values())
    known = [pair for pair in limits.values() if pair is not None]
    if any(low != high for low, high in known):
        return False
    return True if known and len(known) == len(limits) else None


def _limits_khz(files: SystemFiles, core: int) -> tuple[int, int] | None:
    low = _khz(read_int(files, f"{CPU}/cpu{core}/cpufreq/scaling_min_freq"))
    high = _khz(read_int(files, f"{CPU}/cpu{core}/cpufreq/scaling_max_freq"))
    return (low, high) if low is not None and high is not None else None


def _alerts(files: SystemFiles) -> tuple[str, ...]:
    found = []
    for name in files.names(THERMAL):
        kind = text(files.read(f"{THERMAL}/{name}/type")) if name.startswith("cooling_device") else None
        if kind is not None and _ALERT.fullmatch(kind) and (read_int(files, f"{THERMAL}/{name}/cur_state") or 0) > 0:
            found.append(kind)
    return tuple(dict.fromkeys(found))[:50]


def _events(files: SystemFiles) -> dict[str, int]:
    found = {}
    for name in files.names(HWMON)[:100]:
        for number in range(1, 4):
            count = read_int(files, f"{HWMON}/{name}/oc{number}_event_cnt")
            if count is not None and 0 <= count < 2**63:
                found[f"oc{number}_event_cnt"] = count
    return found


def _khz(value: int | None) -> int | None:
    return value if value is not None and 0 < value <= 100_000_000 else None


def _khz_of_hertz(value: int | None) -> int | None:
    return _khz(value // 1000) if value is not None else None

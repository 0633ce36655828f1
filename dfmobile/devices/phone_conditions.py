"""Conditions of a phone at the moment it is probed, from its files and from what ``dumpsys`` says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from dfmobile.devices.conditions import (
    Conditions,
    load_average,
    memory_available_bytes,
    stolen_ticks,
    zone_temperature_c,
)
from dfmobile.devices.cpu_list import parse_cpu_list
from dfmobile.devices.dumpsys import Battery, parse_battery, parse_screen, temperature_c
from dfmobile.devices.identity import text
from dfmobile.devices.system_files import SystemFiles, read_int
from dfmobile.devices.topology import CPU

THERMAL = "/sys/class/thermal"
POWER = "/sys/class/power_supply"

_TICK_MS = 10  # Android's kernels count 100 ticks a second for programs


@dataclass(frozen=True)
class Answer:
    """What a command of the device wrote, or why there is nothing.

    Attributes:
        text: its output; None where it did not run.
        reason: why it did not, in a few words.
    """

    text: str | None
    reason: str = ""


def phone_conditions(files: SystemFiles, battery: Answer, power: Answer) -> tuple[Conditions, list[tuple[str, str]]]:
    """Return the conditions, and what of them could not be read, each with its reason.

    Args:
        files: the phone's files.
        battery: ``dumpsys battery``.
        power: ``dumpsys power``.
    """
    state = parse_battery(battery.text) if battery.text is not None else Battery(reason=battery.reason)
    if state.percent is None and state.temperature_c is None and state.charging is None:
        state = _battery_from_files(files, state.reason)
    screen = parse_screen(power.text) if power.text is not None else None
    cores = online_cores(files)
    governors = {
        core: name for core in cores if (name := text(files.read(f"{CPU}/cpu{core}/cpufreq/scaling_governor")))
    }
    ticks = stolen_ticks(files.read("/proc/stat"))
    conditions = Conditions(
        time_utc=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        load_1min=load_average(files.read("/proc/loadavg")),
        frequency_khz={core: current_khz(files, core) for core in cores},
        governor=governors or None,
        temperature_c=zone_temperatures_c(files),
        involuntary_switches=None,  # of a measuring process, which there is none of yet
        voluntary_switches=None,
        steal_ms=None if ticks is None else float(ticks * _TICK_MS),
        memory_available_bytes=memory_available_bytes(files.read("/proc/meminfo")),
        battery_percent=state.percent,
        battery_temperature_c=state.temperature_c,
        charging=state.charging,
        screen_on=screen,
    )
    return conditions, list(_missing(files, conditions, state, power))


def _missing(files: SystemFiles, found: Conditions, battery: Battery, power: Answer) -> Iterable[tuple[str, str]]:
    for name in ("battery_percent", "battery_temperature_c", "charging"):
        if getattr(found, name) is None:
            yield f"observed.{name}", battery.reason or "neither dumpsys battery nor a file says it"
    if found.screen_on is None:
        yield "observed.screen_on", power.reason or "dumpsys power does not say it"
    if found.load_1min is None:
        yield "observed.load_1min", f"/proc/loadavg: {files.reason('/proc/loadavg')}"
    if found.memory_available_bytes is None:
        yield "observed.memory_available_bytes", f"/proc/meminfo: {files.reason('/proc/meminfo')}"
    if not found.frequency_khz:
        yield "observed.frequency_khz", f"{CPU}/online: {files.reason(f'{CPU}/online')}"
    silent = [core for core, frequency in found.frequency_khz.items() if frequency is None]
    if silent:
        path = f"{CPU}/cpu{silent[0]}/cpufreq/scaling_cur_freq"
        yield f"observed.frequency_khz of {len(silent)} cores", f"{path}: {files.reason(path)}"
    if not found.temperature_c:
        path = f"{THERMAL}/thermal_zone0/temp"
        yield "observed.temperature_c", f"{path}: {files.reason(path)}"


def _battery_from_files(files: SystemFiles, reason: str) -> Battery:
    """Ask the kernel's power supplies, which many phones close to the shell."""
    percent = temperature = None
    online: list[int] = []
    for name in files.names(POWER)[:50]:
        kind = (files.read(f"{POWER}/{name}/type") or "").casefold()
        if kind == "battery" and percent is None:
            charge = read_int(files, f"{POWER}/{name}/capacity")
            percent = float(charge) if charge is not None and 0 <= charge <= 100 else None
            temperature = temperature_c(read_int(files, f"{POWER}/{name}/temp"))
        elif kind and kind not in ("battery", "bms", "unknown"):
            state = read_int(files, f"{POWER}/{name}/online")
            online += [state] if state in (0, 1) else []
    charging = bool(max(online)) if online else None
    if (percent, temperature, charging) == (None, None, None):
        return Battery(reason=f"{reason}; {POWER}: {files.reason(POWER)}")
    return Battery(percent, temperature, charging, reason)


def online_cores(files: SystemFiles) -> list[int]:
    """Return the cores that are switched on."""
    try:
        return parse_cpu_list(files.read(f"{CPU}/online") or "")
    except ValueError:
        return []  # damaged: the clusters say so


def current_khz(files: SystemFiles, core: int) -> int | None:
    """Return a core's clock now; None where it is hidden."""
    value = read_int(files, f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq")
    return value if value is not None and 0 < value <= 100_000_000 else None


def zone_temperatures_c(files: SystemFiles) -> dict[str, float]:
    """Return the temperature of each thermal zone that has power, by its type."""
    names = [name for name in files.names(THERMAL) if name.startswith("thermal_zone")]
    found: dict[str, float] = {}
    for name in sorted(names, key=lambda name: (len(name), name))[:1000]:
        degrees = zone_temperature_c(read_int(files, f"{THERMAL}/{name}/temp"))
        if degrees is not None:
            kind = text(files.read(f"{THERMAL}/{name}/type")) or name
            # Several zones may have one type; the folder's name tells them apart.
            found[f"{kind}#{name}" if kind in found else kind] = degrees
    return found

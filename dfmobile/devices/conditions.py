"""Conditions of the moment: load, clocks, governors, temperatures, disturbances.

Taken before and after each measurement pass, so that a pass during which something changed can be told. Made
to be cheap: which files exist is found out once; a snapshot then only reads them.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from dfmobile.devices.cpu_list import parse_cpu_list

_CPU = "sys/devices/system/cpu"
_THERMAL = "sys/class/thermal"
_PHONE_ONLY = ("battery_percent", "battery_temperature_c", "charging", "screen_on")


@dataclass(frozen=True)
class Conditions:
    """A snapshot; None or absent is unreadable.

    Attributes:
        time_utc: ISO 8601 with microseconds.
        load_1min: the kernel's load average over the last minute, which counts this process too.
        frequency_khz: core to its clock now. Virtual machines hide it; a nominal clock is never put in its place.
        governor: core to its frequency governor; None where there is none to read.
        temperature_c: thermal zone to degrees Celsius. Zones without power (0 or below -100) are left out.
        involuntary_switches: times that the scheduler took a core away from this process, since its start.
        voluntary_switches: times that this process gave its core up.
        steal_ms: time that the hypervisor gave to others, all cores together, since boot.
        memory_available_bytes: memory that could be had without swapping.
        battery_percent: charge of a phone's battery.
        battery_temperature_c: degrees Celsius of the battery.
        charging: power comes in from a charger or a USB port, whether or not the battery still takes it.
        screen_on: a phone's screen shows something.
    """

    time_utc: str
    load_1min: float | None
    frequency_khz: dict[int, int | None]
    governor: dict[int, str] | None
    temperature_c: dict[str, float]
    involuntary_switches: int | None
    voluntary_switches: int | None
    steal_ms: float | None
    memory_available_bytes: int | None
    battery_percent: float | None = None
    battery_temperature_c: float | None = None
    charging: bool | None = None
    screen_on: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON and YAML can hold: core numbers become text."""
        document = asdict(self)
        document["frequency_khz"] = {str(core): value for core, value in self.frequency_khz.items()}
        if self.governor is not None:
            document["governor"] = {str(core): name for core, name in self.governor.items()}
        # Hosts have none of these: absent says the same as null, in every row of a table.
        absent = [name for name in _PHONE_ONLY if document[name] is None]
        return {name: value for name, value in document.items() if name not in absent}


def load_average(text: str | None) -> float | None:
    """Return the load over the last minute of ``/proc/loadavg``."""
    try:
        load = float((text or "").split()[0])
    except (ValueError, IndexError):
        return None
    return load if 0 <= load < 1e6 else None


def stolen_ticks(text: str | None) -> int | None:
    """Return the time, in clock ticks, that ``/proc/stat`` says the hypervisor gave to others."""
    fields = (text or "").split("\n", 1)[0].split()
    if len(fields) < 9 or fields[0] != "cpu" or not fields[8].isdecimal() or len(fields[8]) > 18:
        return None
    return int(fields[8])


def memory_available_bytes(text: str | None) -> int | None:
    """Return what ``/proc/meminfo`` says could be had without swapping."""
    for line in (text or "").splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[0] == "MemAvailable:" and parts[1].isdecimal() and len(parts[1]) < 13:
            return int(parts[1]) * 1024
    return None


def zone_temperature_c(value: int | None) -> float | None:
    """Return degrees of a thermal zone's milli-degrees; None for zones without power: 0, or -256 on Jetsons."""
    return value / 1000 if value is not None and value != 0 and -100_000 < value < 1_000_000 else None


class ConditionsReader:
    """Reads conditions of one machine again and again.

    Args:
        root: folder with its ``/proc`` and ``/sys``; ``/`` for this machine.
        cores: cores whose clock and governor matter, e.g. those a measurement is pinned to; None: all.
    """

    def __init__(self, root: Path = Path("/"), cores: Iterable[int] | None = None) -> None:
        self._root = root
        self._here = root.resolve() == Path("/")
        wanted = self._online() if cores is None else sorted(set(cores))
        self._cores = wanted
        base = root / _CPU
        self._frequency_paths = {core: self._existing(base / f"cpu{core}/cpufreq/scaling_cur_freq") for core in wanted}
        self._governor_paths = {core: self._existing(base / f"cpu{core}/cpufreq/scaling_governor") for core in wanted}
        self._zones = self._find_zones()

    def read(self) -> Conditions:
        """Take a snapshot."""
        usage = resource.getrusage(resource.RUSAGE_SELF) if self._here else None
        frequency = {core: _number(path) for core, path in self._frequency_paths.items()}
        governor = {core: name for core, path in self._governor_paths.items() if (name := _text(path))}
        temperature = {}
        for zone, path in self._zones.items():
            degrees = zone_temperature_c(_number(path))
            if degrees is not None:
                temperature[zone] = degrees
        return Conditions(
            time_utc=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            load_1min=load_average(_text(self._root / "proc/loadavg")),
            frequency_khz=frequency,
            governor=governor or None,
            temperature_c=temperature,
            involuntary_switches=usage.ru_nivcsw if usage is not None else None,
            voluntary_switches=usage.ru_nvcsw if usage is not None else None,
            steal_ms=self._steal_ms(),
            memory_available_bytes=memory_available_bytes(_text(self._root / "proc/meminfo", 400)),
        )

    def _online(self) -> list[int]:
        try:
            return parse_cpu_list(_text(self._root / _CPU / "online") or "")
        except ValueError:
            return []

    @staticmethod
    def _existing(path: Path) -> Path | None:
        return path if path.exists() else None

    def _find_zones(self) -> dict[str, Path]:
        try:
            found = (self._root / _THERMAL).glob("thermal_zone*")
            folders = sorted(found, key=lambda path: (len(path.name), path.name))
        except OSError:
            return {}
        zones: dict[str, Path] = {}
        for folder in folders:
            if not (folder / "temp").exists():
                continue
            kind = _text(folder / "type") or folder.name
            # Several zones may have one type; the folder's name tells them apart.
            zones[f"{kind}#{folder.name}" if kind in zones else kind] = folder / "temp"
        return zones

    def _steal_ms(self) -> float | None:
        ticks = stolen_ticks(_text(self._root / "proc/stat", 300))
        return None if ticks is None else ticks * 1000 / os.sysconf("SC_CLK_TCK")


def read_conditions(root: Path = Path("/"), cores: Iterable[int] | None = None) -> Conditions:
    """Take a snapshot of the conditions now.

    Args:
        root: folder with the machine's ``/proc`` and ``/sys``.
        cores: cores whose clock and governor matter; None: all that are online.
    """
    return _reader(root, None if cores is None else tuple(sorted(set(cores)))).read()


@lru_cache(maxsize=16)
def _reader(root: Path, cores: tuple[int, ...] | None) -> ConditionsReader:
    return ConditionsReader(root, cores)


def _text(path: Path | None, limit_bytes: int = 4096) -> str | None:
    if path is None:
        return None
    try:
        # os.read spares the buffers of open(): a snapshot is many very small files.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, limit_bytes).decode("utf-8", "replace").strip()
    except OSError:
        return None  # a sensor may be there and refuse to be read (ENODATA, EAGAIN)
    finally:
        os.close(descriptor)


def _number(path: Path | None) -> int | None:
    text = _text(path)
    try:
        return int(text[:20]) if text else None
    except ValueError:
        return None  # "<unsupported>", "<unknown>"

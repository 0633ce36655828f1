"""The device part of a report: a profile as (label, value) pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfmobile.devices.cpu_list import format_cpu_list
from dfmobile.devices.profile import CpuCluster, CpuIdentity, DeviceProfile, load_profile, summary
from dfmobile.latency.table import LatencyTable
from dfmobile.report import numbers
from dfmobile.report.data import Fact

DEVICE_NAME = "device.yaml"


def read_profile(folder: Path, table: LatencyTable | None) -> DeviceProfile | None:
    """Return the profile stored with the run, or the one that the latency table carries; None where neither is.

    Raises:
        FileFormatError: if it is damaged.
    """
    if (folder / DEVICE_NAME).is_file():
        return load_profile(folder / DEVICE_NAME)
    if table is None or not table.header.device_profile:  # a recorded table has no profile
        return None
    return DeviceProfile.model_validate(table.header.device_profile, strict=False)


def device_line(profile: DeviceProfile | None, table: LatencyTable | None, recorded: Mapping[str, Any]) -> str:
    """Return one line that names the device, from whatever knows it."""
    if profile is not None:
        return summary(profile)
    return table.header.device_summary if table is not None else str(recorded.get("device") or "an unnamed device")


def device_facts(profile: DeviceProfile | None) -> list[Fact]:
    """Return what is known of a device; what could not be read is listed, not left out silently."""
    if profile is None:
        return [("profile", "not stored with the run")]
    cpu, system = profile.cpu, profile.os
    pairs: list[tuple[str, str | None]] = [
        ("model", profile.model),
        ("system on a chip", profile.soc),
        ("processor", cpu.model_name),
        ("known profile", profile.known_profile),
        *(
            (f"cores, {item.name}" if len(profile.clusters) > 1 else "cores", _cluster(item))
            for item in profile.clusters
        ),
        ("caches", _caches(profile)),
        ("memory", None if profile.memory_bytes is None else numbers.bytes_text(profile.memory_bytes)),
        ("instruction sets", ", ".join(sorted(name for name, there in profile.features.items() if there)) or None),
        ("graphics processor", profile.gpu.name if profile.gpu is not None else None),
        ("operating system", _joined(system.name, system.version)),
        ("kernel", system.kernel),
        ("virtual machine", _virtual(cpu)),
        ("limits", _limits(profile)),
        ("governors offered", ", ".join(profile.governors) or None),
        ("runtimes", ", ".join(f"{name} {version}" for name, version in sorted(profile.runtimes.items())) or None),
        ("could not be read", "; ".join(f"{item.what} ({item.reason})" for item in profile.unreadable) or None),
    ]
    return [(label, value) for label, value in pairs if value]


def device_conditions(profile: DeviceProfile | None) -> list[Fact]:
    """Return the conditions when the device was probed, where the profile has them."""
    if profile is None or not profile.observed:
        return []
    return condition_facts([profile.observed])


def condition_facts(snapshots: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Return the range of load, clocks and temperatures, and the governors, over snapshots of conditions."""
    loads = [float(item["load_1min"]) for item in snapshots if item.get("load_1min") is not None]
    clocks = [float(value) for item in snapshots for value in (item.get("frequency_khz") or {}).values() if value]
    heat = [float(value) for item in snapshots for value in (item.get("temperature_c") or {}).values()]
    governors = sorted({str(name) for item in snapshots for name in (item.get("governor") or {}).values()})
    space = numbers.NARROW_SPACE
    pairs = [
        ("load average, 1 min", _range(loads, 2, "")),
        ("clock", _range([value / 1000 for value in clocks], 0, f"{space}MHz")),
        ("temperature", _range(heat, 1, f"{space}°C")),
        ("governor", ", ".join(governors)),
    ]
    facts = [(label, value or "not readable on this device") for label, value in pairs] if snapshots else []
    return facts + _phone_facts(snapshots)


def _phone_facts(snapshots: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Battery, charger and screen, where a snapshot has them: only phones do."""

    def known(name: str) -> list[Any]:
        return [item[name] for item in snapshots if item.get(name) is not None]

    charge, heat = [float(value) for value in known("battery_percent")], known("battery_temperature_c")
    battery = _range(charge, 0, f"{numbers.NARROW_SPACE}%"), _range(heat, 1, f"{numbers.NARROW_SPACE}°C")
    pairs = [
        ("battery", ", ".join(text for text in battery if text)),
        ("charger", _states(known("charging"), "connected", "not connected")),
        ("screen", _states(known("screen_on"), "on", "off")),
    ]
    return [(label, value) for label, value in pairs if value]


def _states(values: Sequence[bool], yes: str, no: str) -> str:
    names = dict.fromkeys(yes if value else no for value in values)
    return ", then ".join(names)


def _range(values: Sequence[float], places: int, unit: str) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.{places}f}", f"{max(values):.{places}f}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _cluster(cluster: CpuCluster) -> str:
    parts = [f"{cluster.count} × {cluster.microarchitecture}" if cluster.microarchitecture else str(cluster.count)]
    if cluster.threads_per_core and cluster.threads_per_core > 1:
        parts.append(f"{cluster.threads_per_core} threads a core")
    if cluster.max_frequency_khz:
        parts.append(f"up to {cluster.max_frequency_khz / 1e6:.2f}{numbers.NARROW_SPACE}GHz")
    parts.append(f"CPUs {format_cpu_list(cluster.cores)}")
    return ", ".join(parts)


def _caches(profile: DeviceProfile) -> str | None:
    parts = []
    for cache in sorted(profile.caches, key=lambda item: (item.level, item.kind)):
        kind = "" if cache.kind == "unified" else f" {cache.kind}"
        number = f" × {len(cache.shared_by)}" if len(cache.shared_by) > 1 else ""
        parts.append(f"L{cache.level}{kind} {numbers.bytes_text(cache.size_bytes)}{number}")
    # Equal lines are caches that the kernel lists by themselves.
    return (
        "; ".join(f"{text} (listed {times} times)" if times > 1 else text for text, times in Counter(parts).items())
        or None
    )


def _virtual(cpu: CpuIdentity) -> str | None:
    if cpu.virtualised is None:
        return None
    return f"yes ({cpu.hypervisor or 'unknown hypervisor'})" if cpu.virtualised else "no"


def _limits(profile: DeviceProfile) -> str | None:
    limits = profile.limits
    parts = []
    if limits.allowed_cores:
        parts.append(f"CPUs {limits.allowed_cores}")
    if limits.cpu_quota:
        parts.append(f"{limits.cpu_quota:g} CPUs’ worth of time")
    if limits.memory_bytes:
        parts.append(f"{numbers.bytes_text(limits.memory_bytes)} of memory")
    return ", ".join(parts) or None


def _joined(*parts: str | None) -> str | None:
    return " ".join(part for part in parts if part) or None

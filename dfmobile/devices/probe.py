"""Probe: from a device's files to its profile, with what could not be read and where each datum is from.

``profile_from_files`` is the part that every transport shares; ``probe_local`` adds what only this machine can
say of itself (uname, glibc's cache sizes, installed runtimes, the affinity of this process).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from dfmobile.devices import identity
from dfmobile.devices.conditions import read_conditions
from dfmobile.devices.cpu_list import format_cpu_list, parse_cpu_list
from dfmobile.devices.cpuinfo import CpuInfo, cpu_identity, features, parse_cpuinfo
from dfmobile.devices.profile_files import match_profile
from dfmobile.devices.profile_schema import (
    Cache,
    CpuCluster,
    Defaults,
    DeviceProfile,
    Limits,
    ThermalZone,
    Unreadable,
)
from dfmobile.devices.system_files import FolderFiles, SystemFiles
from dfmobile.devices.topology import (
    CPU,
    caches_from_getconf,
    caches_from_sysfs,
    clusters,
    core_facts,
    present_cores,
)

THERMAL = "/sys/class/thermal"
KGSL = "/sys/class/kgsl/kgsl-3d0/gpu_model"

# Distributions that bring an inference runtime; their versions are read without importing them.
RUNTIMES = (
    "ai-edge-litert",
    "ncnn",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
    "tflite-runtime",
)


@dataclass
class _Notes:
    """Where each datum is from, and what could not be read."""

    files: SystemFiles
    sources: dict[str, str] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)

    def take(self, name: str, found: object, source: str, path: str) -> None:
        """Note the source of a datum, or that its path could not be read."""
        if found:
            self.sources[name] = source
        else:
            self.miss(name, f"{path}: {self.files.reason(path)}")

    def miss(self, what: str, reason: str) -> None:
        self.unreadable.append(Unreadable(what=what[:1000], reason=" ".join(reason.split())[:1000]))


def probe_local(root: Path = Path("/")) -> DeviceProfile:
    """Describe this machine.

    Args:
        root: folder with the ``/proc``, ``/sys`` and ``/etc`` to read; another than ``/`` describes the machine
            that the folder was taken from, and asks nothing of the one that this runs on.

    Returns:
        A profile in which everything that could not be read is None or absent, and listed in ``unreadable``.
    """
    files = FolderFiles(root)
    here = root.resolve() == Path("/")
    profile = profile_from_files(
        files,
        machine=os.uname().machine if here else None,
        getconf=_getconf() if here else None,
        runtimes=installed_runtimes() if here else None,
        allowed_cores=sorted(os.sched_getaffinity(0)) if here and hasattr(os, "sched_getaffinity") else None,
        fallback_cores=os.cpu_count() if here else None,
    )
    return profile.model_copy(update={"observed": read_conditions(root).to_dict()})


def profile_from_files(
    files: SystemFiles,
    *,
    machine: str | None = None,
    getconf: str | None = None,
    runtimes: Mapping[str, str] | None = None,
    allowed_cores: list[int] | None = None,
    fallback_cores: int | None = None,
    properties: Mapping[str, str] | None = None,
) -> DeviceProfile:
    """Describe the device that a view of files belongs to.

    Args:
        files: the device's ``/proc``, ``/sys`` and ``/etc``.
        machine: the kernel's machine name (``uname -m``); None: from the files.
        getconf: output of ``getconf -a``, for cache sizes where sysfs has none.
        runtimes: installed inference runtimes, name to version; None: not asked.
        allowed_cores: cores that the process may run on; None: not asked.
        fallback_cores: number of cores, where neither sysfs nor /proc/cpuinfo says it.
        properties: Android's system properties; given, the device is taken for a phone.
    """
    notes = _Notes(files)
    info = parse_cpuinfo(files.read("/proc/cpuinfo") or "")
    cores = present_cores(files, info) or list(range(fallback_cores or 0))
    kinds = _clusters(notes, info, cores)
    soc, soc_names = identity.soc(files, info, properties)
    profile = DeviceProfile(
        name="device",
        kind="phone" if properties is not None else _kind(files),
        soc=soc,
        soc_names=soc_names,
        model=identity.model(files, properties),
        os=identity.operating_system(files, properties),
        # The property goes first: a phone may run 32-bit Android on a 64-bit kernel.
        abi=identity.text((properties or {}).get("ro.product.cpu.abi"))
        or identity.abi(machine or identity.text(files.read("/proc/sys/kernel/arch")), info),
        cpu=cpu_identity(info, _identities(kinds), identity.hypervisor(files, info, properties)),
        clusters=kinds,
        caches=_caches(notes, cores, getconf),
        memory_bytes=_memory_bytes(notes),
        features=_features(notes, info),
        cpusets=_cpusets(files),
        governors=_governors(notes, cores),
        thermal_zones=_thermal_zones(notes),
        gpu=identity.gpu(files, properties),
        runtimes=dict(sorted((runtimes or {}).items())),
        defaults=Defaults(cluster=kinds[0].name if kinds else None, threads=1),
        limits=_limits(files, allowed_cores),
    )
    _note_identity(notes, profile, runtimes is not None, properties)
    matched = match_profile(profile)
    update = {
        "name": _profile_name(profile),
        "known_profile": matched.name if matched is not None else None,
        "sources": notes.sources,
        "unreadable": notes.unreadable,
    }
    return profile.model_copy(update=update)


def installed_runtimes() -> dict[str, str]:
    """Return the inference runtimes installed beside dfmobile: distribution name to version; imports none."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # absent is an answer, not a failure
    return found


def _getconf() -> str | None:
    program = shutil.which("getconf")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-a"], capture_output=True, timeout=5, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _kind(files: SystemFiles) -> Literal["phone", "jetson", "host"]:
    if identity.is_jetson(files):
        return "jetson"
    return "phone" if identity.is_android(files) else "host"


def _clusters(notes: _Notes, info: CpuInfo, cores: list[int]) -> list[CpuCluster]:
    if not info.cores:
        notes.miss("cpu", f"/proc/cpuinfo: {notes.files.reason('/proc/cpuinfo')}")
    if not cores:
        notes.miss("clusters", f"{CPU}/present: {notes.files.reason(f'{CPU}/present')}")
        return []
    facts = core_facts(notes.files, info, cores)
    notes.sources["clusters"] = f"{CPU} and /proc/cpuinfo"
    without = [fact.core for fact in facts if fact.max_frequency_khz is None]
    if without:
        path = f"{CPU}/cpu{without[0]}/cpufreq/cpuinfo_max_freq"
        notes.miss(f"frequency range of cores {format_cpu_list(without)}", f"{path}: {notes.files.reason(path)}")
    if info.is_arm:
        unknown = [fact.core for fact in facts if fact.identity is None]
        if unknown:
            what = f"microarchitecture of cores {format_cpu_list(unknown)}"
            notes.miss(what, "switched off, or not in /proc/cpuinfo")
    return clusters(notes.files, facts)


def _identities(kinds: list[CpuCluster]) -> list[tuple[int, int]]:
    found = [cluster.identity.split(":") for cluster in kinds if cluster.identity is not None]
    return [(int(implementer, 16), int(part, 16)) for implementer, part in found]


def _caches(notes: _Notes, cores: list[int], getconf: str | None) -> list[Cache]:
    found = caches_from_sysfs(notes.files, cores)
    if found:
        notes.sources["caches"] = f"{CPU}/cpu*/cache"
        return found
    found = caches_from_getconf(getconf or "")
    if found:
        notes.sources["caches"] = "getconf"
        notes.miss("which cores share a cache", f"{CPU}/cpu0/cache: {notes.files.reason(f'{CPU}/cpu0/cache')}")
    else:
        notes.miss("caches", f"{CPU}/cpu0/cache: {notes.files.reason(f'{CPU}/cpu0/cache')}")
    return found


def _memory_bytes(notes: _Notes) -> int | None:
    match = re.search(r"^MemTotal:\s*([0-9]{1,12}) kB", notes.files.read("/proc/meminfo") or "", re.M)
    size = int(match[1]) * 1024 if match is not None else 0
    size = size if 0 < size <= 2**50 else 0
    notes.take("memory_bytes", size, "/proc/meminfo", "/proc/meminfo")
    return size or None


def _features(notes: _Notes, info: CpuInfo) -> dict[str, bool | None]:
    found = features(info)
    if found:
        notes.sources["features"] = "/proc/cpuinfo"
    unknown = [name for name, present in found.items() if present is None]
    if unknown:
        notes.miss(f"features {', '.join(unknown)}", "/proc/cpuinfo has the 32-bit list, or none, which cannot tell")
    return found


def _cpusets(files: SystemFiles) -> dict[str, str]:
    """Android's cpusets; on hosts what matters is the affinity of the process (``limits``)."""
    found = {}
    for name in files.names("/dev/cpuset"):
        try:
            cores = parse_cpu_list(files.read(f"/dev/cpuset/{name}/cpus") or "")
        except ValueError:
            continue
        if cores:
            found[name[:200]] = format_cpu_list(cores)
    return found


def _governors(notes: _Notes, cores: list[int]) -> list[str]:
    found: dict[str, None] = {}
    for core in cores:
        text = notes.files.read(f"{CPU}/cpu{core}/cpufreq/scaling_available_governors") or ""
        found.update(dict.fromkeys(name[:100] for name in text.split()[:20]))
    path = f"{CPU}/cpu{cores[0] if cores else 0}/cpufreq/scaling_available_governors"
    notes.take("governors", found, f"{CPU}/cpu*/cpufreq", path)
    return sorted(found)[:50]


def _thermal_zones(notes: _Notes) -> list[ThermalZone]:
    names = [name for name in notes.files.names(THERMAL) if name.startswith("thermal_zone")]
    names.sort(key=lambda name: (len(name), name))
    found = []
    for name in names[:1000]:
        kind = identity.text(notes.files.read(f"{THERMAL}/{name}/type"))
        if kind is None:
            notes.miss(f"type of {name}", f"{THERMAL}/{name}/type: {notes.files.reason(f'{THERMAL}/{name}/type')}")
        else:
            found.append(ThermalZone(name=name, type=kind))
    notes.take("thermal_zones", found, THERMAL, THERMAL)
    return found


def _limits(files: SystemFiles, allowed_cores: list[int] | None) -> Limits:
    quota = None
    match = re.match(r"([0-9]{1,15}) ([0-9]{1,15})$", files.read("/sys/fs/cgroup/cpu.max") or "")
    if match is None:  # the older cgroup hierarchy
        base = "/sys/fs/cgroup/cpu/cpu.cfs_"
        both = f"{files.read(base + 'quota_us') or ''} {files.read(base + 'period_us') or ''}"
        match = re.match(r"([0-9]{1,15}) ([0-9]{1,15})$", both)
    if match is not None and int(match[2]) > 0 and 0 < int(match[1]) / int(match[2]) <= 4096:
        quota = int(match[1]) / int(match[2])
    memory = files.read("/sys/fs/cgroup/memory.max") or files.read("/sys/fs/cgroup/memory/memory.limit_in_bytes") or ""
    limit = int(memory) if memory.isdigit() and len(memory) < 20 else 0
    return Limits(
        allowed_cores=format_cpu_list(allowed_cores) if allowed_cores else None,
        cpu_quota=quota,
        memory_bytes=limit if 0 < limit < 2**50 else None,  # the older hierarchy writes about 2**63 for "none"
    )


def _note_identity(
    notes: _Notes, profile: DeviceProfile, asked_runtimes: bool, properties: Mapping[str, str] | None
) -> None:
    if properties is None:
        notes.take("os", profile.os.name, "/etc/os-release, /proc/sys/kernel/osrelease", "/etc/os-release")
        notes.take("model", profile.model, "device tree or firmware tables", "/sys/class/dmi/id/product_name")
    else:
        _note_android(notes, profile)
    if profile.cpu.model_name or profile.cpu.vendor:
        notes.sources["cpu"] = "/proc/cpuinfo"
    if profile.gpu is not None and profile.gpu == identity.gpu(notes.files):
        notes.sources["gpu"] = "/sys/class/kgsl, /sys/class/misc/mali0 or the NVIDIA driver"
    elif profile.gpu is not None:
        notes.sources["gpu"] = "getprop: the family only"
        notes.miss("gpu model", f"{KGSL}: {notes.files.reason(KGSL)}")
    else:
        notes.miss("gpu", "no kernel file names one")
    if profile.cpu.virtualised is None:
        notes.miss("cpu.virtualised", "this processor does not say, and no file names a hypervisor")
    if asked_runtimes:
        notes.sources["runtimes"] = "installed Python distributions"


def _note_android(notes: _Notes, profile: DeviceProfile) -> None:
    for name, found in (("model", profile.model), ("soc", profile.soc), ("abi", profile.abi)):
        if found:
            notes.sources[name] = "getprop, /sys/devices/soc0 or /proc/cpuinfo" if name == "soc" else "getprop"
        else:
            notes.miss(name, "neither getprop nor a file says it")
    for name, found in (("os.version", profile.os.version), ("os.build", profile.os.build)):
        if not found:
            notes.miss(name, "getprop does not say it")
    notes.sources["os"] = "getprop, /proc/sys/kernel/osrelease"
    if not profile.os.kernel:
        path = "/proc/sys/kernel/osrelease"
        notes.miss("os.kernel", f"{path}: {notes.files.reason(path)}")
    notes.take("cpusets", profile.cpusets, "/dev/cpuset", "/dev/cpuset")


def _profile_name(profile: DeviceProfile) -> str:
    base = profile.model if profile.kind != "host" and profile.model else profile.soc or profile.abi or "device"
    name = re.sub(r"[^a-z0-9]+", "-", base.casefold()).strip("-")[:80].strip("-")
    return name or "device"

"""Device fingerprint: which hardware and operating system a latency was measured on.

One latency table belongs to one fingerprint, so it must not change with a reboot, the load, the temperature,
the clock of the moment, free memory, or what is installed; and must change with anything that makes the same
model run at another speed for good.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from dfmobile.devices.cpu_list import format_cpu_list
from dfmobile.devices.profile_schema import DeviceProfile

FINGERPRINT_VERSION = 1


def fingerprint_facts(profile: DeviceProfile) -> dict[str, Any]:
    """Return what goes into a fingerprint, so that two of them can be compared and the difference explained.

    In: SoC, model, processor, clusters with their hardware frequency range, caches, instruction sets, GPU,
    hypervisor, operating system with its version and the kernel's first two numbers; a Jetson's module and its power
    mode, which a reboot keeps.
    Out: memory size (it moves by kilobytes between boots, and at run time in virtual machines), microcode,
    the kernel's patch level, thermal zones, cpusets, governors, runtimes, limits, conditions, names of the
    profile and of its clusters: a table row records those that matter by themselves. No serial number is ever
    read: two units of one product have one fingerprint.
    """
    cpu, system = profile.cpu, profile.os
    facts: dict[str, Any] = {
        "version": FINGERPRINT_VERSION,
        "kind": profile.kind,
        "soc": profile.soc,
        "model": profile.model,
        "abi": profile.abi,
        "os": [system.name, system.version, _kernel_series(system.kernel), system.build],
        "cpu": [cpu.model_name, cpu.vendor, cpu.family, cpu.model, cpu.stepping, cpu.virtualised, cpu.hypervisor],
        "clusters": sorted(
            [
                format_cpu_list(cluster.cores),
                cluster.identity,
                cluster.microarchitecture,
                cluster.min_frequency_khz,
                cluster.max_frequency_khz,
            ]
            for cluster in profile.clusters
        ),
        "caches": sorted(
            [cache.level, cache.kind, cache.size_bytes or 0, sorted(cache.shared_by)] for cache in profile.caches
        ),
        "features": sorted(name for name, present in profile.features.items() if present),
        "gpu": profile.gpu.name if profile.gpu is not None else None,
    }
    if profile.jetson is not None:  # devices without it keep the fingerprint that they had
        facts["jetson"] = [profile.jetson.part, profile.jetson.power_mode]
    return facts


def fingerprint(profile: DeviceProfile) -> str:
    """Return 16 hexadecimal digits that stay the same for the same hardware and operating system."""
    text = json.dumps(fingerprint_facts(profile), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def summary(profile: DeviceProfile) -> str:
    """Return one line for people, e.g. ``AMD EPYC, 2 cores, 3.9 GiB, debian 12, virtual``."""
    parts = [profile.model if profile.kind != "host" and profile.model else None]
    parts.append(profile.soc or profile.cpu.model_name or profile.name)
    described = []
    for cluster in profile.clusters:
        text = f"{cluster.count}"
        if cluster.microarchitecture:
            text += f" {cluster.microarchitecture}"
        elif len(profile.clusters) > 1:
            text += f" {cluster.name}"
        text += " core" if cluster.count == 1 else " cores"
        if cluster.max_frequency_khz:
            text += f" to {cluster.max_frequency_khz / 1e6:.2f} GHz"
        described.append(text)
    parts.append(" + ".join(described) or None)
    parts.append(f"{profile.memory_bytes / 2**30:.1f} GiB" if profile.memory_bytes else None)
    parts.append(" ".join(text for text in (profile.os.name, profile.os.version) if text) or None)
    parts.append("virtual" if profile.cpu.virtualised else None)
    return ", ".join(part for part in parts if part)


def _kernel_series(release: str | None) -> str | None:
    """Return ``6.1`` of ``6.1.0-18-amd64``: schedulers change with it, a security update does not change it."""
    match = re.match(r"\d+\.\d+", release or "")
    return match[0] if match else release

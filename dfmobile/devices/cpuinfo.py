"""/proc/cpuinfo of x86 and ARM: which core is of which kind, and which instructions it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dfmobile.devices.microarchitectures import IMPLEMENTERS
from dfmobile.devices.profile_schema import CpuIdentity

# Our name to the kernel's flags that must all be there. fp16 and bf16 are arithmetic, not only conversion.
_X86_FEATURES = {
    "sse4_1": ("sse4_1",),
    "avx": ("avx",),
    "avx2": ("avx2",),
    "fma": ("fma",),
    "f16c": ("f16c",),
    "avx512f": ("avx512f",),
    "avx512bw": ("avx512bw",),
    "avx512dq": ("avx512dq",),
    "avx512vl": ("avx512vl",),
    "avx512_vnni": ("avx512_vnni",),
    "avx512_bf16": ("avx512_bf16",),
    "avx512_fp16": ("avx512_fp16",),
    "avx_vnni": ("avx_vnni",),
    "amx_tile": ("amx_tile",),
    "amx_int8": ("amx_int8",),
    "amx_bf16": ("amx_bf16",),
    "fp16": ("avx512_fp16",),
}
_ARM_FEATURES = {
    "neon": ("asimd",),
    "fp16": ("fphp", "asimdhp"),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "fhm": ("asimdfhm",),
    "sve": ("sve",),
    "sve2": ("sve2",),
    "sme": ("sme",),
}


@dataclass
class CpuInfo:
    """What /proc/cpuinfo says.

    Attributes:
        cores: logical CPU to its fields, keys in lower case.
        common: fields that stand outside the cores' paragraphs (``hardware``, …).
    """

    cores: dict[int, dict[str, str]] = field(default_factory=dict)
    common: dict[str, str] = field(default_factory=dict)

    @property
    def is_x86(self) -> bool:
        """True for x86."""
        return any("vendor_id" in core and "flags" in core for core in self.cores.values())

    @property
    def is_arm(self) -> bool:
        """True for 32- and 64-bit ARM."""
        return any("cpu architecture" in core for core in [*self.cores.values(), self.common])


def parse_cpuinfo(text: str) -> CpuInfo:
    """Read /proc/cpuinfo. Lines that are not ``key : value`` are skipped; damaged text gives fewer cores."""
    info = CpuInfo()
    current: dict[str, str] = info.common
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not line.strip():
            current = info.common  # what follows a paragraph of a core and is no core is about all of them
        elif colon and key == "processor" and re.fullmatch(r"[0-9]{1,5}", value):
            current = info.cores.setdefault(int(value), {})
        elif colon and key:
            current[key.lower()] = value
    # Old 32-bit ARM kernels give the identity once, after the list of cores.
    for core in info.cores.values():
        for key in ("features", "cpu implementer", "cpu part", "cpu architecture", "cpu variant", "cpu revision"):
            if key not in core and key in info.common:
                core[key] = info.common[key]
    return info


def features(info: CpuInfo) -> dict[str, bool | None]:
    """Return the instruction sets that every core has; None where the kernel's list cannot tell.

    A 32-bit ARM process sees the list of 32-bit features, where kernels before 6.2 leave fp16 and dot product
    out even if the cores have them: there, absent means unknown.
    """
    if info.is_x86:
        sets = [set(core.get("flags", "").split()) for core in info.cores.values() if "flags" in core]
        return _common(sets, _X86_FEATURES, absent=False)
    if info.is_arm:
        sets = [set(core["features"].split()) for core in info.cores.values() if core.get("features")]
        compatibility = any("asimd" not in flags for flags in sets)
        known = _common(sets, _ARM_FEATURES, absent=None if compatibility else False)
        if compatibility:
            known["neon"] = all("neon" in flags or "asimd" in flags for flags in sets)
        return known
    return {}


def _common(sets: list[set[str]], wanted: Mapping[str, tuple[str, ...]], absent: bool | None) -> dict[str, bool | None]:
    if not sets:
        return dict.fromkeys(wanted)
    shared = set.intersection(*sets)
    return {name: True if set(flags) <= shared else absent for name, flags in wanted.items()}


def arm_identity(info: CpuInfo, core: int, midr: str | None) -> tuple[int, int] | None:
    """Return a core's implementer and part number, from MIDR_EL1 where readable, else from cpuinfo."""
    if midr is not None:
        try:
            value = int(midr[:40], 16)
            return value >> 24 & 0xFF, value >> 4 & 0xFFF
        except ValueError:
            pass  # the file is there but says nothing: cpuinfo has the same two numbers
    fields = info.cores.get(core, {})
    try:
        return int(fields["cpu implementer"], 16), int(fields["cpu part"], 16)
    except (KeyError, ValueError):
        return None


def cpu_identity(info: CpuInfo, identities: Iterable[tuple[int, int]], hypervisor: str | None) -> CpuIdentity:
    """Return what the processor says of itself.

    Args:
        info: /proc/cpuinfo.
        identities: ARM implementers and parts that were found.
        hypervisor: which one, where something names it.
    """
    first = info.cores[min(info.cores)] if info.cores else {}
    if info.is_x86:
        return CpuIdentity(
            model_name=first.get("model name", "")[:200] or None,
            vendor=first.get("vendor_id", "")[:200] or None,
            family=_int(first.get("cpu family")),
            model=_int(first.get("model")),
            stepping=_int(first.get("stepping")),
            microcode=first.get("microcode", "")[:200] or None,
            virtualised="hypervisor" in first.get("flags", "").split(),
            hypervisor=hypervisor,
        )
    vendors = sorted({IMPLEMENTERS.get(implementer, f"0x{implementer:02x}") for implementer, _ in identities})
    return CpuIdentity(
        model_name=first.get("model name", "")[:200] or None,
        vendor=", ".join(vendors) or None,
        # ARM processors do not say that they are virtual; only something that names the hypervisor tells.
        virtualised=True if hypervisor else None,
        hypervisor=hypervisor,
    )


def _int(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None

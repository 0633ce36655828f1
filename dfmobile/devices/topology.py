"""Cores into clusters: which cores are of one kind, and the caches they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from dfmobile.devices.cpu_list import format_cpu_list, parse_cpu_list
from dfmobile.devices.cpuinfo import CpuInfo, arm_identity
from dfmobile.devices.microarchitectures import design_rank, microarchitecture
from dfmobile.devices.profile_schema import Cache, CpuCluster
from dfmobile.devices.system_files import SystemFiles, read_int

CPU = "/sys/devices/system/cpu"

# x86 cores of one kind differ a few per cent in their best clock ("favoured" cores); other kinds by 25 % or more.
_SAME_KIND = 0.8
_NAMES = {1: ["all"], 2: ["big", "little"], 3: ["prime", "big", "little"], 4: ["prime", "big", "mid", "little"]}


@dataclass(frozen=True)
class CoreFacts:
    """What sysfs and cpuinfo say of one logical CPU; None where unreadable."""

    core: int
    max_frequency_khz: int | None
    min_frequency_khz: int | None
    capacity: int | None
    identity: tuple[int, int] | None
    threads_per_core: int | None
    policy: tuple[int, ...]


def present_cores(files: SystemFiles, info: CpuInfo) -> list[int]:
    """Return the logical CPUs of the machine, those that are switched off for the moment included."""
    for name in ("present", "possible", "online"):
        text = files.read(f"{CPU}/{name}")
        if text:
            try:
                return parse_cpu_list(text)
            except ValueError:
                continue  # damaged: the next of the three files, else cpuinfo, says the same
    return sorted(info.cores)


def core_facts(files: SystemFiles, info: CpuInfo, cores: Iterable[int]) -> list[CoreFacts]:
    """Read the facts of each core; one that is switched off gets those of a core under the same frequency policy."""
    read = {core: _read_core(files, info, core) for core in cores}
    facts = []
    for core, fact in read.items():
        if fact.identity is None and fact.max_frequency_khz is None and fact.capacity is None:
            mates = (mate for mate in read.values() if core in mate.policy)
            mate = next(mates, None)
            if mate is not None:
                fact = CoreFacts(
                    core,
                    mate.max_frequency_khz,
                    mate.min_frequency_khz,
                    mate.capacity,
                    mate.identity,
                    mate.threads_per_core,
                    mate.policy,
                )
        facts.append(fact)
    return facts


def _read_core(files: SystemFiles, info: CpuInfo, core: int) -> CoreFacts:
    base = f"{CPU}/cpu{core}"
    siblings = _cpu_list(files, f"{base}/topology/thread_siblings_list")
    return CoreFacts(
        core=core,
        max_frequency_khz=_frequency(read_int(files, f"{base}/cpufreq/cpuinfo_max_freq")),
        min_frequency_khz=_frequency(read_int(files, f"{base}/cpufreq/cpuinfo_min_freq")),
        capacity=_capacity(read_int(files, f"{base}/cpu_capacity")),
        identity=arm_identity(info, core, files.read(f"{base}/regs/identification/midr_el1")) if info.is_arm else None,
        threads_per_core=len(siblings) if 0 < len(siblings) <= 8 else None,
        policy=tuple(_cpu_list(files, f"{base}/cpufreq/related_cpus")),
    )


def clusters(files: SystemFiles, facts: list[CoreFacts]) -> list[CpuCluster]:
    """Group cores into clusters, fastest first.

    ARM: one microarchitecture, hardware clock range and capacity make a cluster. x86: the kernel's own lists of
    hybrid cores where it has them; else cores within 20 % of the largest capacity or clock are of one kind.
    """
    if not facts:
        return []
    hybrid = _x86_hybrid(files, {fact.core for fact in facts})
    if hybrid:
        groups = [[fact for fact in facts if fact.core in cores] for _, cores in hybrid]
        return [_cluster(name, group) for (name, _), group in zip(hybrid, groups, strict=True)]
    if any(fact.identity for fact in facts):
        groups = _exact_groups(facts)
        names = _NAMES.get(len(groups)) or [f"cluster-{index}" for index in range(len(groups))]
    else:
        groups = _speed_groups(facts)
        names = ["all"] if len(groups) == 1 else ["performance", "efficiency"]
    return [_cluster(name, group) for name, group in zip(names, groups, strict=True)]


def _x86_hybrid(files: SystemFiles, present: set[int]) -> list[tuple[str, set[int]]]:
    found = []
    for name, unit in (("performance", "cpu_core"), ("efficiency", "cpu_atom"), ("low-power", "cpu_lowpower")):
        cores = set(_cpu_list(files, f"/sys/devices/{unit}/cpus")) & present
        if cores:
            found.append((name, cores))
    covered = [core for _, cores in found for core in cores]
    complete = len(covered) == len(set(covered)) and set(covered) == present
    return found if len(found) > 1 and complete else []


def _exact_groups(facts: list[CoreFacts]) -> list[list[CoreFacts]]:
    groups: dict[object, list[CoreFacts]] = {}
    for fact in facts:
        key = (fact.identity, fact.min_frequency_khz, fact.max_frequency_khz, fact.capacity)
        groups.setdefault(key, []).append(fact)
    # Without clocks and capacities what a core was designed for decides. Part numbers tell generations apart only
    # within a vendor; they break ties and nothing else.
    return sorted(
        groups.values(),
        key=lambda group: (
            -(group[0].capacity or 0),
            -(group[0].max_frequency_khz or 0),
            -design_rank(*group[0].identity) if group[0].identity else 0,
            [-number for number in group[0].identity or (0, 0)],
            group[0].core,
        ),
    )


def _speed_groups(facts: list[CoreFacts]) -> list[list[CoreFacts]]:
    for speeds in ([fact.capacity for fact in facts], [fact.max_frequency_khz for fact in facts]):
        known = [speed for speed in speeds if speed is not None]
        if len(known) == len(facts):
            limit = _SAME_KIND * max(known)
            fast = [fact for fact, speed in zip(facts, known, strict=True) if speed >= limit]
            slow = [fact for fact, speed in zip(facts, known, strict=True) if speed < limit]
            if slow:
                return [fast, slow]
    return [facts]


def _cluster(name: str, group: list[CoreFacts]) -> CpuCluster:
    first = group[0]
    same_threads = {fact.threads_per_core for fact in group}
    return CpuCluster(
        name=name,
        cores=sorted(fact.core for fact in group),
        max_frequency_khz=max((fact.max_frequency_khz or 0 for fact in group), default=0) or None,
        min_frequency_khz=min((fact.min_frequency_khz or 0 for fact in group), default=0) or None,
        microarchitecture=microarchitecture(*first.identity) if first.identity else None,
        identity=f"0x{first.identity[0]:02x}:0x{first.identity[1]:03x}" if first.identity else None,
        capacity=max((fact.capacity for fact in group if fact.capacity is not None), default=None),
        threads_per_core=same_threads.pop() if len(same_threads) == 1 else None,
    )


def caches_from_sysfs(files: SystemFiles, cores: Iterable[int]) -> list[Cache]:
    """Read the caches of all cores, those of one level, kind and size together; empty where sysfs has none."""
    shared: dict[tuple[int, str, int | None, int | None], dict[str, None]] = {}
    for core in cores:
        base = f"{CPU}/cpu{core}/cache"
        for index in files.names(base):
            if not index.startswith("index"):
                continue
            level = read_int(files, f"{base}/{index}/level")
            kind = (files.read(f"{base}/{index}/type") or "").lower()
            if level is None or not 1 <= level <= 8 or kind not in ("data", "instruction", "unified"):
                continue
            size = _size_bytes(files.read(f"{base}/{index}/size"))
            line = _positive(read_int(files, f"{base}/{index}/coherency_line_size"))
            users = _cpu_list(files, f"{base}/{index}/shared_cpu_list")
            instances = shared.setdefault((level, kind, size, line), {})
            if users:
                instances[format_cpu_list(users)] = None
    return [
        _cache(level, kind, size, line, list(users))
        for (level, kind, size, line), users in sorted(
            shared.items(), key=lambda item: (item[0][0], item[0][1], -(item[0][2] or 0), item[0][3] or 0)
        )
    ]


def caches_from_getconf(text: str) -> list[Cache]:
    """Read cache sizes from ``getconf -a`` (glibc asks the processor itself); who shares them stays unknown."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[1].isdigit() and len(parts[1]) < 16:
            values[parts[0]] = int(parts[1])
    found = []
    for level, kind, name in (
        (1, "data", "LEVEL1_DCACHE"),
        (1, "instruction", "LEVEL1_ICACHE"),
        (2, "unified", "LEVEL2_CACHE"),
        (3, "unified", "LEVEL3_CACHE"),
    ):
        size = values.get(f"{name}_SIZE", 0)
        if size > 0:  # 0 is glibc's "unknown"
            found.append(_cache(level, kind, size, values.get(f"{name}_LINESIZE") or None, []))
    return found


def _cache(level: int, kind: str, size: int | None, line: int | None, users: list[str]) -> Cache:
    checked = cast(Literal["data", "instruction", "unified"], kind)
    line = line if line is not None and line <= 4096 else None
    return Cache(level=level, kind=checked, size_bytes=size, line_bytes=line, shared_by=users)


def _size_bytes(text: str | None) -> int | None:
    if not text:
        return None
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1].upper(), 1)
    digits = text[:-1] if unit > 1 else text
    return _positive(int(digits) * unit) if digits.isdigit() and len(digits) < 10 else None


def _cpu_list(files: SystemFiles, path: str) -> list[int]:
    try:
        return parse_cpu_list(files.read(path) or "")
    except ValueError:
        return []


def _positive(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= 2**50 else None


def _frequency(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= 100_000_000 else None


def _capacity(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= 1024 else None

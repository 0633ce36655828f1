"""CPU lists (``0-3,6``) and affinity masks (``4f``): the kernel's and taskset's notations for a set of cores."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_CORES = 4096  # the kernel's own largest NR_CPUS is 8192; more than this is a damaged file

_ITEM = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def parse_cpu_list(text: str) -> list[int]:
    """Read a CPU list as the kernel writes it.

    Args:
        text: ``0-3,6``, or ``0 1 2 3`` as cpufreq's ``related_cpus`` has it; an empty text is no core.

    Returns:
        Sorted core numbers, each once.

    Raises:
        ValueError: if it is not a CPU list, or names a core beyond ``MAX_CORES``.
    """
    cores: set[int] = set()
    for item in text.replace(",", " ").split():
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{item[:40]!r} is not a core or a range of cores")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {item!r} runs backwards")
        if last >= MAX_CORES:
            raise ValueError(f"core {last} is beyond {MAX_CORES - 1}")
        cores.update(range(first, last + 1))
    return sorted(cores)


def format_cpu_list(cores: Iterable[int]) -> str:
    """Write a set of cores as the kernel does, e.g. ``0-3,6``; ``parse_cpu_list`` reads it back."""
    parts: list[str] = []
    ordered = sorted(set(cores))
    start = 0
    for index, core in enumerate(ordered):
        if index + 1 < len(ordered) and ordered[index + 1] == core + 1:
            continue
        parts.append(str(core) if start == index else f"{ordered[start]}-{core}")
        start = index + 1
    return ",".join(parts)


def affinity_mask(cores: Iterable[int]) -> str:
    """Return the mask that ``taskset`` takes: lower-case hexadecimal, no ``0x``, whole bytes (``0f``, ``f0``).

    Raises:
        ValueError: if a core is negative or beyond ``MAX_CORES``, or there is none (taskset refuses an empty mask).
    """
    mask = 0
    for core in cores:
        if not 0 <= core < MAX_CORES:
            raise ValueError(f"core {core} is not between 0 and {MAX_CORES - 1}")
        mask |= 1 << core
    if mask == 0:
        raise ValueError("no core, no mask")
    digits = f"{mask:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def parse_mask(text: str) -> list[int]:
    """Read an affinity mask: hexadecimal, with or without ``0x``, or in the kernel's groups (``ff,ffffffff``).

    Raises:
        ValueError: if it is not one.
    """
    digits = text.strip().lower().removeprefix("0x").replace(",", "")
    if not re.fullmatch(r"[0-9a-f]{1,1024}", digits):
        raise ValueError(f"{text[:40]!r} is not a hexadecimal mask")
    mask = int(digits, 16)
    return [core for core in range(mask.bit_length()) if mask >> core & 1]

"""One line of ``tegrastats``, in every dialect from L4T 28 to 39. Untrusted text; knows no transport.

The dialects differ in what they leave out (memory clock and GPU clock without root rights), in units (``1649/1649``
or ``1649mW/1649mW``), in how many values stand with a rail (now/average, since L4T 39 now/average/most) or with a zone
(now, or now/most), and in the GPU's clock (one number, one for each GPC in brackets, or a second field GR3D2_FREQ).
What a line does not have is None or absent; a field that is not known here is skipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dfmobile.errors import FileFormatError

MAX_LINE_CHARACTERS = 8192

_MAX_CORES = 1024
_MAX_FIELDS = 100  # rails, or zones, of one line
_UNPOWERED_BELOW_C = -100.0
_NUMBER = r"([0-9]{1,9})"

_TIME = re.compile(r"\s*([0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})\s")
_MEMORY = re.compile(rf"(?<!\S)(RAM|SWAP) {_NUMBER}/{_NUMBER}MB")
_CPU = re.compile(r"(?<!\S)(?:CPU|cpu) \[")
_SHARED_CLOCK = re.compile(r"\]@([0-9]{1,6})(?!\S)")
_CORE = re.compile(r"([0-9]{1,3})%(?:@([0-9]{1,6}))?")
_EMC = re.compile(r"(?<!\S)EMC(?:_FREQ)? ([0-9]{1,3})%(?:@([0-9]{1,6}))?(?!\S)")
_GPU = re.compile(r"(?<!\S)GR3D(2?)(?:_FREQ)? (?:([0-9]{1,3})%)?(?:@(\[[0-9, ]{0,200}\]|[0-9]{1,6}))?(?!\S)")
_ZONE = re.compile(r"(?<!\S)([A-Za-z][A-Za-z0-9_.-]{0,40})@(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)C(?:/-?[0-9.]{1,12}C)?(?!\S)")
_RAIL = re.compile(rf"(?<!\S)([A-Z][A-Z0-9_]{{1,40}}) {_NUMBER}(?:mW)?/{_NUMBER}(?:mW)?(?:/{_NUMBER}(?:mW)?)?(?!\S)")


@dataclass(frozen=True)
class CoreLoad:
    """One core that is switched on.

    Attributes:
        percent: of its time that it was busy.
        mhz: its clock; None where the line has none.
    """

    percent: int
    mhz: int | None


@dataclass(frozen=True)
class RailPower:
    """Power of one rail.

    Attributes:
        now_mw: what the sensor said (an average of its own over some milliseconds).
        average_mw: since this tegrastats began.
        most_mw: the largest since it began; None in dialects without it.
    """

    now_mw: int
    average_mw: int
    most_mw: int | None = None


@dataclass(frozen=True)
class TegrastatsSample:
    """What one line says; None or absent is what it does not.

    Attributes:
        time_text: the board's wall clock (``10-05-2026 21:03:35``), by the second; old dialects have none.
        ram_used_mb: memory in use.
        ram_total_mb: memory there is.
        swap_used_mb: swap in use.
        swap_total_mb: swap there is.
        cores: by number; None is switched off.
        gpu_load_percent: of its time that the GPU was busy.
        gpu_mhz: its clocks, one for each GPC that the line lists; 0 is a GPC without clock. Needs root on L4T 36.
        emc_load_percent: use of the memory controller.
        emc_mhz: the memory's clock.
        temperature_c: thermal zone to degrees Celsius; zones without power (0 or -256) are left out. ``PMIC`` is a
            constant on TX2 and Xavier (50 or 100) and no measurement.
        rails: power of each rail.
    """

    time_text: str | None = None
    ram_used_mb: int | None = None
    ram_total_mb: int | None = None
    swap_used_mb: int | None = None
    swap_total_mb: int | None = None
    cores: tuple[CoreLoad | None, ...] = ()
    gpu_load_percent: int | None = None
    gpu_mhz: tuple[int, ...] = ()
    emc_load_percent: int | None = None
    emc_mhz: int | None = None
    temperature_c: dict[str, float] = field(default_factory=dict)
    rails: dict[str, RailPower] = field(default_factory=dict)


def parse_tegrastats_line(text: str) -> TegrastatsSample:
    """Read one line.

    Args:
        text: the line; only its first 8192 characters are looked at.

    Raises:
        FileFormatError: if it is no line of tegrastats: neither memory nor cores nor a rail are in it.
    """
    line = text[:MAX_LINE_CHARACTERS].strip("\r\n\0 \t")
    memory = {found[1]: (int(found[2]), int(found[3])) for found in _MEMORY.finditer(line)}
    cores = _cores(line)
    rails = {
        found[1]: RailPower(int(found[2]), int(found[3]), int(found[4]) if found[4] else None)
        for found in list(_RAIL.finditer(line))[:_MAX_FIELDS]
    }
    if not memory and not cores and not rails:
        raise FileFormatError(f"not a line of tegrastats: {line[:80]!r}")
    time = _TIME.match(line)
    emc = _EMC.search(line)
    gpu_load, gpu_mhz = _gpu(line)
    ram, swap = memory.get("RAM"), memory.get("SWAP")
    return TegrastatsSample(
        time_text=time[1] if time is not None else None,
        ram_used_mb=ram[0] if ram else None,
        ram_total_mb=ram[1] if ram else None,
        swap_used_mb=swap[0] if swap else None,
        swap_total_mb=swap[1] if swap else None,
        cores=cores,
        gpu_load_percent=gpu_load,
        gpu_mhz=gpu_mhz,
        emc_load_percent=_percent(emc[1]) if emc is not None else None,
        emc_mhz=int(emc[2]) if emc is not None and emc[2] else None,
        temperature_c=_temperatures(line),
        rails=rails,
    )


def _cores(line: str) -> tuple[CoreLoad | None, ...]:
    """Read ``CPU [1%@729,off,…]``, or the oldest form ``cpu [1%,off,…]@408`` with one clock for all of them."""
    begin = _CPU.search(line)
    end = line.find("]", begin.end()) if begin is not None else -1
    if begin is None or end < 0:
        return ()
    shared = _SHARED_CLOCK.match(line, end)
    listed = line[begin.end() : end]
    cores: list[CoreLoad | None] = []
    for item in listed.split(",")[:_MAX_CORES] if listed.strip() else []:
        found = _CORE.fullmatch(item.strip())
        percent = _percent(found[1]) if found is not None else None
        if found is None or percent is None:
            cores.append(None)  # "off", or a core that cannot be told: its place counts
        else:
            mhz = found[2] or (shared[1] if shared is not None else None)
            cores.append(CoreLoad(percent, int(mhz) if mhz else None))
    return tuple(cores)


def _gpu(line: str) -> tuple[int | None, tuple[int, ...]]:
    load: int | None = None
    clocks: list[int] = []
    for found in list(_GPU.finditer(line))[:4]:
        if found[2] is not None and not found[1]:
            load = _percent(found[2])
        if found[3]:
            clocks += [int(number) for number in re.findall(r"[0-9]{1,6}", found[3])[:16]]
    return load, tuple(clocks)


def _temperatures(line: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in list(_ZONE.finditer(line))[:_MAX_FIELDS]:
        degrees = float(zone[2])
        if degrees != 0 and _UNPOWERED_BELOW_C < degrees < 1000:
            found[zone[1]] = degrees
    return found


def _percent(text: str) -> int | None:
    value = int(text)
    return value if value <= 100 else None

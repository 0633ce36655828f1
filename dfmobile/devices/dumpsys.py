"""Android's ``dumpsys``: what the battery and the power service say, from their text. Untrusted; knows no transport."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_CHARACTERS = 2**20  # of a whole dump that are looked at; the power service writes up to 100 kB

# `dumpsys battery set …` freezes the values for tests of apps; they then say nothing of the phone.
_FROZEN = "UPDATES STOPPED"


@dataclass(frozen=True)
class Battery:
    """State of a battery; None is unknown.

    Attributes:
        percent: charge.
        temperature_c: degrees Celsius.
        charging: power comes in from a charger or a USB port, whether or not the battery still takes it.
        reason: why nothing is known, in a few words; empty otherwise.
    """

    percent: float | None = None
    temperature_c: float | None = None
    charging: bool | None = None
    reason: str = ""


def parse_battery(text: str) -> Battery:
    """Read ``dumpsys battery``."""
    text = text[:_MAX_CHARACTERS]
    if _FROZEN in text:
        return Battery(reason="it was set by hand; `adb shell dumpsys battery reset` ends that")
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            values.setdefault(name.strip().casefold(), value.strip())
    powered = [values[name] for name in values if re.fullmatch(r"[a-z]+ powered", name)]
    charging = any(value == "true" for value in powered) if set(powered) & {"true", "false"} else None
    percent = _percent(_number(values.get("level")), _number(values.get("scale")))
    tenths = _number(values.get("temperature"))
    temperature = temperature_c(tenths)
    known = (percent, temperature, charging) != (None, None, None)
    return Battery(percent, temperature, charging, "" if known else "dumpsys battery does not say it")


def temperature_c(tenths: int | None) -> float | None:
    """Return degrees of tenths of a degree, the unit of Android and of the kernel's power supplies.

    None where no battery could have it; 0 too, which drivers without a sensor give.
    """
    return tenths / 10 if tenths is not None and tenths != 0 and -500 < tenths < 1500 else None


def parse_screen(text: str) -> bool | None:
    """Read from ``dumpsys power`` whether the screen is on; None where it does not say so.

    The display's own state goes first; else the wakefulness, in which a phone that shows the time (``Dozing``)
    counts as off.
    """
    text = text[:_MAX_CHARACTERS]
    # A phone that folds has two displays: one that is on is enough.
    displays = set(re.findall(r"^[ \t]*Display Power: state=([A-Z_]{1,20})[ \t\r]*$", text, re.M)) - {"UNKNOWN"}
    if displays:
        return bool(displays & {"ON", "VR", "ON_SUSPEND"})
    wakefulness = re.search(r"^[ \t]*mWakefulness(?:Raw)?=([A-Za-z]{1,20})[ \t\r]*$", text, re.M)
    states = {"awake": True, "dreaming": True, "asleep": False, "dozing": False}
    return states.get(wakefulness[1].casefold()) if wakefulness is not None else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,9}", text) else None


def _percent(level: int | None, scale: int | None) -> float | None:
    scale = 100 if scale is None else scale
    if level is None or scale <= 0 or not 0 <= level <= scale:
        return None
    return round(100 * level / scale, 1)

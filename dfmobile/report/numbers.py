"""Numbers and text for people: significant digits that fit, units beside them, nothing a page cannot hold."""

from __future__ import annotations

import math
import re

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
UNKNOWN = "–"

# Characters that XML forbids, lone surrogates, and controls that reorder the text around them.
_UNSHOWABLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def clean(text: str) -> str:
    """Replace what neither XML nor a page may hold, and what could disguise the text after it."""
    return _UNSHOWABLE.sub("\ufffd", text)


def decimals(value: float, significant: int = 3) -> int:
    """Return how many decimals show a value with that many significant digits; never negative."""
    if value == 0 or not math.isfinite(value):
        return 0
    exponent = math.floor(math.log10(abs(value)))
    if round(abs(value), significant - 1 - exponent) >= 10 ** (exponent + 1):
        exponent += 1  # 9.996 becomes 10.0
    return min(12, max(0, significant - 1 - exponent))


def number(value: float | None, significant: int = 3) -> str:
    """Return a number with about that many significant digits, e.g. ``0.0312``, ``1.23``, ``1 230``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{decimals(value, significant)}f}".replace(",", NARROW_SPACE).replace("-", MINUS)


def ms(value: float | None) -> str:
    """Return a duration with its unit."""
    return UNKNOWN if value is None else f"{number(value)}{NARROW_SPACE}ms"


def ms_with_half_width(value: float | None, half_width: float | None) -> str:
    """Return ``1.23 ± 0.04 ms``: as many decimals as two significant digits of the half width have."""
    if value is None:
        return UNKNOWN
    if half_width is None:
        return ms(value)
    places = max(decimals(value), min(decimals(half_width, 2), decimals(value) + 2)) if half_width else decimals(value)
    return f"{value:.{places}f} ± {half_width:.{places}f}{NARROW_SPACE}ms"


def ms_interval(value: float, interval: tuple[float, float] | None) -> str:
    """Return ``1.23 [1.20, 1.26] ms``; without brackets where there is no interval."""
    if interval is None:
        return ms(value)
    places = decimals(value)
    return f"{value:.{places}f} [{interval[0]:.{places}f}, {interval[1]:.{places}f}]{NARROW_SPACE}ms"


def percent(fraction: float | None, places: int = 1) -> str:
    """Return ``96.4 %`` for 0.964."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{100 * fraction:.{places}f}".replace("-", MINUS) + f"{NARROW_SPACE}%"


def signed_percent(fraction: float | None, places: int = 1) -> str:
    """Return ``+3.2 %`` or ``−3.2 %``."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{100 * fraction:+.{places}f}".replace("-", MINUS) + f"{NARROW_SPACE}%"


def count(value: int | None) -> str:
    """Return an integer in groups of three digits."""
    return UNKNOWN if value is None else f"{value:,}".replace(",", NARROW_SPACE)


def scaled(value: float | None, unit: str = "") -> str:
    """Return ``1.23 M`` for 1,230,000, with a unit behind the prefix."""
    if value is None:
        return UNKNOWN
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{number(value / limit)}{NARROW_SPACE}{prefix}{unit}"
    text = count(round(value)) if value == round(value) else number(value)
    return f"{text}{NARROW_SPACE}{unit}" if unit else text


def bytes_text(size_bytes: int | None) -> str:
    """Return ``32 KiB``, ``1.5 GiB``."""
    if size_bytes is None:
        return UNKNOWN
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f"{NARROW_SPACE}{unit}"


def duration(seconds: float | None) -> str:
    """Return ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f}{NARROW_SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NARROW_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{NARROW_SPACE}min {whole % 60}{NARROW_SPACE}s"
    return f"{whole // 3600}{NARROW_SPACE}h {whole % 3600 // 60}{NARROW_SPACE}min"

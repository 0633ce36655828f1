"""Scales from data to pixels, and ticks at round numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from dfmobile.report.data import ScaleKind
from dfmobile.report.numbers import MINUS, NARROW_SPACE

# Values that span more than this factor are easier to tell apart on a logarithmic axis.
LOG_FROM_FACTOR = 6.0
# Mantissas of logarithmic ticks, densest first.
_MANTISSAS = ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels.

    Attributes:
        kind: linear or logarithmic.
        low: value at ``start_px``.
        high: value at ``end_px``; above ``low``.
        start_px: where the axis begins.
        end_px: where it ends; for a vertical axis above (less than) ``start_px``.
    """

    kind: ScaleKind
    low: float
    high: float
    start_px: float
    end_px: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values beyond the ends lie beyond the axis."""
        if self.kind == "log":
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start_px + share * (self.end_px - self.start_px)

    def ticks(self, most: int) -> list[float]:
        """Return at most that many round values within the scale, ascending."""
        return log_ticks(self.low, self.high, most) if self.kind == "log" else linear_ticks(self.low, self.high, most)


def choose_kind(low: float, high: float) -> ScaleKind:
    """Return the scale that spreads latencies from low to high best."""
    return "log" if low > 0 and high / low >= LOG_FROM_FACTOR else "linear"


def domain(
    values: Iterable[float],
    kind: ScaleKind = "linear",
    padding: float = 0.05,
    least_span: float = 0.0,
    floor: float | None = None,
) -> tuple[float, float]:
    """Return the ends of an axis that shows all values with some room, also for one value and for none.

    Args:
        values: finite; above 0 for a logarithmic axis.
        kind: of the axis.
        padding: room on each side, as a fraction of the span.
        least_span: the span of a linear axis is at least this.
        floor: the axis does not begin below it.
    """
    known = [value for value in values if math.isfinite(value) and (kind == "linear" or value > 0)]
    if not known:
        return (0.0, 1.0) if kind == "linear" else (1.0, 10.0)
    low, high = min(known), max(known)
    if kind == "log":
        span = max(math.log(high / low), math.log(1.2))
        middle = math.sqrt(low * high)
        half = span * (0.5 + padding)
        return middle * math.exp(-half), middle * math.exp(half)
    span = max(high - low, least_span, 0.02 * max(abs(low), abs(high)), 1e-9)
    middle = (low + high) / 2
    low, high = middle - span * (0.5 + padding), middle + span * (0.5 + padding)
    if floor is not None and low < floor:
        low = floor
    return low, high


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Return multiples of 1, 2, 2.5 or 5 times a power of ten within the ends, at most ``most`` of them."""
    span = high - low
    exponent = math.floor(math.log10(span / max(most, 1)))
    steps = (mantissa * 10.0**power for power in range(exponent, exponent + 3) for mantissa in (1, 2, 2.5, 5))
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [index * step for index in range(first, last + 1)]
    return []


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values within the ends of a logarithmic axis, at most ``most`` of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _MANTISSAS:
        found = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= most:
            break
    else:
        found = found[:: math.ceil(len(found) / most)]
    # Over less than a decade, evenly spaced values can be the finer ticks.
    even = linear_ticks(low, high, most)
    return found if len(found) >= 3 or len(found) >= len(even) else [value for value in even if value > 0]


def tick_labels(ticks: list[float], suffix: str = "") -> list[str]:
    """Return labels of ticks: for linear ones all with the same decimals, otherwise each with its own."""
    steps = {round(b - a, 12) for a, b in itertools.pairwise(ticks)}
    even = len(steps) <= 1 and len(ticks) > 1
    labels = []
    for tick in ticks:
        basis = min(steps) if even else tick
        places = 0
        while places < 9 and abs(round(basis, places) - basis) > 1e-9 * max(abs(basis), 1e-9):
            places += 1
        labels.append(f"{tick:,.{places}f}".replace(",", NARROW_SPACE).replace("-", MINUS) + suffix)
    return labels

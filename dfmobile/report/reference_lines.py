"""Latencies of other networks in the boundary plot: upright lines, named, without an accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from dfmobile.report import numbers
from dfmobile.report.data import ReferencePoint
from dfmobile.report.scales import Scale
from dfmobile.report.svg import Element, node, text_width, tooltip

_LINE_PX = 12.0  # names nearer than this would overlap side by side
_GAP_PX = 10.0


def draw_references(
    root: Element, references: Sequence[ReferencePoint], x: Scale, top_px: float, floor_px: float
) -> None:
    """Draw an upright line for each reference with a latency, its name along it, names off one another.

    Args:
        root: the image.
        references: those without a latency are left out.
        x: latency scale.
        top_px: upper end of the lines.
        floor_px: lower end.
    """
    found = [(item.predicted_ms, item) for item in references if item.predicted_ms is not None]
    known = sorted(found, key=lambda pair: pair[0])
    taken: list[tuple[float, float, float]] = []  # x, begin and end of each name
    for latency_ms, item in known:
        place = x(latency_ms)
        line = node(root, "line", class_="reference", x1=place, x2=place, y1=top_px, y2=floor_px)
        tooltip(line, f"{item.name}: {item.encoding}\npredicted {numbers.ms_interval(latency_ms, item.interval_ms)}")
        length, begin = text_width(item.name), top_px + 4
        while any(abs(place - at) < _LINE_PX and begin < end and first < begin + length for at, first, end in taken):
            begin = max(end for at, first, end in taken if abs(place - at) < _LINE_PX) + _GAP_PX
        taken.append((place, begin, begin + length))
        # Read from the bottom up, left of its line.
        node(root, "text", item.name, class_="reference-label", text_anchor="end",
             transform=f"translate({place - 3:.1f} {begin:.1f}) rotate(-90)")  # fmt: skip

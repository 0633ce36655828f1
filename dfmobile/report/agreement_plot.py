"""Predicted against measured latency of the winners, with the identity and bands of 5 and 10 %."""

from __future__ import annotations

from collections.abc import Sequence

from dfmobile.report import numbers
from dfmobile.report.axes import LabelPlacer, LegendItem, clip, horizontal_axis, legend, vertical_axis
from dfmobile.report.data import Winner
from dfmobile.report.scales import Scale, choose_kind, domain
from dfmobile.report.svg import Element, canvas, node, path, tooltip

_BANDS = ((0.10, "band band-10"), (0.05, "band band-5"))


def agreement_plot(winners: Sequence[Winner], size: float, identifier: str) -> Element | None:
    """Draw predicted over measured latency; None where nothing was measured.

    Args:
        winners: the boundary, numbered as in its table.
        size: width and about the height of the image, px.
        identifier: unique on the page.
    """
    pairs = [(number, item, item.measured_ms) for number, item in enumerate(winners, 1) if item.measured_ms]
    if not pairs:
        return None
    items = [
        LegendItem("dot", "winner", "winner"),
        LegendItem("line", "identity", "equal"),
        LegendItem("bar", "band band-5", "±5 %"),
        LegendItem("bar", "band band-10", "±10 %"),
    ]
    left, right, top = 68.0, size - 14, 8.0
    root = canvas(size, size, f"Predicted over measured latency of {len(pairs)} winners, in ms")
    top += legend(root, items, left, right, top) + 8
    shown = [value for _, item, measured in pairs for value in (item.predicted_ms, measured)]
    kind = choose_kind(min(shown), max(shown))
    low, high = domain(shown, kind, padding=0.08, floor=0.0)
    if low <= 0 and kind == "linear":
        low = 0.0
    x = Scale(kind, low, high, left, right)
    y = Scale(kind, low, high, size - 46, top)
    inner = clip(root, x, y, identifier)
    start = low if low > 0 else high * 1e-6
    for share, class_ in _BANDS:
        edge = [(x(start), _at(y, start * (1 + share))), (x(high), _at(y, high * (1 + share)))]
        edge += [(x(high), _at(y, high * (1 - share))), (x(start), _at(y, start * (1 - share)))]
        node(inner, "path", class_=class_, d=path(edge) + "Z")
    horizontal_axis(root, x, size - 46, top, "measured end to end, ms" + (" (log scale)" if kind == "log" else ""))
    vertical_axis(root, y, left, right, "predicted by the table, ms")
    node(inner, "line", class_="identity", x1=x(start), x2=x(high), y1=y(start), y2=y(high))
    labels = LabelPlacer((left + 2, top, right, size - 48))
    for _, item, measured in pairs:
        labels.block(x(measured), y(item.predicted_ms), 6)
        _intervals(inner, item, measured, x, y, labels)
    for number, item, measured in pairs:
        _pair(root, number, item, measured, x, y, labels)
    return root


def _at(scale: Scale, value: float) -> float:
    return scale(max(value, 1e-12)) if scale.kind == "log" else scale(value)


def _intervals(root: Element, item: Winner, measured: float, x: Scale, y: Scale, labels: LabelPlacer) -> None:
    across, up = x(measured), y(item.predicted_ms)
    if item.half_width_ms:
        start, end = _at(x, measured - item.half_width_ms), _at(x, measured + item.half_width_ms)
        node(root, "line", class_="error-bar", x1=start, x2=end, y1=up, y2=up)
        labels.block_line(start, up, end, up)
    if item.interval_ms is not None:
        start, end = _at(y, item.interval_ms[0]), _at(y, item.interval_ms[1])
        node(root, "line", class_="error-bar", x1=across, x2=across, y1=start, y2=end)
        labels.block_line(across, start, across, end)


def _pair(root: Element, number: int, item: Winner, measured: float, x: Scale, y: Scale, labels: LabelPlacer) -> None:
    across, up = x(measured), y(item.predicted_ms)
    mark = node(root, "circle", class_="winner", cx=across, cy=up, r=5)
    tooltip(
        mark,
        f"winner {number}: {item.encoding}\npredicted {numbers.ms_interval(item.predicted_ms, item.interval_ms)}\n"
        f"measured {numbers.ms_with_half_width(measured, item.half_width_ms)}\n"
        f"error {numbers.signed_percent(item.relative_error)}",
    )
    spot = labels.place(across, up, str(number))
    if spot is not None:
        node(root, "text", str(number), class_="mark-label", x=spot[0], y=spot[1], text_anchor="middle")

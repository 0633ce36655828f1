"""The boundary plot: accuracy over latency, winners joined, and below the axis everything that has no accuracy.

Architectures that were pruned or are still waiting have a latency and no accuracy, so they are drawn as counts
along the latency axis, never as points at an accuracy that nobody determined.
"""

from __future__ import annotations

from collections.abc import Sequence

from dfmobile.report import numbers
from dfmobile.report.axes import (
    LabelPlacer,
    LegendItem,
    clip,
    horizontal_axis,
    legend,
    vertical_axis,
)
from dfmobile.report.data import EvaluatedArchitecture, LatencyStrip, ReportData, Winner
from dfmobile.report.reference_lines import draw_references
from dfmobile.report.scales import Scale, choose_kind, domain
from dfmobile.report.svg import CHARACTER_PX, Element, canvas, diamond, node, path, tooltip

_STRIP_PX = 44.0
_STRIP_LABEL_PX = 15.0


def boundary_plot(
    data: ReportData, width: float, height: float, identifier: str, headings: Sequence[str] = ()
) -> Element:
    """Draw the boundary plot.

    Args:
        data: the report.
        width: of the image, px.
        height: of the image, px.
        identifier: unique on the page.
        headings: lines inside the image, for an image that stands alone; those too long for it are cut.
    """
    root = canvas(width, height, _label(data))
    left, right, top = 66.0, width - 16, 8.0
    room = int((right - left) / (1.3 * CHARACTER_PX))
    for line in headings:
        shown = line if len(line) <= room else line[: room - 1] + "…"
        node(root, "text", shown, class_="heading", x=left, y=top + 14)
        top += 20
    top += 6 if headings else 0
    top += legend(root, _legend(data), left, right, top) + 10
    strips = _strips(data)
    bottom = height - 46
    floor = bottom - len(strips) * _STRIP_PX - (4 if strips else 0)
    x = _latency_scale(data, left, right)
    accuracies = [100 * item.accuracy for item in data.evaluated]
    low, high = domain(accuracies, padding=0.08, least_span=0.5, floor=0.0)
    y = Scale("linear", low, high, floor, top)
    kind = " (log scale)" if x.kind == "log" else ""
    horizontal_axis(root, x, bottom, top, f"latency, ms{kind}")
    vertical_axis(root, y, left, right, "accuracy, %", top=100.0)
    node(root, "line", class_="axis", x1=left, x2=right, y1=floor, y2=floor)
    for index, (class_, text, counts) in enumerate(strips):
        _strip(root, data.strip, x, floor + 4 + (index + 1) * _STRIP_PX, class_, text, counts)
    draw_references(root, data.references, x, top, floor)
    inner = clip(root, x, y, identifier)
    _step_line(inner, data.winners, x, y)
    winners = {item.encoding for item in data.winners}
    for item in data.evaluated:
        if item.encoding not in winners:
            _evaluated(root, item, x, y)
    labels = LabelPlacer((left + 2, top - 6, right + 8, floor - 2))
    for item in data.evaluated:
        labels.block(x(item.predicted_ms), y(100 * item.accuracy), 6)
    for number, winner in enumerate(data.winners, 1):
        _measured(root, winner, number, x, y, labels)
    for number, winner in enumerate(data.winners, 1):
        _winner(root, winner, number, x, y, labels)
    if not data.evaluated:
        node(root, "text", "no architecture has been evaluated yet", class_="empty", text_anchor="middle",
             x=(left + right) / 2, y=(top + floor) / 2)  # fmt: skip
    return root


def _latency_scale(data: ReportData, left: float, right: float) -> Scale:
    shown = [item.predicted_ms for item in data.evaluated]
    shown += [item.measured_ms for item in data.winners if item.measured_ms is not None]
    if data.strip is not None:
        shown += data.strip.edges_ms
    if not shown:
        return Scale("linear", 0.0, 1.0, left, right)
    others = [item.predicted_ms for item in data.references if item.predicted_ms is not None]
    kind = (
        data.strip.scale
        if data.strip is not None and not others
        else choose_kind(min(shown + others), max(shown + others))
    )
    shown += others
    low, high = domain(shown, kind, padding=0.03, floor=0.0)
    return Scale(kind, low, high, left, right)


def _label(data: ReportData) -> str:
    text = f"Boundary plot: accuracy over latency of {len(data.evaluated)} evaluated architectures of {data.space}"
    return f"{text}, {len(data.winners)} of them on the boundary. Accuracy: {data.accuracy_label}."


def _legend(data: ReportData) -> list[LegendItem]:
    items = [LegendItem("diamond", "winner", "winner, predicted")]
    if any(item.measured_ms is not None for item in data.winners):
        items.append(LegendItem("ring", "measured", "winner, measured (bar: 95 % interval)"))
    items.append(LegendItem("dot", "evaluated", "evaluated, not a winner"))
    if any(item.predicted_ms is not None for item in data.references):
        items.append(LegendItem("line", "reference", "another network, predicted; no accuracy here"))
    return items


def _strips(data: ReportData) -> list[tuple[str, str, tuple[int, ...]]]:
    if data.strip is None:
        return []
    pruned, alive = sum(data.strip.pruned), sum(data.strip.alive)
    return [
        ("pruned", f"pruned, never evaluated: {numbers.count(pruned)}", data.strip.pruned),
        ("alive", f"not evaluated, not ruled out: {numbers.count(alive)}", data.strip.alive),
    ]


def _strip(
    root: Element, strip: LatencyStrip | None, x: Scale, base: float, class_: str, text: str, counts: tuple[int, ...]
) -> None:
    """Draw bars of counts upwards from ``base``; both strips share one vertical scale."""
    if strip is None:
        return
    largest = max([*strip.pruned, *strip.alive, 1])
    room = _STRIP_PX - _STRIP_LABEL_PX - 3
    node(root, "text", text, class_="strip-label", x=x.start_px + 5, y=base - room - 4)
    for start, end, count in zip(strip.edges_ms, strip.edges_ms[1:], counts, strict=False):
        if count:
            bar = max(1.5, room * count / largest)
            low, high = x(start), x(end)
            mark = node(root, "rect", class_=class_, x=low, y=base - bar, width=max(0.5, high - low - 0.5), height=bar)
            span = f"{numbers.number(start)} to {numbers.number(end)} ms"
            tooltip(mark, f"{numbers.count(count)} architectures of {span}: {text.split(':')[0]}")
    node(root, "line", class_="axis", x1=x.start_px, x2=x.end_px, y1=base, y2=base)


def _step_line(root: Element, winners: Sequence[Winner], x: Scale, y: Scale) -> None:
    points = [(x(item.predicted_ms), y(100 * item.accuracy)) for item in winners]
    if points:
        # Best accuracy to be had up to each latency: nothing before the fastest winner, level after the last.
        node(
            root,
            "path",
            class_="step",
            d=path([(points[0][0], y.start_px), *points, (x.end_px, points[-1][1])], step=True),
        )


def _evaluated(root: Element, item: EvaluatedArchitecture, x: Scale, y: Scale) -> None:
    mark = node(root, "circle", class_="evaluated", cx=x(item.predicted_ms), cy=y(100 * item.accuracy), r=4.5)
    tooltip(
        mark,
        f"evaluation {item.number}: {item.encoding}\npredicted {numbers.ms(item.predicted_ms)}, "
        f"accuracy {numbers.percent(item.accuracy, 2)}",
    )


def _measured(root: Element, winner: Winner, number: int, x: Scale, y: Scale, labels: LabelPlacer) -> None:
    if winner.measured_ms is None:
        return
    height, place = y(100 * winner.accuracy), x(winner.measured_ms)
    node(root, "line", class_="link", x1=x(winner.predicted_ms), x2=place, y1=height, y2=height)
    labels.block(place, height, 6)
    bar = _error_bar(winner.measured_ms, winner.half_width_ms, x)
    if bar is not None:
        start, end = (min(max(tip, x.start_px), x.end_px) for tip in bar)
        node(root, "line", class_="error-bar", x1=start, x2=end, y1=height, y2=height)
        labels.block_line(start, height, end, height)
        for tip in bar:
            if x.start_px <= tip <= x.end_px:  # an interval that leaves the plot has no end in it
                node(root, "line", class_="error-bar", x1=tip, x2=tip, y1=height - 3.5, y2=height + 3.5)
    mark = node(root, "circle", class_="measured", cx=place, cy=height, r=4.5)
    tooltip(
        mark,
        f"winner {number}: {winner.encoding}\nmeasured "
        f"{numbers.ms_with_half_width(winner.measured_ms, winner.half_width_ms)}",
    )


def _error_bar(value: float, half_width: float | None, x: Scale) -> tuple[float, float] | None:
    """Return the ends of an interval in px, also beyond the axis; None where there is no interval."""
    if not half_width:
        return None
    low = value - half_width
    return (x(low) if low > 0 or x.kind == "linear" else x.start_px - 1), x(value + half_width)


def _winner(root: Element, winner: Winner, number: int, x: Scale, y: Scale, labels: LabelPlacer) -> None:
    place, height = x(winner.predicted_ms), y(100 * winner.accuracy)
    mark = node(root, "path", class_="winner", d=diamond(place, height, 6.5))
    tooltip(
        mark,
        f"winner {number}: {winner.encoding}\n"
        f"predicted {numbers.ms_interval(winner.predicted_ms, winner.interval_ms)}, "
        f"accuracy {numbers.percent(winner.accuracy, 2)}",
    )
    spot = labels.place(place, height, str(number))
    if spot is not None:
        node(root, "text", str(number), class_="mark-label", x=spot[0], y=spot[1], text_anchor="middle")

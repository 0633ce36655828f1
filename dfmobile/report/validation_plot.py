"""Predicted over measured latency of a validation, as an SVG file."""

from __future__ import annotations

from dfmobile.latency.validation import ValidatedNetwork, Validation
from dfmobile.report.axes import LegendItem, clip, horizontal_axis, legend, vertical_axis
from dfmobile.report.scales import Scale, choose_kind, domain
from dfmobile.report.standalone import standalone_svg
from dfmobile.report.svg import Element, canvas, node, path, tooltip

_BANDS = ((0.10, "band band-10"), (0.05, "band band-5"))
_SIZE = 560.0


def validation_plot(found: Validation) -> str:
    """Return a plot of a validation's networks with their intervals, the identity, and bands of 5 and 10 %.

    Args:
        found: the validation.
    """
    whole = found.agreement
    label = (
        f"Predicted over measured latency of {whole.n} networks of {found.space} at {found.width}x{found.height}: "
        f"rule {found.rule}, mean absolute error {100 * whole.mape:.2f} %"
    )
    root = canvas(_SIZE, _SIZE, label)
    items = [
        LegendItem("dot", "winner", "network"),
        LegendItem("line", "identity", "equal"),
        LegendItem("bar", "band band-5", "±5 %"),
        LegendItem("bar", "band band-10", "±10 %"),
    ]
    left, right, bottom, top = 68.0, _SIZE - 14, _SIZE - 46, 24.0
    node(root, "text", label, x=left, y=16, class_="tick")
    top += legend(root, items, left, right, top) + 8
    shown = [value for item in found.networks for value in (item.predicted_ms, item.measured_ms)]
    kind = choose_kind(min(shown), max(shown))
    low, high = domain(shown, kind, padding=0.08, floor=0.0)
    low = max(low, 1e-3 * high)
    x, y = Scale(kind, low, high, left, right), Scale(kind, low, high, bottom, top)
    inner = clip(root, x, y, "clip-validation")
    for share, class_ in _BANDS:
        edge = [(x(low), y(low * (1 + share))), (x(high), y(high * (1 + share)))]
        edge += [(x(high), y(high * (1 - share))), (x(low), y(low * (1 - share)))]
        node(inner, "path", class_=class_, d=path(edge) + "Z")
    horizontal_axis(root, x, bottom, top, "measured whole, ms" + (" (log scale)" if kind == "log" else ""))
    vertical_axis(root, y, left, right, f"predicted, ms (rule {found.rule})")
    node(inner, "line", class_="identity", x1=x(low), x2=x(high), y1=y(low), y2=y(high))
    for item in found.networks:
        _network(inner, item, x, y, low)
    return standalone_svg(root)


def _network(root: Element, item: ValidatedNetwork, x: Scale, y: Scale, low: float) -> None:
    across = x(item.measured_ms)
    if item.interval_ms is not None:
        start, end = (y(max(value, low)) for value in item.interval_ms)
        node(root, "line", class_="error-bar", x1=across, x2=across, y1=start, y2=end)
    mark = node(root, "circle", class_="winner", cx=across, cy=y(item.predicted_ms), r=2.5)
    text = f"{item.encoding}\npredicted {item.predicted_ms:.4f} ms, measured {item.measured_ms:.4f} ms"
    tooltip(mark, f"{text}, error {100 * item.error:+.1f} %")

"""Learning curves as small multiples with common axes, so that trainings can be compared at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfmobile.report import numbers
from dfmobile.report.data import EvaluatedArchitecture
from dfmobile.report.scales import Scale, domain, tick_labels
from dfmobile.report.svg import Element, canvas, node, path, tooltip

_WIDTH, _HEIGHT = 208.0, 128.0


@dataclass(frozen=True)
class CurveAxes:
    """The axes that all small multiples share.

    Attributes:
        epochs: (first, last).
        accuracies: (low, high), percent.
    """

    epochs: tuple[float, float]
    accuracies: tuple[float, float]


def curve_axes(evaluated: Sequence[EvaluatedArchitecture]) -> CurveAxes | None:
    """Return axes that fit every learning curve; None where there are none."""
    points = [point for item in evaluated for point in item.curve]
    if not points:
        return None
    epochs = domain([0.0, *(point.epoch for point in points)], padding=0.02, least_span=1.0, floor=0.0)
    # Small panels show how trainings end: a slow start may leave through the floor.
    values = sorted(100 * point.accuracy for point in points)
    low = min([values[len(values) // 20], *(100 * item.curve[-1].accuracy for item in evaluated if item.curve)])
    low, high = domain([low, values[-1]], padding=0.08, least_span=1.0, floor=0.0)
    return CurveAxes(epochs, (low, high))


def curve_plot(item: EvaluatedArchitecture, axes: CurveAxes) -> Element:
    """Draw the learning curve of one evaluation."""
    last = item.curve[-1].accuracy
    label = f"Learning curve of evaluation {item.number}, {item.encoding}: ends at {numbers.percent(last)}"
    root = canvas(_WIDTH, _HEIGHT, label, "chart small")
    x = Scale("linear", *axes.epochs, 36, _WIDTH - 8)
    y = Scale("linear", *axes.accuracies, _HEIGHT - 32, 8)
    ticks = [tick for tick in y.ticks(4) if tick <= 100]
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        node(root, "line", class_="grid", x1=36, x2=_WIDTH - 8, y1=y(tick), y2=y(tick))
        node(root, "text", text, class_="tick", x=31, y=y(tick) + 4, text_anchor="end")
    ticks = [tick for tick in x.ticks(5) if tick == round(tick)]
    for tick, text in zip(ticks, tick_labels(ticks), strict=True):
        node(root, "text", text, class_="tick", x=x(tick), y=_HEIGHT - 17, text_anchor="middle")
    node(root, "line", class_="axis", x1=36, x2=_WIDTH - 8, y1=_HEIGHT - 32, y2=_HEIGHT - 32)
    node(root, "text", "epoch", class_="tick", x=(36 + _WIDTH - 8) / 2, y=_HEIGHT - 3, text_anchor="middle")
    class_ = "winner-line" if item.on_boundary else "evaluated-line"
    floor = axes.accuracies[0]
    shown = [(x(point.epoch), y(max(100 * point.accuracy, floor))) for point in item.curve]
    node(root, "path", class_=f"line {class_}", d=path(shown))
    for (across, up), point in zip(shown, item.curve, strict=True):
        mark = node(root, "circle", class_=f"line-dot {class_}", cx=across, cy=up, r=2)
        tooltip(mark, f"epoch {numbers.number(point.epoch)}: {numbers.percent(point.accuracy, 2)}")
    return root

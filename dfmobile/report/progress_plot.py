"""How the search went, over evaluations in draw order: what was left alive, and what the boundary had reached."""

from __future__ import annotations

from collections.abc import Sequence

from dfmobile.report import numbers
from dfmobile.report.axes import horizontal_axis, vertical_axis, vertical_tick_limit
from dfmobile.report.data import EvaluatedArchitecture
from dfmobile.report.scales import Scale, domain, tick_labels
from dfmobile.report.svg import Element, canvas, node, path, text_width, tooltip
from dfmobile.search.boundary import hypervolume

_LEFT, _BOTTOM, _TOP = 62.0, 46.0, 14.0


def hypervolumes(evaluated: Sequence[EvaluatedArchitecture], worst_ms: float, worst_accuracy: float) -> list[float]:
    """Return the area (ms x accuracy) that the evaluations dominate after each of them.

    Args:
        evaluated: in draw order.
        worst_ms: latency of the worst corner.
        worst_accuracy: accuracy of the worst corner.
    """
    return [
        hypervolume(
            [item.predicted_ms for item in evaluated[:known]],
            [item.accuracy for item in evaluated[:known]],
            worst_ms,
            worst_accuracy,
        )
        for known in range(1, len(evaluated) + 1)
    ]


def hypervolume_plot(areas: Sequence[float], width: float, height: float) -> Element | None:
    """Draw the hypervolume in percent of the last one; None where it is nowhere above 0."""
    if not areas or areas[-1] <= 0:
        return None
    shares = [100 * area / areas[-1] for area in areas]
    texts = [
        f"after {index} evaluations: {share:.1f} % of the final hypervolume" for index, share in enumerate(shares, 1)
    ]
    label = "Hypervolume of the boundary over evaluations, in percent of the final one"
    return _line(shares, texts, width, height, label, "hypervolume, % of final", "hypervolume")


def alive_plot(
    evaluated: Sequence[EvaluatedArchitecture], candidates: int, width: float, height: float
) -> Element | None:
    """Draw how many candidates were left alive; None where that was not recorded."""
    known = [item for item in evaluated if item.alive is not None]
    if not known:
        return None
    values = [float(candidates), *(float(item.alive or 0) for item in known)]
    texts = ["before the first evaluation: " + numbers.count(candidates)]
    texts += [
        f"evaluation {item.number}: {item.encoding}\nruled out {numbers.count(item.pruned)}, "
        f"left {numbers.count(item.alive)}"
        for item in known
    ]
    label = f"Candidates left over evaluations, from {candidates} to {known[-1].alive}"
    return _line(values, texts, width, height, label, "candidates left", "left", first=0)


def _line(
    values: Sequence[float],
    texts: Sequence[str],
    width: float,
    height: float,
    label: str,
    title: str,
    class_: str,
    first: int = 1,
) -> Element:
    root = canvas(width, height, label)
    last = first + len(values) - 1
    low, high = domain([first, last], padding=0.03, least_span=1.0)
    y = Scale("linear", 0.0, max(*values, 1.0) * 1.06, height - _BOTTOM, _TOP)
    labels = tick_labels(y.ticks(vertical_tick_limit(y)))
    left = max(_LEFT, 34 + text_width(max(labels, key=len, default="")))
    x = Scale("linear", low, high, left, width - 14)
    horizontal_axis(root, x, height - _BOTTOM, _TOP, "evaluations", most=min(8, last - first + 1))
    vertical_axis(root, y, left, width - 14, title)
    points = [(x(first + index), y(value)) for index, value in enumerate(values)]
    node(root, "path", class_=f"line {class_}", d=path(points, step=True))
    for (across, up), text in zip(points, texts, strict=True):
        tooltip(
            node(root, "circle", class_=f"line-dot {class_}", cx=across, cy=up, r=3 if len(values) < 60 else 1.5), text
        )
    return root

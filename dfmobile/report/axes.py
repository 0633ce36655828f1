"""A plot's frame: margins, grid, ticks, axis titles and a legend, and where labels still fit."""

from __future__ import annotations

from dataclasses import dataclass, field

from dfmobile.report.scales import Scale, tick_labels
from dfmobile.report.svg import Element, diamond, node, text_width


def horizontal_axis(
    root: Element, scale: Scale, y_px: float, top_px: float, title: str, most: int | None = None
) -> None:
    """Draw a horizontal axis with grid lines up to ``top_px``."""
    width = scale.end_px - scale.start_px
    ticks = scale.ticks(most or max(3, int(width // 62)))
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        x = scale(tick)
        node(root, "line", class_="grid", x1=x, x2=x, y1=top_px, y2=y_px)
        node(root, "text", label, class_="tick", x=x, y=y_px + 17, text_anchor="middle")
    node(root, "line", class_="axis", x1=scale.start_px, x2=scale.end_px, y1=y_px, y2=y_px)
    middle = (scale.start_px + scale.end_px) / 2
    node(root, "text", title, class_="axis-title", x=middle, y=y_px + 37, text_anchor="middle")


def vertical_tick_limit(scale: Scale) -> int:
    """Return how many ticks a vertical axis has at most."""
    return max(3, int((scale.start_px - scale.end_px) // 46))


def vertical_axis(
    root: Element, scale: Scale, x_px: float, right_px: float, title: str, suffix: str = "", top: float | None = None
) -> None:
    """Draw a vertical axis with grid lines to ``right_px``; no ticks above the value ``top``."""
    ticks = [tick for tick in scale.ticks(vertical_tick_limit(scale)) if top is None or tick <= top + 1e-9]
    for tick, label in zip(ticks, tick_labels(ticks, suffix), strict=True):
        y = scale(tick)
        node(root, "line", class_="grid", x1=x_px, x2=right_px, y1=y, y2=y)
        node(root, "text", label, class_="tick", x=x_px - 7, y=y + 4, text_anchor="end")
    node(root, "line", class_="axis", x1=x_px, x2=x_px, y1=scale.start_px, y2=scale.end_px)
    middle = (scale.start_px + scale.end_px) / 2
    node(
        root,
        "text",
        title,
        class_="axis-title",
        text_anchor="middle",
        transform=f"translate(14 {middle:.1f}) rotate(-90)",
    )


def clip(root: Element, x: Scale, y: Scale, identifier: str) -> Element:
    """Return a group whose content is cut off at the plotting area.

    Args:
        root: the image.
        x: horizontal scale.
        y: vertical scale.
        identifier: unique on the page.
    """
    shape = node(root, "clipPath", id=identifier)
    node(shape, "rect", x=x.start_px, y=y.end_px, width=x.end_px - x.start_px, height=y.start_px - y.end_px)
    return node(root, "g", clip_path=f"url(#{identifier})")


@dataclass(frozen=True)
class LegendItem:
    """One entry of a legend: a mark (``dot``, ``ring``, ``diamond``, ``bar``, ``line``) of a class, and its text."""

    mark: str
    class_: str
    text: str


def legend(
    root: Element, items: list[LegendItem], left: float, right: float, top: float, *, draw: bool = True
) -> float:
    """Draw a legend that wraps within its width; return its height in px."""
    x, y, row = left, top, 20.0
    for item in items:
        width = 22 + text_width(item.text) + 16
        if x > left and x + width - 16 > right:
            x, y = left, y + row
        if draw:
            _mark(root, item, x + 7, y + 8)
            node(root, "text", item.text, class_="legend", x=x + 19, y=y + 12)
        x += width
    return y + row - top if items else 0.0


def _mark(root: Element, item: LegendItem, x: float, y: float) -> None:
    if item.mark in ("dot", "ring"):
        node(root, "circle", class_=item.class_, cx=x, cy=y, r=4.5)
    elif item.mark == "diamond":
        node(root, "path", class_=item.class_, d=diamond(x, y, 6))
    elif item.mark == "bar":
        node(root, "rect", class_=item.class_, x=x - 6, y=y - 5, width=12, height=10)
    else:
        node(root, "line", class_=item.class_, x1=x - 7, x2=x + 7, y1=y, y2=y)


@dataclass
class LabelPlacer:
    """Finds places for labels where they cover neither marks nor one another.

    Attributes:
        bounds: (left, top, right, bottom) in px that labels stay within.
    """

    bounds: tuple[float, float, float, float]
    _taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def block(self, x: float, y: float, radius: float) -> None:
        """Keep labels off a mark."""
        self._taken.append((x - radius, y - radius, x + radius, y + radius))

    def block_line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Keep labels off a horizontal or vertical line."""
        self._taken.append((min(x1, x2) - 2, min(y1, y2) - 2, max(x1, x2) + 2, max(y1, y2) + 2))

    def place(self, x: float, y: float, text: str, distance: float = 9) -> tuple[float, float] | None:
        """Return the middle and baseline of a label near a mark, in px; None where it fits nowhere."""
        half, height = text_width(text) / 2 + 1, 12.0
        offsets = ((0, -1), (-1, -0.8), (1, 0.8), (0, 1), (-1, 0), (1, 0), (1, -0.8), (-1, 0.8))
        for reach in (distance, 1.8 * distance):
            for right, down in offsets:
                middle = x + right * (reach + half)
                centre = y + down * (reach + height / 2)
                box = (middle - half, centre - height / 2, middle + half, centre + height / 2)
                if self._inside(box) and not any(_overlap(box, other) for other in self._taken):
                    self._taken.append(box)
                    return middle, centre + 4
        return None

    def _inside(self, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = self.bounds
        return box[0] >= left and box[1] >= top and box[2] <= right and box[3] <= bottom


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

"""SVG as an element tree, so that it is well-formed and escaped by construction.

Colours come from classes (``templates/chart.css``), never from a ``style`` attribute: the page's Content-Security-
Policy allows one style sheet, named by its hash.
"""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from dfmobile.report.numbers import clean

Element = ElementTree.Element
NAMESPACE = "http://www.w3.org/2000/svg"
# Average advance of a 12 px system font's character; only used to place labels.
CHARACTER_PX = 6.4


def node(parent: Element | None, tag: str, text: str = "", **attributes: str | float | None) -> Element:
    """Append an element.

    Args:
        parent: None makes a root.
        tag: element name.
        text: its text.
        attributes: a trailing underscore is dropped (``class_``), others become hyphens; None leaves one out.
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name.rstrip("_").replace("_", "-"), clean(value) if isinstance(value, str) else _number(value))
    if text:
        element.text = clean(text)
    if parent is not None:
        parent.append(element)
    return element


def canvas(width: float, height: float, label: str, class_: str = "chart") -> Element:
    """Return the root of an image of that size in px, with a text alternative."""
    root = node(None, "svg", viewBox=f"0 0 {_number(width)} {_number(height)}", role="img", class_=class_)
    root.set("xmlns", NAMESPACE)
    root.set("width", _number(width))
    root.set("height", _number(height))
    root.set("aria-label", clean(label))
    return root


def tooltip(element: Element, text: str) -> Element:
    """Give an element a tooltip; return the element."""
    title = Element("title")
    title.text = clean(text)
    element.insert(0, title)
    return element


def text_width(text: str) -> float:
    """Return about how wide a text is at 12 px, in px."""
    return CHARACTER_PX * len(text)


def path(points: list[tuple[float, float]], *, step: bool = False) -> str:
    """Return path data through points in px; ``step`` goes right first, then up or down."""
    parts = []
    for index, (x, y) in enumerate(points):
        if index == 0:
            parts.append(f"M{_number(x)},{_number(y)}")
        elif step:
            parts.append(f"H{_number(x)}V{_number(y)}")
        else:
            parts.append(f"L{_number(x)},{_number(y)}")
    return "".join(parts)


def diamond(x: float, y: float, radius: float) -> str:
    """Return path data of a diamond around a point, in px."""
    return path([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]) + "Z"


def serialise(root: Element) -> str:
    """Return an image as text, fit for an HTML page and for a file."""
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"a drawing cannot hold {value}")
    return re.sub(r"^-0$", "0", f"{value:.2f}".rstrip("0").rstrip("."))

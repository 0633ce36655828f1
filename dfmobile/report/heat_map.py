"""The latency table as heat maps: for each stage, width before by width, hot latency in the cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dfmobile.report import numbers
from dfmobile.report.data import TableBlock
from dfmobile.report.svg import Element, canvas, node, tooltip

# Cividis (Nuñez et al., PLOS ONE 2018), made for colour-blind readers; light is fast.
_CIVIDIS = ((253, 234, 69), (225, 204, 85), (188, 174, 108), (148, 142, 119), (124, 123, 120), (95, 101, 109),
            (62, 77, 107), (18, 53, 112), (0, 34, 78))  # fmt: skip
_CELL_WIDTH, _CELL_HEIGHT = 58.0, 34.0


@dataclass(frozen=True)
class Panel:
    """One heat map.

    Attributes:
        title: which blocks it shows.
        blocks: by (width before, width).
    """

    title: str
    blocks: dict[tuple[int, int], TableBlock]


def panels(blocks: Sequence[TableBlock]) -> tuple[list[Panel], list[TableBlock]]:
    """Group the blocks of stages into heat maps; return those and the blocks that are in none (stem, heads, …)."""
    grouped: dict[tuple[int, bool, str, tuple[int, int], tuple[int, int]], list[TableBlock]] = {}
    others = []
    for block in blocks:
        if block.stage is None:
            others.append(block)
        else:
            group = (block.stage, not block.first, block.kind, block.map_before, block.map_after)
            grouped.setdefault(group, []).append(block)
    found = []
    for (stage, later, kind, before, after), members in sorted(grouped.items()):
        cells: dict[tuple[int, int], TableBlock] = {}
        for block in members:
            place = (block.width_before, block.width)
            # Two blocks in one cell (a projection with equal widths, say) cannot both be shown: the rest is listed.
            if place in cells:
                others.append(block)
            else:
                cells[place] = block
        which = "later blocks" if later else "first block"
        sizes = f"{before[0]}×{before[1]}" + (f" → {after[0]}×{after[1]}" if before != after else "")
        found.append(Panel(f"stage {stage}, {which}: {kind}, map {sizes}", cells))
    return found, others


@dataclass(frozen=True)
class ColourScale:
    """Colours of latencies, logarithmic.

    Attributes:
        low_ms: lightest.
        high_ms: darkest.
    """

    low_ms: float
    high_ms: float

    def colour(self, value_ms: float) -> tuple[str, str]:
        """Return the cell's colour and the class of the text on it."""
        span = math.log(self.high_ms / self.low_ms) if self.high_ms > self.low_ms else 0.0
        share = math.log(value_ms / self.low_ms) / span if span else 0.0
        position = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
        index = min(int(position), len(_CIVIDIS) - 2)
        mixed = [a + (b - a) * (position - index) for a, b in zip(_CIVIDIS[index], _CIVIDIS[index + 1], strict=True)]
        red, green, blue = (round(part) for part in mixed)
        # Relative luminance (WCAG 2): white text from where its contrast is the better one.
        linear = [(part / 255) ** 2.2 for part in mixed]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        return f"#{red:02x}{green:02x}{blue:02x}", "on-light" if luminance > 0.18 else "on-dark"


def colour_scale(blocks: Sequence[TableBlock]) -> ColourScale | None:
    """Return the common colours of all heat maps; None where nothing was measured."""
    known = [block.hot_ms for block in blocks if block.stage is not None and block.hot_ms]
    return ColourScale(min(known), max(known)) if known else None


def heat_map(panel: Panel, colours: ColourScale) -> Element:
    """Draw one heat map."""
    befores = sorted({before for before, _ in panel.blocks})
    widths = sorted({width for _, width in panel.blocks})
    left, top = 62.0, 20.0
    width, height = left + _CELL_WIDTH * len(widths) + 2, top + _CELL_HEIGHT * len(befores) + 44
    root = canvas(
        width, height, f"Hot latency in ms, {panel.title}: width before (rows) by width (columns)", "chart heat"
    )
    for row, before in enumerate(befores):
        y = top + row * _CELL_HEIGHT
        node(
            root,
            "text",
            numbers.count(before),
            class_="tick",
            x=left - 8,
            y=y + _CELL_HEIGHT / 2 + 4,
            text_anchor="end",
        )
        for column, after in enumerate(widths):
            block = panel.blocks.get((before, after))
            if block is not None:
                _cell(root, block, colours, left + column * _CELL_WIDTH, y)
    base = top + _CELL_HEIGHT * len(befores)
    for column, after in enumerate(widths):
        x = left + (column + 0.5) * _CELL_WIDTH
        node(root, "text", numbers.count(after), class_="tick", x=x, y=base + 16, text_anchor="middle")
    middle = left + _CELL_WIDTH * len(widths) / 2
    node(root, "text", "width, channels", class_="axis-title", x=middle, y=base + 36, text_anchor="middle")
    centre = top + _CELL_HEIGHT * len(befores) / 2
    title = "width before" if len(befores) >= 3 else "before"
    node(
        root,
        "text",
        title,
        class_="axis-title",
        text_anchor="middle",
        transform=f"translate(13 {centre:.1f}) rotate(-90)",
    )
    return root


def _cell(root: Element, block: TableBlock, colours: ColourScale, x: float, y: float) -> None:
    group = node(root, "g")
    if block.hot_ms is None:
        node(group, "rect", class_="cell-unknown", x=x, y=y, width=_CELL_WIDTH - 1, height=_CELL_HEIGHT - 1)
        node(group, "text", "skipped", class_="cell-note", x=x + _CELL_WIDTH / 2, y=y + 21, text_anchor="middle")
    else:
        fill, class_ = colours.colour(block.hot_ms)
        node(group, "rect", class_="cell", fill=fill, x=x, y=y, width=_CELL_WIDTH - 1, height=_CELL_HEIGHT - 1)
        text = numbers.number(block.hot_ms)
        node(
            group,
            "text",
            text,
            class_=f"cell-text {class_}",
            x=x + _CELL_WIDTH / 2 - 0.5,
            y=y + 21,
            text_anchor="middle",
        )
    tooltip(group, describe(block))


def describe(block: TableBlock) -> str:
    """Return what a tooltip says of a block."""
    lines = [block.text]
    if block.hot_ms is None:
        lines.append(block.note or "not measured")
    else:
        lines.append(f"hot {numbers.ms_with_half_width(block.hot_ms, block.half_width_ms)}, {_samples(block)}")
        if block.cold_ms is not None:
            lines.append(f"cold {numbers.ms(block.cold_ms)}, cold / hot {block.cold_ms / block.hot_ms:.2f}")
    if block.macs is not None:
        lines.append(f"{numbers.scaled(block.macs)} MACs")
    return "\n".join(lines)


def _samples(block: TableBlock) -> str:
    return f"{block.n} samples" if block.n else "aggregates only"


def colour_bar(colours: ColourScale) -> Element:
    """Draw the legend of the colours."""
    root = canvas(300, 40, f"Colours from {numbers.ms(colours.low_ms)} (light) to {numbers.ms(colours.high_ms)} (dark)")
    steps = 60
    for index in range(steps):
        value = colours.low_ms * (colours.high_ms / colours.low_ms) ** (index / (steps - 1))
        node(
            root,
            "rect",
            fill=colours.colour(value)[0],
            x=10 + index * 280 / steps,
            y=4,
            width=280 / steps + 0.4,
            height=12,
        )
    shown = [(0.0, "start"), (0.5, "middle"), (1.0, "end")] if colours.high_ms > colours.low_ms else [(0.0, "start")]
    for share, anchor in shown:
        text = numbers.ms(colours.low_ms * (colours.high_ms / colours.low_ms) ** share)
        node(root, "text", text, class_="tick", x=10 + 280 * share, y=32, text_anchor=anchor)
    return root

"""A wider block cannot be faster than a narrower one: find pairs whose measurements say otherwise.

Two blocks are compared only where they take the same input and are made of the same ops, projection included, so
that nothing differs but how many channels their ops write. (A bottleneck 256→512 legitimately costs more than one
512→512: the first has a projection. Such blocks are only comparable within whole networks.)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfmobile.latency.entries import TableEntry
from dfmobile.latency.pooled import Precision, pooled_precision

# Two passes do not show how much passes scatter; and differences below 1 % matter to nobody.
LEAST_PASSES = 3
LEAST_EXCESS = 0.01

_OP = re.compile(r"\w+(?:\([^)]*\))?(?=\[)")
_WIDTH = re.compile(r"\b(out_channels|out_features|sizes)=([0-9]+(?:x[0-9]+)*)")


@dataclass(frozen=True)
class OrderFinding:
    """A pair of blocks that contradicts the order beyond both intervals.

    Attributes:
        narrow_key: LUT key of the narrower block, measured slower.
        wide_key: LUT key of the wider block, measured faster.
        narrow: the narrower block, for people.
        wide: the wider block, for people.
        narrow_ms: hot median.
        wide_ms: hot median.
        gap_ms: between the lower end of the narrower block's interval and the upper end of the wider one's.
    """

    narrow_key: str
    wide_key: str
    narrow: str
    wide: str
    narrow_ms: float
    wide_ms: float
    gap_ms: float

    @property
    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.wide} takes {self.wide_ms:.4g} ms, less than the narrower {self.narrow} with"
            f" {self.narrow_ms:.4g} ms, {self.gap_ms:.3g} ms beyond both intervals"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "narrow_key": self.narrow_key,
            "wide_key": self.wide_key,
            "narrow": self.narrow,
            "wide": self.wide,
            "narrow_ms": self.narrow_ms,
            "wide_ms": self.wide_ms,
            "gap_ms": self.gap_ms,
        }


def order_findings(
    entries: Sequence[TableEntry], precision: Mapping[str, Precision] | None = None
) -> list[OrderFinding]:
    """Return every contradiction among the blocks of a table, largest first.

    Args:
        entries: of one table.
        precision: of the entries by key; None: computed here.
    """
    precision = pooled_precision(entries) if precision is None else precision
    alike: dict[Any, list[tuple[tuple[int, ...], TableEntry]]] = defaultdict(list)
    for entry in entries:
        if entry.passes >= LEAST_PASSES and entry.key in precision:
            structure, widths = shape_of(entry.key)
            alike[structure].append((widths, entry))
    found = []
    for group in alike.values():
        for narrow_widths, narrow in group:
            for wide_widths, wide in group:
                if narrower(narrow_widths, wide_widths):
                    low_ms = narrow.hot_ms - precision[narrow.key].half_width_ms
                    gap_ms = low_ms - wide.hot_ms - precision[wide.key].half_width_ms
                    if gap_ms > 0 and narrow.hot_ms > (1 + LEAST_EXCESS) * wide.hot_ms:
                        found.append(
                            OrderFinding(
                                narrow.key, wide.key, narrow.text, wide.text, narrow.hot_ms, wide.hot_ms, gap_ms
                            )
                        )
    return sorted(found, key=lambda item: (-item.gap_ms, item.narrow_key, item.wide_key))


def shape_of(key: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Split a LUT key into what must be equal and what may differ: (inputs and ops without widths, widths).

    Ops are taken in the order of their text: a key orders the operands of an add by a hash, not by their places.
    """
    inputs, _, rest = key.partition(" | ")
    ops = []
    for op in _OP.findall(rest):
        widths = tuple(int(number) for match in _WIDTH.finditer(op) for number in match.group(2).split("x"))
        ops.append((_WIDTH.sub(r"\1=*", op), widths))
    ops.sort()
    return (inputs, *(text for text, _ in ops)), tuple(number for _, widths in ops for number in widths)


def narrower(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Tell whether no width of ``left`` is larger, and one is smaller."""
    return left != right and len(left) == len(right) and all(a <= b for a, b in zip(left, right, strict=True))

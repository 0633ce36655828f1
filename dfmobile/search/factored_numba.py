"""Inner loops of the factored engine, compiled by numba (extra ``fast``); ``factored_numpy`` has their equals.

Compiled code is cached on disk, so that only the first search of an installation waits for the compiler. Where the
cache cannot be written, each process compiles anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dfmobile.architecture.spaces.stage_tables import Array, Variant
from dfmobile.errors import import_extra
from dfmobile.search.factored_layout import Box, Ints, Layout
from dfmobile.search.factored_masks import Masks


class NumbaKernels:
    """See ``factored_numpy.NumpyKernels``.

    Raises:
        MissingExtraError: if numba is not installed.
    """

    name = "numba"

    def __init__(self) -> None:
        import_extra("numba", "fast", "compiled search")
        from dfmobile.search import factored_loops

        self._loops = factored_loops

    def fill(self, bits: Any, base: int, layout: Layout, variant: Variant, low: float, high: float) -> Ints:
        """See ``NumpyKernels.fill``."""
        counted = np.zeros(layout.lists, np.int64)
        self._loops.fill(bits, base, *_chains(layout, layout.whole, variant), *_tails(layout, layout.whole, variant),
                   low, high, counted)  # fmt: skip
        return counted

    def clear(self, bits: Any, base: int, layout: Layout, box: Box, variant: Variant, low: float, high: float) -> Ints:
        """See ``NumpyKernels.clear``."""
        counted = np.zeros(layout.lists, np.int64)
        self._loops.clear(bits, base, *_chains(layout, box, variant), *_tails(layout, box, variant), low, high, counted)
        return counted

    def count(
        self, layout: Layout, box: Box, variant: Variant, low: float, high: float, masks: Masks, allowed: Any
    ) -> Ints:
        """See ``NumpyKernels.count``."""
        counted = np.zeros(layout.lists, np.int64)
        self._loops.count(*_chains(layout, box, variant), *_tails(layout, box, variant), low, high,
                    masks.words3, masks.words4, masks.words5, masks.thresholds_ms, allowed, counted)  # fmt: skip
        return counted


def _chains(layout: Layout, box: Box, variant: Variant) -> tuple[Any, ...]:
    return (
        variant[0], variant[1], layout.last, layout.start, layout.offset3, layout.offset4,
        box.third, box.fourth, box.from4,
    )  # fmt: skip


def _tails(layout: Layout, box: Box, variant: Variant) -> tuple[Ints, Array, Ints]:
    """Return per rank the lists that can follow, fastest first, ``[m, n]``, their values, and how many they are."""
    ranks = len(layout.start)
    items = np.zeros((ranks, len(box.fifth)), np.int64)
    values = np.full((ranks, len(box.fifth)), np.inf)
    lengths = len(box.fifth) - box.from5
    for rank in range(ranks):
        fifth = box.fifth[box.from5[rank] :]
        row = variant[2][rank, fifth]
        order = np.argsort(row)
        items[rank, : len(fifth)], values[rank, : len(fifth)] = fifth[order], row[order]
    return items, values, lengths

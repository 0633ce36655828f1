"""Inner loops of the factored engine in numpy: what runs without numba, and what numba's results are tested against."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.order_words import Words
from dfmobile.architecture.spaces.stage_tables import Variant
from dfmobile.search.factored_layout import Box, BoxBlock, Ints, Layout
from dfmobile.search.factored_masks import Masks

Bits = npt.NDArray[np.uint8]


class Kernels(Protocol):
    """What the engine needs to be fast."""

    name: str

    def fill(self, bits: Bits, base: int, layout: Layout, variant: Variant, low: float, high: float) -> Ints:
        """Set the bits of all chains with low ≤ value < high; return how many by list of stage 3."""

    def clear(self, bits: Bits, base: int, layout: Layout, box: Box, variant: Variant, low: float, high: float) -> Ints:
        """Clear the set bits of a box's chains with low ≤ value < high; return how many by list of stage 3."""

    def count(
        self, layout: Layout, box: Box, variant: Variant, low: float, high: float, masks: Masks, allowed: Words
    ) -> Ints:
        """Count a box's chains with low ≤ value < high that no constraint rules out, by list of stage 3."""


class NumpyKernels:
    """The same, some hundred thousand chains at a time."""

    name = "numpy"

    def fill(self, bits: Bits, base: int, layout: Layout, variant: Variant, low: float, high: float) -> Ints:
        """See ``Kernels``."""
        counted = np.zeros(layout.lists, np.int64)
        for block in layout.whole.blocks(layout, variant):
            inside = (block.values >= low) & (block.values < high)
            _write(bits, (block.numbers(layout) + base)[inside], value=True)
            _add(counted, block, inside)
        return counted

    def clear(self, bits: Bits, base: int, layout: Layout, box: Box, variant: Variant, low: float, high: float) -> Ints:
        """See ``Kernels``."""
        counted = np.zeros(layout.lists, np.int64)
        for block in box.blocks(layout, variant):
            inside = (block.values >= low) & (block.values < high)
            rows = np.nonzero(inside)[0]
            numbers = (block.numbers(layout) + base)[inside]
            alive = read_bits(bits, numbers)
            _write(bits, numbers[alive], value=False)
            counted += np.bincount(block.third[rows[alive]], minlength=layout.lists)
        return counted

    def count(
        self, layout: Layout, box: Box, variant: Variant, low: float, high: float, masks: Masks, allowed: Words
    ) -> Ints:
        """See ``Kernels``."""
        counted = np.zeros(layout.lists, np.int64)
        classes = [_classes(words) for words in (masks.words3, masks.words4, masks.words5)]
        (_, class3), (kinds4, class4), (kinds5, class5) = classes
        kinds3 = classes[0][0] & allowed
        for block in box.blocks(layout, variant):
            inside = (block.values >= low) & (block.values < high)
            # Lists with the same bits are one class: limits are worked out once for each pair of classes.
            pairs, pair = np.unique(class3[block.third] * len(kinds4) + class4[block.fourth], return_inverse=True)
            tails, tail = np.unique(class5[block.fifth], return_inverse=True)
            prefix = kinds3[pairs // len(kinds4)] & kinds4[pairs % len(kinds4)]
            limits = _limits(prefix, kinds5[tails], masks)
            if np.isfinite(limits).any():
                inside &= block.values < limits[pair][:, tail]
            _add(counted, block, inside)
        return counted


def read_bits(bits: Bits, numbers: Ints) -> npt.NDArray[np.bool_]:
    """Return the bits of some numbers."""
    found: npt.NDArray[np.bool_] = (bits[numbers >> 3] >> (numbers & 7).astype(np.uint8)) & 1 == 1
    return found


def _write(bits: Bits, numbers: Ints, *, value: bool) -> None:
    """Set or clear the bits of numbers, each given once."""
    if not len(numbers):
        return
    numbers = np.sort(numbers)
    places = numbers >> 3
    starts = np.flatnonzero(np.concatenate([[True], places[1:] != places[:-1]]))
    together = np.bitwise_or.reduceat(np.left_shift(1, numbers & 7).astype(np.uint8), starts)
    if value:
        bits[places[starts]] |= together
    else:
        bits[places[starts]] &= ~together


def _add(counted: Ints, block: BoxBlock, inside: npt.NDArray[np.bool_]) -> None:
    np.add.at(counted, block.third, inside.sum(axis=1))


def _classes(words: Words) -> tuple[Words, Ints]:
    """Return the distinct rows of words, and which one each row is."""
    kinds, number = np.unique(words, axis=0, return_inverse=True)
    return kinds, np.asarray(number, np.int64).reshape(-1)


def _limits(left: Words, right: Words, masks: Masks) -> Any:
    """Return the lowest threshold that each pair of classes shares, ``[left, right]``; infinite without one."""
    found = np.full((len(left), len(right)), np.inf)
    for word in range(left.shape[1]):
        hit = left[:, word][:, None] & right[:, word][None]
        rows = np.nonzero((hit != 0) & np.isinf(found))
        if len(rows[0]):
            single = hit[rows] & (~hit[rows] + np.uint64(1))
            bit = np.frexp(single.astype(np.float64))[1] - 1
            found[rows] = masks.thresholds_ms[(word << 6) + bit]
    return found

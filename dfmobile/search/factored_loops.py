"""The engine's compiled loops. Imported by ``factored_numba`` alone, since it needs numba as soon as it is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# Position of the only bit of a word, by a multiplication (de Bruijn sequence; Leiserson, Prokop, Randall 1998).
_DE_BRUIJN = 0x03F79D71B4CB0A89
_POSITIONS = np.zeros(64, np.int64)
for _bit in range(64):
    _POSITIONS[((_DE_BRUIJN << _bit) & (2**64 - 1)) >> 58] = _bit


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile when first called, and keep the result on disk where that is possible."""
    try:
        found: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder that the cache could be written to
        found = numba.njit(nogil=True)(function)
    return found


@_compiled
def _search(
    values: Any,
    count: Any,
    base: Any,
    bound: Any,
) -> Any:
    """Return how many of ascending values have base + value < bound."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if base + values[middle] < bound:
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def fill(
    bits: Any,
    origin: Any,
    first: Any,
    following: Any,
    last: Any,
    start: Any,
    offset3: Any,
    offset4: Any,
    third: Any,
    fourth: Any,
    from4: Any,
    items: Any,
    values: Any,
    lengths: Any,
    low: Any,
    high: Any,
    counted: Any,
) -> None:
    """Set the bits of chains with low ≤ value < high, and count them by list of stage 3."""
    for three in third:
        rank3 = last[three]
        for place in range(from4[rank3], len(fourth)):
            four = fourth[place]
            rank4 = last[four]
            base = first[three] + following[rank3, four]
            number = origin + offset3[three] + offset4[four] - offset4[start[rank3]] - start[rank4]
            begin = _search(values[rank4], lengths[rank4], base, low)
            end = _search(values[rank4], lengths[rank4], base, high)
            for position in range(begin, end):
                bit = number + items[rank4, position]
                bits[bit >> 3] |= np.uint8(1 << (bit & 7))
            counted[three] += end - begin


@_compiled
def clear(
    bits: Any,
    origin: Any,
    first: Any,
    following: Any,
    last: Any,
    start: Any,
    offset3: Any,
    offset4: Any,
    third: Any,
    fourth: Any,
    from4: Any,
    items: Any,
    values: Any,
    lengths: Any,
    low: Any,
    high: Any,
    counted: Any,
) -> None:
    """Clear the set bits of a box's chains with low ≤ value < high, and count them by list of stage 3."""
    for three in third:
        rank3 = last[three]
        cleared = 0
        for place in range(from4[rank3], len(fourth)):
            four = fourth[place]
            rank4 = last[four]
            base = first[three] + following[rank3, four]
            number = origin + offset3[three] + offset4[four] - offset4[start[rank3]] - start[rank4]
            for position in range(_search(values[rank4], lengths[rank4], base, low), lengths[rank4]):
                if not base + values[rank4, position] < high:
                    break
                bit = number + items[rank4, position]
                byte, mask = bits[bit >> 3], np.uint8(1 << (bit & 7))
                if byte & mask:
                    bits[bit >> 3] = byte & ~mask
                    cleared += 1
        counted[three] += cleared


@_compiled
def count(
    first: Any,
    following: Any,
    last: Any,
    start: Any,
    offset3: Any,
    offset4: Any,
    third: Any,
    fourth: Any,
    from4: Any,
    items: Any,
    values: Any,
    lengths: Any,
    low: Any,
    high: Any,
    words3: Any,
    words4: Any,
    words5: Any,
    thresholds: Any,
    allowed: Any,
    counted: Any,
) -> None:
    """Count a box's chains with low ≤ value < high that no constraint rules out, by list of stage 3."""
    size = len(allowed)
    both = np.zeros(size, np.uint64)
    zero, one, sequence, shift = np.uint64(0), np.uint64(1), np.uint64(_DE_BRUIJN), np.uint64(58)
    for three in third:
        rank3 = last[three]
        alive = 0
        for place in range(from4[rank3], len(fourth)):
            four = fourth[place]
            rank4 = last[four]
            base = first[three] + following[rank3, four]
            begin = _search(values[rank4], lengths[rank4], base, low)
            end = _search(values[rank4], lengths[rank4], base, high)
            if begin == end:
                continue
            lowest = -1
            for word in range(size):
                both[word] = words3[three, word] & words4[four, word] & allowed[word]
                if lowest < 0 and both[word] != zero:
                    single = both[word] & (~both[word] + one)
                    lowest = (word << 6) + _POSITIONS[(single * sequence) >> shift]
            if lowest < 0:
                alive += end - begin
                continue
            # What is faster than the lowest threshold of all is not ruled out.
            free = min(max(begin, _search(values[rank4], lengths[rank4], base, thresholds[lowest])), end)
            alive += free - begin
            for position in range(free, end):
                five = items[rank4, position]
                dead = False
                for word in range(lowest >> 6, size):
                    hit = both[word] & words5[five, word]
                    if hit != zero:
                        single = hit & (~hit + one)
                        threshold = thresholds[(word << 6) + _POSITIONS[(single * sequence) >> shift]]
                        dead = base + values[rank4, position] >= threshold
                        break
                if not dead:
                    alive += 1
        counted[three] += alive

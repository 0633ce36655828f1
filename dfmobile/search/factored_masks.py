"""Constraints of a search as bits: for each stage list, which of the evaluated architectures it is below.

A constraint (w, t) rules out every s ≺ w with Lat(s) ≥ t. Bits are sorted by t, so the lowest common bit of the words
of an architecture's lists is the lowest threshold that it has to stay below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.order_words import Words

Row = tuple[int, int, int, int]
"""Lists of stages 3, 4, 5, and the number of the decoder."""


@dataclass(frozen=True)
class Masks:
    """Constraints that are not implied by another one, lowest threshold first; T of them in W words.

    Attributes:
        words3: per list, bit i: it is at or below the list of stage 3 of constraint i, uint64 ``[L, W]``.
        words4: the same of stage 4.
        words5: the same of stage 5.
        allowed: per decoder, bit i: it is at or below that of constraint i, uint64 ``[D, W]``.
        thresholds_ms: ``[64 W]``, ascending, padded with infinity.
    """

    words3: Words
    words4: Words
    words5: Words
    allowed: Words
    thresholds_ms: npt.NDArray[np.float64]

    def limits(
        self,
        decoder: int | npt.NDArray[np.int64],
        third: npt.NDArray[np.int64],
        fourth: npt.NDArray[np.int64],
        fifth: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float64]:
        """Return the latency that each architecture has to stay below, infinite where no constraint concerns it.

        Args:
            decoder: number of the decoder of all, or of each.
            third: list of stage 3 of each.
            fourth: of stage 4.
            fifth: of stage 5.
        """
        found = np.full(len(fifth), np.inf)
        known = np.zeros(len(fifth), bool)
        for word in range(self.allowed.shape[1]):
            hit = self.words3[third, word] & self.words4[fourth, word] & self.words5[fifth, word]
            hit &= self.allowed[decoder, word]
            rows = np.flatnonzero((hit != 0) & ~known)
            if len(rows):
                found[rows] = self.thresholds_ms[(word << 6) + lowest_bits(hit[rows])]
                known[rows] = True
        return found


def lowest_bits(words: Words) -> npt.NDArray[np.int64]:
    """Return the position of the lowest bit of each word, none of which is 0."""
    single = words & (~words + np.uint64(1))
    # A power of two is exact in float64, and its exponent is the position.
    return np.asarray(np.frexp(single.astype(np.float64))[1] - 1, np.int64)


def build_masks(
    rows: Sequence[Row],
    thresholds_ms: Sequence[float],
    below: Callable[[int], npt.NDArray[np.bool_]],
    decoder_order: npt.NDArray[np.bool_],
    lists: int,
) -> Masks:
    """Return constraints as bits; those that another one implies are left out.

    Args:
        rows: w of each.
        thresholds_ms: t of each; infinite ones rule nothing out.
        below: per list the lists at or below it, ``[L]``.
        decoder_order: ``[D, D]``.
        lists: L.
    """
    kept = _needed(rows, np.asarray(thresholds_ms, np.float64), below, decoder_order)
    size = max(1, -(-len(kept) // 64))
    thresholds = np.full(64 * size, np.inf)
    thresholds[: len(kept)] = [thresholds_ms[number] for number in kept]
    words = [_packed([below(rows[number][stage]) for number in kept], size, lists) for stage in range(3)]
    allowed = _packed([decoder_order[:, rows[number][3]] for number in kept], size, len(decoder_order))
    return Masks(words[0], words[1], words[2], allowed, thresholds)


def _packed(columns: Sequence[npt.NDArray[np.bool_]], size: int, length: int) -> Words:
    table = np.zeros((64 * size, length), bool)
    for number, column in enumerate(columns):
        table[number] = column
    packed = np.packbits(table, axis=0, bitorder="little")
    return np.ascontiguousarray(packed.T).view("<u8").astype(np.uint64)


def _needed(
    rows: Sequence[Row],
    thresholds_ms: npt.NDArray[np.float64],
    below: Callable[[int], npt.NDArray[np.bool_]],
    decoder_order: npt.NDArray[np.bool_],
) -> list[int]:
    """Return the constraints, lowest threshold first, that no other one implies."""
    order = [int(item) for item in np.argsort(thresholds_ms, kind="stable") if thresholds_ms[item] < np.inf]
    if not order:
        return []
    chosen = np.array([rows[number] for number in order])
    implied = decoder_order[np.ix_(chosen[:, 3], chosen[:, 3])]
    for stage in range(3):
        implied = implied & np.stack([below(int(item))[chosen[:, stage]] for item in chosen[:, stage]], axis=1)
    # [i, j]: what constraint i rules out, j rules out too, as its threshold is no higher (j comes before i).
    redundant = np.tril(implied, -1).any(axis=1)
    return [number for number, drop in zip(order, redundant, strict=True) if not drop]

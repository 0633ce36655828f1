"""Chains of three stage lists in a fixed order, and boxes of them, without storing anything per chain.

Chains are numbered as ``space.rows()`` lists them: by the list of stage 3, then 4, then 5. Since lists are sorted by
first width, those that can follow a list are a suffix, and a chain's number is arithmetic on a few small arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.stage_tables import Array, StageTables, Variant

Ints = npt.NDArray[np.int64]
_BLOCK = 1 << 19  # chains handled at once by numpy: bounds its memory


class Layout:
    """Numbers of chains.

    Args:
        tables: for how lists chain; their values are not looked at.
    """

    def __init__(self, tables: StageTables) -> None:
        self.lists = tables.lists
        self.last = tables.last_rank
        self.start = tables.suffix_start
        self.tails = tables.tails
        self.heads = tables.heads
        self.chains = int(self.heads.sum())
        # Number of the first chain that begins with a list; and how many chains precede a list among its followers.
        self.offset3: Ints = np.cumsum(self.heads) - self.heads
        self.offset4: Ints = np.cumsum(self.tails) - self.tails

    def number(self, third: int, fourth: int, fifth: int) -> int:
        """Return a chain's number."""
        before = self.offset4[fourth] - self.offset4[self.start[self.last[third]]]
        return int(self.offset3[third] + before + fifth - self.start[self.last[fourth]])

    def numbers(self, lists: Ints) -> Ints:
        """Return the numbers of chains, ``[N]``, from their lists, ``[N, 3]``."""
        third, fourth, fifth = lists.T
        before = self.offset4[fourth] - self.offset4[self.start[self.last[third]]]
        return np.asarray(self.offset3[third] + before + fifth - self.start[self.last[fourth]], np.int64)

    def is_chain(self, third: int, fourth: int, fifth: int) -> bool:
        """Tell whether three list ids make a chain."""
        inside = all(0 <= item < self.lists for item in (third, fourth, fifth))
        return inside and fourth >= self.start[self.last[third]] and fifth >= self.start[self.last[fourth]]

    @cached_property
    def whole(self) -> Box:
        """All chains."""
        return self.box(*[np.arange(self.lists)] * 3)

    def box(self, third: Ints, fourth: Ints, fifth: Ints) -> Box:
        """Return the chains of given lists, each ascending."""
        return Box(third, fourth, fifth, np.searchsorted(fourth, self.start), np.searchsorted(fifth, self.start))

    def head_blocks(self, variant: Variant, third: int) -> Iterator[HeadBlock]:
        """Yield all chains that begin with a list, in order, some at a time."""
        begin = int(self.start[self.last[third]])
        base = variant[0][third] + variant[1][self.last[third]]
        while begin < self.lists:
            total = np.cumsum(self.tails[begin:])
            end = begin + max(1, int(np.searchsorted(total, _BLOCK, side="right")))
            fourth = np.arange(begin, end)
            lengths = self.tails[begin:end]
            owner = np.repeat(np.arange(end - begin), lengths)
            offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            rank = self.last[fourth][owner]
            fifth = self.start[rank] + offsets
            values = base[fourth][owner] + variant[2][rank, fifth]
            yield HeadBlock(self.number(third, begin, int(fifth[0])), fourth[owner], fifth, values)
            begin = end


@dataclass(frozen=True)
class HeadBlock:
    """Some successive chains that begin with one list.

    Attributes:
        number: of the first chain; the others follow.
        fourth: lists of stage 4, ``[N]``.
        fifth: lists of stage 5, ``[N]``.
        values: of the chains, ``[N]``.
    """

    number: int
    fourth: Ints
    fifth: Ints
    values: Array


@dataclass(frozen=True)
class Box:
    """All chains of some lists.

    Attributes:
        third: lists of stage 3, ascending.
        fourth: of stage 4.
        fifth: of stage 5.
        from4: per rank, position in ``fourth`` of the first list that can follow.
        from5: the same in ``fifth``.
    """

    third: Ints
    fourth: Ints
    fifth: Ints
    from4: Ints
    from5: Ints

    def blocks(self, layout: Layout, variant: Variant) -> Iterator[BoxBlock]:
        """Yield all chains as products of prefixes and lists of stage 5, some at a time."""
        step, begin = max(1, _BLOCK // max(1, len(self.fourth))), 0
        while begin < len(self.third):
            third = self.third[begin : begin + step]
            begin += step
            lengths = len(self.fourth) - self.from4[layout.last[third]]
            owner = np.repeat(third, lengths)
            positions = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            fourth = self.fourth[self.from4[layout.last[owner]] + positions]
            rank = layout.last[fourth]
            base = variant[0][owner] + variant[1][layout.last[owner], fourth]
            for number in range(len(layout.start)):
                fifth = self.fifth[self.from5[number] :]
                chosen = np.flatnonzero(rank == number)
                rows = max(1, _BLOCK // max(1, len(fifth)))
                for start in range(0, len(chosen) if len(fifth) else 0, rows):
                    part = chosen[start : start + rows]
                    values = base[part][:, None] + variant[2][number, fifth][None]
                    yield BoxBlock(owner[part], fourth[part], fifth, values, int(layout.start[number]))


@dataclass(frozen=True)
class BoxBlock:
    """Prefixes, all with the same last width, and all lists that follow each.

    Attributes:
        third: list of stage 3 of each prefix, ``[P]``.
        fourth: list of stage 4 of each prefix, ``[P]``.
        fifth: lists of stage 5, ``[S]``.
        values: of the chains, ``[P, S]``.
        start: the first list that can follow.
    """

    third: Ints
    fourth: Ints
    fifth: Ints
    values: Array
    start: int

    def numbers(self, layout: Layout) -> Ints:
        """Return the chains' numbers, ``[P, S]``."""
        before = layout.offset4[self.fourth] - layout.offset4[layout.start[layout.last[self.third]]]
        return np.asarray((layout.offset3[self.third] + before)[:, None] + (self.fifth - self.start)[None])

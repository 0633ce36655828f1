"""The alive set of the factored engine: a bit an architecture, or nothing but the constraints.

Both keep, for each decoder and list of stage 3 (a *head*), how many of its architectures are alive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.search.factored_layout import Box, HeadBlock, Ints, Layout
from dfmobile.search.factored_masks import Masks, Row, build_masks
from dfmobile.search.factored_numpy import Bits, Kernels, read_bits


class AliveSet(ABC):
    """Which architectures with low ≤ value < high are alive: all at first.

    Args:
        tables: of the values.
        low: of the first architectures.
        high: no architecture has this value or more.
        kernels: the inner loops.
        below: per list, the lists at or below it, ``[L]``.
        decoder_order: whether decoder a precedes decoder b, ``[D, D]``.
    """

    def __init__(
        self,
        tables: StageTables,
        low: float,
        high: float,
        kernels: Kernels,
        below: Callable[[int], npt.NDArray[np.bool_]],
        decoder_order: npt.NDArray[np.bool_],
    ) -> None:
        self.tables = tables
        self.layout = Layout(tables)
        self.low, self.high = low, high
        self.kernels = kernels
        self.below = below
        self.decoder_order = decoder_order
        self.alive_by_head: Ints = self._begin()

    @abstractmethod
    def _begin(self) -> Ints:
        """Return how many are alive, ``[D, L]``."""

    @abstractmethod
    def contains(self, row: Row, value: float) -> bool:
        """Tell whether an architecture with this value is alive."""

    @abstractmethod
    def contains_each(self, decoders: Ints, lists: Ints, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Tell which architectures are alive, ``[N]``.

        Args:
            decoders: number of each one's decoder, ``[N]``.
            lists: of the stages, ``[N, 3]``.
            values: of each, ``[N]``.
        """

    @abstractmethod
    def remove(self, row: Row) -> None:
        """Remove an alive architecture."""

    @abstractmethod
    def rule_out(self, row: Row, low: float, high: float) -> int:
        """Remove what is at or below a row with low ≤ value < high; return how many of them were alive.

        ``rule_out`` with the same row lowers ``low`` each time, and its ``high`` is the ``low`` of the time before.
        """

    @abstractmethod
    def alive_of(self, decoder: int, third: int, block: HeadBlock) -> npt.NDArray[np.bool_]:
        """Return which chains of a block are alive, ``[N]``."""

    @abstractmethod
    def recount(self) -> int:
        """Count anew what is alive."""

    def box_below(self, row: Row) -> Box:
        """Return the chains at or below a row's."""
        return self.layout.box(*[np.flatnonzero(self.below(item)) for item in row[:3]])

    def decoders_below(self, row: Row) -> list[int]:
        """Return the decoders at or below a row's."""
        return [int(item) for item in np.flatnonzero(self.decoder_order[:, row[3]])]


class BitSet(AliveSet):
    """One bit an architecture."""

    def _begin(self) -> Ints:
        layout, tables = self.layout, self.tables
        self._bits: Bits = np.zeros(-(-layout.chains * tables.decoders // 8), np.uint8)
        return np.stack(
            [
                self.kernels.fill(self._bits, d * layout.chains, layout, tables.variant(d), self.low, self.high)
                for d in range(tables.decoders)
            ]
        )

    def contains(self, row: Row, value: float) -> bool:
        """See base class."""
        del value
        number = self._number(row)
        return bool(self._bits[number >> 3] >> (number & 7) & 1)

    def contains_each(self, decoders: Ints, lists: Ints, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """See base class."""
        del values
        return read_bits(self._bits, decoders * self.layout.chains + self.layout.numbers(lists))

    def remove(self, row: Row) -> None:
        """See base class."""
        number = self._number(row)
        self._bits[number >> 3] &= np.uint8(~(1 << (number & 7)) & 255)
        self.alive_by_head[row[3], row[0]] -= 1

    def rule_out(self, row: Row, low: float, high: float) -> int:
        """See base class."""
        layout, box, removed = self.layout, self.box_below(row), 0
        for decoder in self.decoders_below(row):
            cleared = self.kernels.clear(
                self._bits, decoder * layout.chains, layout, box, self.tables.variant(decoder), low, high
            )
            self.alive_by_head[decoder] -= cleared
            removed += int(cleared.sum())
        return removed

    def recount(self) -> int:
        """See base class."""
        return int(np.unpackbits(self._bits).sum(dtype=np.int64))

    def alive_of(self, decoder: int, third: int, block: HeadBlock) -> npt.NDArray[np.bool_]:
        """See base class."""
        begin = decoder * self.layout.chains + block.number
        return read_bits(self._bits, np.arange(begin, begin + len(block.fifth)))

    def _number(self, row: Row) -> int:
        return row[3] * self.layout.chains + self.layout.number(*row[:3])


class ConstraintSet(AliveSet):
    """Constraints (w, t): what is at or below w with a value of t or more is not alive. Nothing else is stored."""

    def _begin(self) -> Ints:
        self._constraints: dict[Row, float] = {}
        self._removed: dict[tuple[int, int], set[Row]] = {}
        return self.count()

    def count(self) -> Ints:
        """Count anew what is alive, exactly, ``[D, L]``."""
        found = np.stack(
            [
                self.kernels.count(
                    self.layout, self.layout.whole, self.tables.variant(decoder), self.low, self.high,
                    self.masks, self.masks.allowed[decoder],
                )
                for decoder in range(self.tables.decoders)
            ]
        )  # fmt: skip
        for (decoder, third), rows in self._removed.items():
            found[decoder, third] -= sum(self._not_ruled_out(row) for row in rows)
        return found

    def recount(self) -> int:
        """See base class."""
        return int(self.count().sum())

    @cached_property
    def masks(self) -> Masks:
        """The constraints as bits."""
        rows, limits = list(self._constraints), list(self._constraints.values())
        return build_masks(rows, limits, self.below, self.decoder_order, self.layout.lists)

    def contains(self, row: Row, value: float) -> bool:
        """See base class."""
        if not self.low <= value < self.high or row in self._removed.get((row[3], row[0]), ()):
            return False
        return self._not_ruled_out(row)

    def contains_each(self, decoders: Ints, lists: Ints, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """See base class."""
        alive: npt.NDArray[np.bool_] = (values >= self.low) & (values < self.high)
        alive &= values < self.masks.limits(decoders, *lists.T)
        for rows in self._removed.values():
            for row in rows:
                alive &= (decoders != row[3]) | (lists != np.array(row[:3])).any(axis=1)
        return alive

    def _not_ruled_out(self, row: Row) -> bool:
        lists = [np.array([item]) for item in row[:3]]
        return self._value(row) < float(self.masks.limits(row[3], lists[0], lists[1], lists[2])[0])

    def _value(self, row: Row) -> float:
        rows = np.array([self.tables.row(row[3], row[:3])], np.int32)
        return float(self.tables.values(rows)[0])

    def remove(self, row: Row) -> None:
        """See base class."""
        self._removed.setdefault((row[3], row[0]), set()).add(row)
        self.alive_by_head[row[3], row[0]] -= 1

    def rule_out(self, row: Row, low: float, high: float) -> int:
        """See base class."""
        box, removed = self.box_below(row), 0
        low, high = max(low, self.low), min(high, self.high)
        for decoder in self.decoders_below(row) if low < high else ():
            gone = self.kernels.count(
                self.layout, box, self.tables.variant(decoder), low, high, self.masks, self.masks.allowed[decoder]
            )
            self.alive_by_head[decoder] -= gone
            removed += int(gone.sum())
        for (decoder, third), rows in self._removed.items():
            # Drawn ones were counted too, unless an earlier constraint had ruled them out.
            for other in rows if low < high else ():
                if self._precedes(other, row) and low <= self._value(other) < high and self._not_ruled_out(other):
                    self.alive_by_head[decoder, third] += 1
                    removed -= 1
        self._constraints[row] = min(low, self._constraints.get(row, np.inf))
        self.__dict__.pop("masks", None)
        return removed

    def _precedes(self, left: Row, right: Row) -> bool:
        lists = all(bool(self.below(b)[a]) for a, b in zip(left[:3], right[:3], strict=True))
        return lists and bool(self.decoder_order[left[3], right[3]])

    def alive_of(self, decoder: int, third: int, block: HeadBlock) -> npt.NDArray[np.bool_]:
        """See base class."""
        alive = (block.values >= self.low) & (block.values < self.high)
        thirds = np.broadcast_to(third, block.fifth.shape)
        alive &= block.values < self.masks.limits(decoder, thirds, block.fourth, block.fifth)
        for row in self._removed.get((decoder, third), ()):
            number = self.layout.number(*row[:3]) - block.number
            if 0 <= number < len(alive):
                alive[number] = False
        return alive

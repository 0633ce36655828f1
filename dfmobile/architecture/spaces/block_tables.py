"""A number of every architecture as a sum over its blocks, by place: what block-level dynamic programming works on.

Nothing here needs the lists of widths, so that a space of any size has such tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class FinitePlaces(NamedTuple):
    """Where a block can stand: ``[m, m]``, ``[k - 1, m, m]`` and ``[m]`` for each stage."""

    first: list[npt.NDArray[np.bool_]]
    following: list[npt.NDArray[np.bool_]]
    end: list[npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class BlockTables:
    """Tables of one number; m widths, up to k blocks a stage, D decoders.

    Attributes:
        start: of the stem, and of what a decoder costs by itself.
        first: per stage, of a first block by (width before, width), ``[m, m]``; infinite where widths would fall.
        following: per stage, of another block by (blocks before it - 1, width before, width), ``[k - 1, m, m]``.
        end: per stage, of what depends on its last width: head, pyramid, controllers, ``[m]``.
        decoder_start: what each decoder adds to ``start``, ``[D]``.
        decoder_end: per stage, what each decoder adds to ``end``, ``[m, D]``.
    """

    start: float
    first: list[Array]
    following: list[Array]
    end: list[Array]
    decoder_start: Array
    decoder_end: list[Array]

    @property
    def decoders(self) -> int:
        """D, how many decoders there are; 1 where the space has none."""
        return len(self.decoder_start)

    def variant(self, decoder: int) -> BlockTables:
        """Return the tables with one decoder."""
        ends = [end + more[:, decoder] for end, more in zip(self.end, self.decoder_end, strict=True)]
        return BlockTables(
            self.start + float(self.decoder_start[decoder]), self.first, self.following, ends,
            np.zeros(1), [np.zeros((len(end), 1)) for end in ends],
        )  # fmt: skip

    def finite(self) -> FinitePlaces:
        """Return which entries are finite."""
        tables = (self.first, self.following, self.end)
        return FinitePlaces(*[[np.isfinite(array) for array in part] for part in tables])

    def with_infinite_as(self, value: float) -> BlockTables:
        """Return tables with another number in place of infinite ones."""
        return self._each(lambda array: np.where(np.isfinite(array), array, value), self.start)

    def scaled(self, factor: float) -> BlockTables:
        """Return the tables times a factor."""
        return self._each(lambda array: array * factor, self.start * factor)

    def plus(self, other: BlockTables) -> BlockTables:
        """Return the sum of two sets of tables of the same space."""

        def added(mine: list[Array], theirs: list[Array]) -> list[Array]:
            return [a + b for a, b in zip(mine, theirs, strict=True)]

        return BlockTables(
            self.start + other.start,
            added(self.first, other.first),
            added(self.following, other.following),
            added(self.end, other.end),
            self.decoder_start + other.decoder_start,
            added(self.decoder_end, other.decoder_end),
        )

    def _each(self, function: Callable[[Array], Array], start: float) -> BlockTables:
        return BlockTables(
            start,
            [function(array) for array in self.first],
            [function(array) for array in self.following],
            [function(array) for array in self.end],
            function(self.decoder_start),
            [function(array) for array in self.decoder_end],
        )

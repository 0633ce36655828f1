"""The lists of widths that a stage can have, and how the lists of successive stages chain without narrowing.

A list is one id. Lists are sorted by first width, so those that can follow a list are a suffix of all: counting,
listing and drawing chains of them is array arithmetic.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.blocks import UNIT_FORMS, unit_form
from dfmobile.architecture.order import Widths, order_matrix
from dfmobile.architecture.spaces.order_words import OrderWords
from dfmobile.errors import InputError

MAX_LISTS = 200_000
# An order matrix has a byte for each pair of lists: 0.9 GB.
MAX_ORDERED_LISTS = 30_000
MAX_DEPTH = 24


class StageLists(ABC):
    """The lists of one stage; every stage of a space has the same.

    Args:
        widths: to choose from, ascending.
        max_depth: most blocks in a list.

    Raises:
        InputError: if depth or widths make no list.
    """

    def __init__(self, widths: Widths, max_depth: int) -> None:
        if not 1 <= max_depth <= MAX_DEPTH:
            raise InputError(
                f"depth {max_depth} is outside 1 to {MAX_DEPTH}",
                hint=f"--max-depth takes 1 to {MAX_DEPTH} blocks a stage",
            )
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1:
            raise InputError(f"widths {list(widths)} are not ascending positive numbers")
        self.widths = widths
        self.max_depth = max_depth
        self.rank = {width: rank for rank, width in enumerate(widths)}

    @abstractmethod
    def _of_depth(self, depth: int) -> Iterator[Widths]:
        """Yield the lists of a depth."""

    @abstractmethod
    def number(self) -> int:
        """Return how many lists there are, without making them."""

    @abstractmethod
    def count_chains(self, stages: int) -> int:
        """Return the exact number of chains of as many lists as there are stages, without making them."""

    @abstractmethod
    def formula(self, stages: int) -> str:
        """Return how ``count_chains`` is computed, for people."""

    def holds(self, widths: Widths) -> bool:
        """Tell whether widths are one of the lists, without making them all."""
        known = 1 <= len(widths) <= self.max_depth and self.rank.keys() >= set(widths)
        return known and list(widths) == sorted(widths)

    def refuse_above(self, limit: int) -> None:
        """Refuse, before any memory is spent, more lists than can be handled.

        Raises:
            InputError: if there are more than ``limit``.
        """
        if self.number() > limit:
            raise InputError(
                f"at depth {self.max_depth} a space of {len(self.widths)} widths has {self.number()} lists a stage; "
                f"at most {limit} can be handled here",
                hint="choose a smaller --max-depth",
            )

    @cached_property
    def lists(self) -> tuple[Widths, ...]:
        """All lists, by id.

        Raises:
            InputError: if there are more than ``MAX_LISTS``.
        """
        self.refuse_above(MAX_LISTS)
        return tuple(sorted(widths for depth in range(1, self.max_depth + 1) for widths in self._of_depth(depth)))

    @cached_property
    def ids(self) -> dict[Widths, int]:
        """List ids by list."""
        return {widths: number for number, widths in enumerate(self.lists)}

    @cached_property
    def order(self) -> npt.NDArray[np.bool_]:
        """``[lists, lists]``: whether list a precedes list b.

        Raises:
            InputError: if there are more than ``MAX_ORDERED_LISTS``.
        """
        self.refuse_above(MAX_ORDERED_LISTS)
        return order_matrix(self.lists)

    @cached_property
    def order_words(self) -> OrderWords:
        """The order of the lists, without a matrix of pairs."""
        return OrderWords(self.lists, self.widths, self.max_depth)

    @cached_property
    def first_rank(self) -> npt.NDArray[np.int64]:
        """Per list, the rank of its first width."""
        return np.array([self.rank[widths[0]] for widths in self.lists])

    @cached_property
    def last_rank(self) -> npt.NDArray[np.int64]:
        """Per list, the rank of its last width."""
        return np.array([self.rank[widths[-1]] for widths in self.lists])

    @cached_property
    def next_counts(self) -> npt.NDArray[np.float64]:
        """``[lists, m, m]``: how often each (width before, width) follows inside a list of m widths to choose from."""
        m = len(self.widths)
        counts = np.zeros((len(self.lists), m, m))
        for number, widths in enumerate(self.lists):
            for before, after in itertools.pairwise(widths):
                counts[number, self.rank[before], self.rank[after]] += 1
        return counts

    @cached_property
    def suffix_start(self) -> npt.NDArray[np.int64]:
        """Per rank, the first list whose first width is at least that."""
        return np.searchsorted(self.first_rank, np.arange(len(self.widths)))

    def chains(self, stages: int) -> npt.NDArray[np.int32]:
        """Return all chains, sorted, int32 ``[chains, stages]``; the caller bounds their number."""
        total = len(self.lists)
        rows = np.arange(total, dtype=np.int32)[:, None]
        for _ in range(stages - 1):
            start = self.suffix_start[self.last_rank[rows[:, -1]]]
            lengths = total - start
            before = np.repeat(np.arange(len(rows)), lengths)
            offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            following = (start[before] + offsets).astype(np.int32)
            rows = np.concatenate([rows[before], following[:, None]], axis=1)
        return rows

    @cached_property
    def _depth_weights(self) -> npt.NDArray[np.float64]:
        """Per list 1 / (depth · number of lists of that depth): depths are drawn about evenly in their logarithm."""
        depths = np.array([len(widths) for widths in self.lists])
        weights: npt.NDArray[np.float64] = 1.0 / (depths * np.bincount(depths)[depths])
        return weights

    def draw(
        self, count: int, stages: int, generator: np.random.Generator, *, spread: bool = False
    ) -> npt.NDArray[np.int32]:
        """Draw chains independently, int32 ``[count, stages]``, without listing them.

        Args:
            count: how many.
            stages: lists in a chain.
            generator: decides alone.
            spread: False: uniformly over chains. True: a chain's probability is the product of its lists' depth
                weights, so that shallow networks, rare among all, are common.
        """
        weights = self._depth_weights if spread else np.ones(len(self.lists))
        # Per stage and list: the weight of the list and all that can follow. Float64 is exact below 2**53.
        tails = [weights]
        for _ in range(stages - 1):
            from_list = np.concatenate([np.cumsum(tails[-1][::-1])[::-1], [0.0]])
            tails.append(weights * from_list[self.suffix_start[self.last_rank]])
        rows = np.empty((count, stages), np.int32)
        low = np.zeros(count, dtype=np.int64)
        for position, tail in enumerate(reversed(tails)):
            cumulative = np.concatenate([[0.0], np.cumsum(tail)])
            base = cumulative[low]
            target = base + generator.random(count) * (cumulative[-1] - base)
            chosen = np.searchsorted(cumulative, target, side="right") - 1
            chosen = np.clip(chosen, low, len(self.lists) - 1)  # rounding at the ends
            rows[:, position] = chosen
            low = self.suffix_start[self.last_rank[chosen]]
        return rows


class RisingLists(StageLists):
    """Non-decreasing lists: 1 to ``max_depth`` widths each.

    A chain of lists with depths n3, n4, n5 is one non-decreasing list cut into stages, so with m widths there are
    Σ C(n3+n4+n5+m-1, m-1) chains over all depths.
    """

    def _of_depth(self, depth: int) -> Iterator[Widths]:
        return itertools.combinations_with_replacement(self.widths, depth)

    def number(self) -> int:
        """See base class."""
        return math.comb(self.max_depth + len(self.widths), self.max_depth) - 1

    def count_chains(self, stages: int) -> int:
        """See base class."""
        m, depth = len(self.widths), self.max_depth
        # How many ways to reach each total depth: a convolution of uniform depths.
        ways = [1]
        for _ in range(stages):
            ways = [
                sum(ways[total - step] for step in range(1, depth + 1) if 0 <= total - step < len(ways))
                for total in range(len(ways) + depth)
            ]
        return sum(number * math.comb(total + m - 1, m - 1) for total, number in enumerate(ways))

    def formula(self, stages: int) -> str:
        """See base class."""
        m, depths = len(self.widths), [f"n{number}" for number in range(3, 3 + stages)]
        return (
            f"sum over depths ({', '.join(depths)}) from 1 to {self.max_depth} of "
            f"C({'+'.join(depths)}+{m - 1}, {m - 1})"
        )


class UniformLists(StageLists):
    """Lists of one width: a width and a depth from 1 to ``max_depth``.

    With m widths, s stages have C(m+s-1, s) non-decreasing widths and ``max_depth`` to the s depths.
    """

    @cached_property
    def next_counts(self) -> npt.NDArray[np.float64]:
        """``[lists, m, forms]``: how often each (width, form of a shuffle unit) follows inside a list."""
        counts = np.zeros((len(self.lists), len(self.widths), len(UNIT_FORMS)))
        for number, widths in enumerate(self.lists):
            for position in range(2, len(widths) + 1):
                form = unit_form(widths[0], position, last=position == len(widths))
                counts[number, self.rank[widths[0]], form] += 1
        return counts

    def _of_depth(self, depth: int) -> Iterator[Widths]:
        return ((width,) * depth for width in self.widths)

    def holds(self, widths: Widths) -> bool:
        """See base class."""
        return super().holds(widths) and len(set(widths)) == 1

    def number(self) -> int:
        """See base class."""
        return len(self.widths) * self.max_depth

    def count_chains(self, stages: int) -> int:
        """See base class."""
        return math.comb(len(self.widths) + stages - 1, stages) * math.prod([self.max_depth] * stages)

    def formula(self, stages: int) -> str:
        """See base class."""
        return f"C({len(self.widths)}+{stages - 1}, {stages}) widths x {self.max_depth}^{stages} depths"

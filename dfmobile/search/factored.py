"""Partial Order Pruning over a stage-factored space: no latency and no row is stored per architecture.

The rule is that of ``pruning``: for each evaluated w one threshold t(w), and every s ≺ w with Lat(s) ≥ t(w) goes. Here
latencies are sums of a few tables (``StageTables``), candidates are numbered by their lists, and the alive set is a
bit an architecture (up to ``MAX_BITS``) or the constraints (w, t(w)) alone. Both give the same counts, alive sets and
draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import Array, StageTables
from dfmobile.errors import InputError, MissingExtraError
from dfmobile.search.base import AliveCandidates, Candidate, Evaluated, Pruner, Reason
from dfmobile.search.boundary import Boundary
from dfmobile.search.factored_layout import HeadBlock
from dfmobile.search.factored_masks import Row
from dfmobile.search.factored_numpy import Kernels, NumpyKernels
from dfmobile.search.factored_sets import AliveSet, BitSet, ConstraintSet
from dfmobile.search.pruning import range_text

MAX_BITS = 100_000_000
MAX_IMPLICIT = 5_000_000_000
"""Each count walks over the space: seconds for a billion."""


def open_kernels(name: str | None = None) -> Kernels:
    """Return the inner loops: numba's where it is installed, else numpy's, which give the same results.

    Args:
        name: ``numba`` or ``numpy``; None: the faster one that is installed.

    Raises:
        MissingExtraError: if numba is asked for and not installed.
        InputError: if there is none of that name.
    """
    if name not in (None, "numba", "numpy"):
        raise InputError(f"unknown engine {name!r}", hint="numba or numpy")
    if name != "numpy":
        from dfmobile.search.factored_numba import NumbaKernels

        try:
            return NumbaKernels()
        except MissingExtraError:
            if name is not None:
                raise
    return NumpyKernels()


class FactoredPruner(Pruner):
    """A pruner for chain spaces with additive latency.

    Args:
        space: the search space.
        tables: its latencies, ms.
        latency_range: lowest and highest latency of a candidate, ends included; None: open.
        stored: ``bits`` an architecture, or ``constraints`` alone; None: by the size of the space.
        kernels: see ``open_kernels``; None: the faster one.
        margin: z must be this much more accurate than w (in accuracy, not σ) to rule out what is below w; 0: no less.

    Raises:
        InputError: if no architecture is within the range, the tables do not fit the space, a latency is not a number,
            or the space is too large even for counting.
    """

    def __init__(
        self,
        space: ChainSpace,
        tables: StageTables,
        latency_range: tuple[float | None, float | None] = (None, None),
        *,
        stored: Literal["bits", "constraints"] | None = None,
        kernels: Kernels | None = None,
        margin: float = 0.0,
    ) -> None:
        size = space.count()
        if tables.count != size:
            raise InputError(f"the latencies are of {tables.count} architectures, space {space.name} has {size}")
        if any(np.isnan(array).any() for array in tables.arrays().values()):
            raise InputError("some predicted latencies are not numbers", hint="check the table: dfmobile lut show")
        limit = MAX_BITS if stored == "bits" else MAX_IMPLICIT
        if size > limit:
            raise InputError(
                f"space {space.name!r} at depth {space.max_depth} has {size} architectures; at most {limit} can be "
                "counted at each step of a search",
                hint="choose a smaller --max-depth",
            )
        self._space = space
        low, high = latency_range
        self._low = -np.inf if low is None else low
        # Infinite latencies are no candidates; the range's end is one.
        self._high = np.inf if high is None else float(np.nextafter(high, np.inf))
        words = space.order_words()
        self._below = lru_cache(maxsize=1024)(words.below)
        self._decoder_order = _decoder_order(space, tables)
        chosen = stored or ("bits" if size <= MAX_BITS else "constraints")
        kind = BitSet if chosen == "bits" else ConstraintSet
        self.stored = chosen
        self._alive: AliveSet = kind(
            tables, self._low, self._high, kernels or open_kernels(), self._below, self._decoder_order
        )
        self.tables = tables
        self._total = self.alive_count
        if self._total == 0:
            lowest, highest = tables.span()
            span = "all infinite" if np.isnan(lowest) else f"from {lowest:.4g} to {highest:.4g} ms"
            raise InputError(
                f"no architecture of {space.name} has a predicted latency in {range_text(latency_range)}",
                hint=f"the space's predicted latencies are {span}; give another --latency LO:HI",
            )
        self._margin = margin
        self._taken: set[Row] = set()
        self._evaluated: list[Evaluated] = []
        self._thresholds_ms: list[float] = []
        self.boundary = Boundary()

    @property
    def total(self) -> int:
        """Number of candidates."""
        return self._total

    @property
    def alive_count(self) -> int:
        """Number of candidates neither drawn nor ruled out."""
        return int(self._alive.alive_by_head.sum())

    @property
    def pruned_count(self) -> int:
        """Number of candidates ruled out without an evaluation."""
        return self.total - self.alive_count - len(self._taken)

    def draw(self, generator: np.random.Generator) -> Candidate:
        """Return an alive candidate, uniformly: the k-th alive one in the fixed order, k uniform.

        Raises:
            LookupError: if none is alive.
        """
        return self._candidate(*self.sample(1, generator), 0)

    def sample(self, count: int, generator: np.random.Generator) -> tuple[npt.NDArray[np.int32], Array]:
        """Draw alive candidates uniformly and independently (one can come twice).

        Args:
            count: how many.
            generator: decides alone.

        Returns:
            Rows, int32 ``[count, columns]``, and their predicted latency, ms.

        Raises:
            LookupError: if none is alive.
        """
        if self.alive_count == 0:
            raise LookupError("no candidate is alive")
        wanted = generator.integers(self.alive_count, size=count)
        order = np.argsort(wanted, kind="stable")
        ends = np.cumsum(self._alive.alive_by_head.reshape(-1))
        heads = np.searchsorted(ends, wanted[order], side="right")
        columns = 3 + self.tables.decoder_ids.shape[1]
        rows, values = np.empty((count, columns), np.int32), np.empty(count)
        groups = np.flatnonzero(np.concatenate([[True], heads[1:] != heads[:-1]]))
        for begin, end in zip(groups, [*groups[1:], count], strict=True):
            decoder, third = divmod(int(heads[begin]), self.tables.lists)
            inside = wanted[order[begin:end]] - (ends[heads[begin]] - self._alive.alive_by_head[decoder, third])
            seen = 0
            for block, alive in self._head(decoder, third):
                here = (inside >= seen) & (inside < seen + len(alive))
                places = alive[inside[here] - seen]
                target = order[begin:end][here]
                rows[target, 0], rows[target, 1], rows[target, 2] = third, block.fourth[places], block.fifth[places]
                rows[target, 3:] = self.tables.decoder_ids[decoder]
                values[target] = block.values[places]
                seen += len(alive)
        return rows, values

    def alive(self, limit: int, generator: np.random.Generator) -> AliveCandidates:
        """See base class; of more than ``limit`` a uniform sample, in which each comes once."""
        if self.alive_count == 0:
            raise LookupError("no candidate is alive")
        if self.alive_count <= limit:
            parts = list(self.alive_rows())
            return AliveCandidates(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        rows, values = self.sample(limit, generator)
        _, first = np.unique(rows, axis=0, return_index=True)
        first.sort()
        return AliveCandidates(rows[first], values[first])

    def varied(self, limit: int, generator: np.random.Generator) -> AliveCandidates:
        """See base class; the other half are the alive ones of as many ``space.spread_rows``.

        Raises:
            LookupError: if none is alive.
        """
        if self.alive_count <= limit:
            return self.alive(limit, generator)
        uniform, values = self.sample(limit // 2, generator)
        drawn = self._space.spread_rows(limit - limit // 2, generator)
        drawn_ms = self.tables.values(drawn)
        kept = (drawn_ms >= self._low) & (drawn_ms < self._high)
        kept &= self._alive.contains_each(self.tables.decoder_of(drawn), drawn[:, :3].astype(np.int64), drawn_ms)
        rows = np.concatenate([uniform, drawn[kept]])
        _, first = np.unique(rows, axis=0, return_index=True)
        return AliveCandidates(rows[first], np.concatenate([values, drawn_ms[kept]])[first])

    def alive_rows(self) -> Iterator[tuple[npt.NDArray[np.int32], Array]]:
        """Yield rows and latencies (ms) of all that is alive, some at a time, in the fixed order."""
        for decoder, third in zip(*np.nonzero(self._alive.alive_by_head), strict=True):
            for block, alive in self._head(int(decoder), int(third)):
                yield self._rows(int(decoder), int(third), block, alive), block.values[alive]

    def best(self, scores: StageTables, latency_range: tuple[float, float] | None = None) -> Candidate | None:
        """Return the alive candidate with the highest additive score, the first in the fixed order among equals.

        Heads are looked at from the highest possible score down, and only while it exceeds what was found.

        Args:
            scores: of the same space; finite.
            latency_range: only candidates of low ≤ latency ≤ high, ms; None: all.

        Returns:
            None if nothing is alive there.
        """
        low, high = latency_range or (-np.inf, np.inf)
        bounds = np.stack([_head_bounds(scores, decoder) for decoder in range(scores.decoders)])
        bounds[self._alive.alive_by_head == 0] = -np.inf
        # Bounds add up in another order than scores do: a little slack keeps rounding from hiding the best.
        slack = 1e-9 * max(1.0, float(np.abs(bounds[np.isfinite(bounds)]).max(initial=0.0)))
        best: tuple[float, int, Candidate] | None = None
        for head in np.argsort(-bounds.reshape(-1), kind="stable"):
            decoder, third = divmod(int(head), self.tables.lists)
            bound = float(bounds[decoder, third])
            if bound == -np.inf or (best is not None and bound + slack < best[0]):
                break
            for block, alive in self._head(decoder, third):
                places = alive[(block.values[alive] >= low) & (block.values[alive] <= high)]
                if not len(places):
                    continue
                rows = self._rows(decoder, third, block, places)
                found = scores.values(rows)
                place = int(np.argmax(found))
                candidate = self._candidate(rows, block.values[places], place)
                if best is None or found[place] > best[0] or (found[place] == best[0] and head < best[1]):
                    best = (float(found[place]), int(head), candidate)
        return None if best is None else best[2]

    def find(self, row: Sequence[int]) -> Candidate | None:
        """Return the candidate with this row; None if its predicted latency is outside the range."""
        given = np.array([row], np.int32)
        number = self._row(row)
        if number is None:
            return None
        value = float(self.tables.values(given)[0])
        return Candidate(tuple(int(item) for item in row), value) if self._low <= value < self._high else None

    def is_alive(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is neither drawn nor ruled out."""
        row, known = self._row(candidate.row), self.find(candidate.row)
        return row is not None and known is not None and self._alive.contains(row, known.predicted_ms)

    def take(self, candidate: Candidate) -> None:
        """Remove an alive candidate from the alive set because it is being evaluated.

        Raises:
            LookupError: if it is not alive.
        """
        row = self._row(candidate.row)
        if row is None or not self.is_alive(candidate):
            raise LookupError(f"candidate {candidate.row} is not alive")
        self._alive.remove(row)
        self._taken.add(row)

    def apply(self, evaluated: Evaluated) -> int:
        """Add a result; rule out by it, and again by every earlier result whose threshold it lowers.

        Returns:
            How many alive candidates this ruled out.
        """
        self.boundary.add(evaluated)
        latency, pruned = evaluated.candidate.predicted_ms, 0
        for position, earlier in enumerate(self._evaluated):
            old = self._thresholds_ms[position]
            if evaluated.accuracy >= earlier.accuracy + self._margin and latency < old:
                self._thresholds_ms[position] = latency
                pruned += self._rule_out(earlier, latency, old)
        best = self.boundary.cheapest(evaluated.accuracy + self._margin)
        threshold = np.inf if best is None else best.candidate.predicted_ms
        self._evaluated.append(evaluated)
        self._thresholds_ms.append(threshold)
        return pruned + (self._rule_out(evaluated, threshold, np.inf) if best is not None else 0)

    def why(self, candidate: Candidate) -> Reason | None:
        """Return the first evaluated w, and the fastest z, that rule a candidate out; None if none does."""
        for evaluated, threshold in zip(self._evaluated, self._thresholds_ms, strict=True):
            if candidate.predicted_ms >= threshold and self._precedes(candidate.row, evaluated.candidate.row):
                better = self.boundary.cheapest(evaluated.accuracy + self._margin)
                if better is not None and candidate.row != evaluated.candidate.row:
                    return Reason(evaluated, better)
        return None

    def recount(self) -> int:
        """Count anew, exactly, what is alive; ``alive_count`` is kept up to date and must be the same."""
        return self._alive.recount()

    def latency_span(self) -> tuple[float, float]:
        """Return the range in which all candidates' latencies are, ms: that of the space within the latency range."""
        low, high = self.tables.span()
        return max(low, self._low), min(high, self._high)

    def latency_histogram(self, edges: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return how many candidates, and how many alive ones, have a latency in each bin (as ``np.histogram``)."""
        both = np.zeros((2, len(edges) - 1), np.int64)
        for decoder in range(self.tables.decoders):
            variant = self.tables.variant(decoder)
            for block in self._alive.layout.whole.blocks(self._alive.layout, variant):
                inside = block.values[(block.values >= self._low) & (block.values < self._high)]
                both[0] += np.histogram(inside, edges)[0]
        for _, values in self.alive_rows():
            both[1] += np.histogram(values, edges)[0]
        return both[0], both[1]

    def _rule_out(self, evaluated: Evaluated, low_ms: float, high_ms: float) -> int:
        row = self._row(evaluated.candidate.row)
        if row is None:
            raise LookupError(f"{evaluated.candidate.row} is not a row of the space")
        return self._alive.rule_out(row, low_ms, high_ms)

    def _row(self, row: Sequence[int]) -> Row | None:
        """Return the lists and the number of the decoder; None if it is no row of the space."""
        third, fourth, fifth = (int(item) for item in row[:3])
        matches = np.flatnonzero((self.tables.decoder_ids == np.array(row[3:], np.int32)).all(axis=1))
        if not len(matches) or not self._alive.layout.is_chain(third, fourth, fifth):
            return None
        return third, fourth, fifth, int(matches[0])

    def _precedes(self, smaller: Sequence[int], larger: Sequence[int]) -> bool:
        left, right = self._row(smaller), self._row(larger)
        if left is None or right is None:
            return False
        lists = all(bool(self._below(b)[a]) for a, b in zip(left[:3], right[:3], strict=True))
        return lists and bool(self._decoder_order[left[3], right[3]])

    def _head(self, decoder: int, third: int) -> Iterator[tuple[HeadBlock, npt.NDArray[np.int64]]]:
        """Yield the chains of a head, some at a time, and the positions of the alive ones."""
        for block in self._alive.layout.head_blocks(self.tables.variant(decoder), third):
            yield block, np.flatnonzero(self._alive.alive_of(decoder, third, block))

    def _rows(self, decoder: int, third: int, block: HeadBlock, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        ids = self.tables.decoder_ids[decoder]
        rows = np.empty((len(places), 3 + len(ids)), np.int32)
        rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:] = third, block.fourth[places], block.fifth[places], ids
        return rows

    def _candidate(self, rows: npt.NDArray[np.int32], values: Array, number: int) -> Candidate:
        return Candidate(tuple(int(item) for item in rows[number]), float(values[number]))


def _decoder_order(space: ChainSpace, tables: StageTables) -> npt.NDArray[np.bool_]:
    """Return whether decoder a precedes decoder b, ``[D, D]``: the AND of its columns' orders."""
    order = np.ones((tables.decoders, tables.decoders), bool)
    for column in range(tables.decoder_ids.shape[1]):
        ids = tables.decoder_ids[:, column]
        order &= space.stage_order(3 + column)[np.ix_(ids, ids)]
    return order


def _head_bounds(scores: StageTables, decoder: int) -> Array:
    """Return per list of stage 3 the highest score of the chains that it begins, ``[L]``."""
    first, fourth, fifth = scores.variant(decoder)
    last, start = scores.last_rank, scores.suffix_start
    behind = np.array([row[begin:].max(initial=-np.inf) for row, begin in zip(fifth, start, strict=True)])
    fourth = fourth + behind[last]
    behind = np.array([row[begin:].max(initial=-np.inf) for row, begin in zip(fourth, start, strict=True)])
    bounds: Array = first + behind[last]
    return bounds

"""Partial Order Pruning over an enumerated space (Li et al., CVPR 2019), vectorised.

The rule: rule out s if some evaluated w has s ≺ w and some z on the boundary has Acc(z) ≥ Acc(w) and
Lat(z) ≤ Lat(s). Acc(s) ≤ Acc(w) follows from the order; the latencies are always compared by the table.

For each evaluated w the rule is one number, the threshold t(w) = min { Lat(z) : z on the boundary,
Acc(z) ≥ Acc(w) }: every s ≺ w with Lat(s) ≥ t(w) goes. Candidates are kept sorted by latency, so that they are
a slice. When a new result lowers the threshold of an earlier w, only the slice between the new and the old
threshold is looked at again. What is ruled out is thus a function of the set of evaluations, whatever their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError
from dfmobile.search.base import AliveCandidates, Candidate, Covered, Evaluated, Pruner, Reason
from dfmobile.search.boundary import Boundary

_CHUNK = 1 << 18  # candidates handled at once: bounds the memory of a gather, and of a draw


class EnumeratedPruner(Pruner):
    """A pruner with one byte of state, a latency and a row per candidate; up to some 10 million architectures.

    Args:
        space: the search space; gives the order of each stage.
        rows: int32 [N, stages], ``space.rows()``.
        predicted_ms: float64 [N], latency by the table; infinite ones are no candidates.
        latency_range: lowest and highest latency of a candidate, ends included; None: open.

    Raises:
        InputError: if no architecture is within the range, or a predicted latency is not a number.
    """

    def __init__(
        self,
        space: SearchSpace,
        rows: npt.NDArray[np.int32],
        predicted_ms: npt.NDArray[np.float64],
        latency_range: tuple[float | None, float | None] = (None, None),
    ) -> None:
        if np.isnan(predicted_ms).any():
            raise InputError("some predicted latencies are not numbers", hint="check the table: dfmobile lut show")
        low, high = latency_range
        inside = finite = np.isfinite(predicted_ms)
        if low is not None:
            inside = inside & (predicted_ms >= low)
        if high is not None:
            inside = inside & (predicted_ms <= high)
        chosen = np.flatnonzero(inside)
        if not len(chosen):
            known = predicted_ms[finite]
            span = f"from {known.min():.4g} to {known.max():.4g} ms" if len(known) else "all infinite"
            raise InputError(
                f"no architecture of {space.name} has a predicted latency in {range_text(latency_range)}",
                hint=f"the space's predicted latencies are {span}; give another --latency LO:HI",
            )
        chosen = chosen[np.argsort(predicted_ms[chosen], kind="stable")]
        self._latencies = predicted_ms[chosen]
        stages = rows.shape[1]
        self._orders = [space.stage_order(stage) for stage in range(stages)]
        small = max(len(order) for order in self._orders) <= np.iinfo(np.int16).max
        self._columns = [
            np.ascontiguousarray(rows[chosen, stage].astype(np.int16 if small else np.int32)) for stage in range(stages)
        ]
        self._alive = np.ones(len(chosen), dtype=bool)
        self._alive_in_chunk = np.array(
            [min(_CHUNK, len(chosen) - start) for start in range(0, len(chosen), _CHUNK)], dtype=np.int64
        )
        self._taken: set[int] = set()
        self._evaluated: list[Evaluated] = []
        self._thresholds_ms: list[float] = []
        self.boundary = Boundary()

    @property
    def total(self) -> int:
        """Number of candidates."""
        return len(self._alive)

    @property
    def alive_count(self) -> int:
        """Number of candidates neither drawn nor ruled out."""
        return int(self._alive_in_chunk.sum())

    @property
    def pruned_count(self) -> int:
        """Number of candidates ruled out without an evaluation."""
        return self.total - self.alive_count - len(self._taken)

    def draw(self, generator: np.random.Generator) -> Candidate:
        """Return an alive candidate, uniformly: the k-th alive one in order of latency, k uniform.

        Raises:
            LookupError: if none is alive.
        """
        count = self.alive_count
        if count == 0:
            raise LookupError("no candidate is alive")
        position = int(generator.integers(count))
        ends = np.cumsum(self._alive_in_chunk)
        chunk = int(np.searchsorted(ends, position, side="right"))
        inside = position - int(ends[chunk] - self._alive_in_chunk[chunk])
        start = chunk * _CHUNK
        return self._candidate(start + int(np.flatnonzero(self._alive[start : start + _CHUNK])[inside]))

    def alive(self, limit: int, generator: np.random.Generator) -> AliveCandidates:
        """Return the alive candidates, fastest first; of more than ``limit``, that many drawn uniformly.

        Raises:
            LookupError: if none is alive.
        """
        indices = np.flatnonzero(self._alive)
        if len(indices) == 0:
            raise LookupError("no candidate is alive")
        if len(indices) > limit:
            indices = np.sort(generator.choice(indices, limit, replace=False, shuffle=False))
        return self._those(indices)

    def varied(self, limit: int, generator: np.random.Generator) -> AliveCandidates:
        """See base class; the other half are those nearest above latencies drawn evenly in the logarithm.

        Raises:
            LookupError: if none is alive.
        """
        indices = np.flatnonzero(self._alive)
        if len(indices) <= limit:
            return self.alive(limit, generator)
        uniform = generator.choice(indices, limit // 2, replace=False, shuffle=False)
        known = self._latencies[indices]
        drawn = np.exp(generator.uniform(np.log(known[0]), np.log(known[-1]), limit - limit // 2))
        spread = indices[np.minimum(np.searchsorted(known, drawn), len(indices) - 1)]
        return self._those(np.unique(np.concatenate([uniform, spread])))

    def _those(self, indices: npt.NDArray[np.int64]) -> AliveCandidates:
        rows = np.stack([column[indices] for column in self._columns], axis=1).astype(np.int32)
        return AliveCandidates(rows, self._latencies[indices])

    def latency_span(self) -> tuple[float, float]:
        """Return the lowest and the highest latency of a candidate, ms."""
        return float(self._latencies[0]), float(self._latencies[-1])

    def find(self, row: Sequence[int]) -> Candidate | None:
        """Return the candidate with this row; None if its predicted latency is outside the range."""
        index = self._index(row)
        return None if index is None else self._candidate(index)

    def is_alive(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is neither drawn nor ruled out."""
        index = self._index(candidate.row)
        return index is not None and bool(self._alive[index])

    def take(self, candidate: Candidate) -> None:
        """Remove an alive candidate from the alive set because it is being evaluated.

        Raises:
            LookupError: if it is not alive.
        """
        index = self._index(candidate.row)
        if index is None or not self._alive[index]:
            raise LookupError(f"candidate {candidate.row} is not alive")
        self._kill(np.array([index]))
        self._taken.add(index)

    def apply(self, evaluated: Evaluated) -> int:
        """Add a result; rule out by it, and again by every earlier result whose threshold it lowers.

        Returns:
            How many alive candidates this ruled out.
        """
        self.boundary.add(evaluated)
        latency = evaluated.candidate.predicted_ms
        pruned = 0
        for position, earlier in enumerate(self._evaluated):
            old = self._thresholds_ms[position]
            if evaluated.accuracy >= earlier.accuracy and latency < old:
                self._thresholds_ms[position] = latency
                pruned += self._rule_out(earlier.candidate.row, latency, old)
        best = self.boundary.cheapest(evaluated.accuracy)
        if best is None:
            raise RuntimeError("an evaluation is neither on the boundary nor dominated by it")
        self._evaluated.append(evaluated)
        self._thresholds_ms.append(best.candidate.predicted_ms)
        return pruned + self._rule_out(evaluated.candidate.row, best.candidate.predicted_ms, np.inf)

    def why(self, candidate: Candidate) -> Reason | Covered | None:
        """Return the first evaluated w, and the fastest z, that rule a candidate out; None if none does."""
        for evaluated, threshold in zip(self._evaluated, self._thresholds_ms, strict=True):
            if candidate.predicted_ms >= threshold and self._precedes(candidate.row, evaluated.candidate.row):
                better = self.boundary.cheapest(evaluated.accuracy)
                if better is not None and candidate.row != evaluated.candidate.row:
                    return Reason(evaluated, better)
        return None

    def pruned_points(self, limit: int = 5000) -> npt.NDArray[np.float64]:
        """Return where ruled-out candidates lie at best, for a plot.

        Args:
            limit: at most this many of them, evenly spaced in order of latency.

        Returns:
            float64 [n, 2]: predicted latency (ms), and the accuracy that they cannot exceed (the lowest accuracy
            of an evaluated architecture at or above them in the order).
        """
        dead = ~self._alive
        dead[list(self._taken)] = False
        indices = np.flatnonzero(dead)
        if len(indices) > limit:
            indices = indices[np.linspace(0, len(indices) - 1, limit).round().astype(np.int64)]
        bound = np.full(len(indices), np.inf)
        for evaluated in self._evaluated:
            below = np.ones(len(indices), dtype=bool)
            for column, order, larger in zip(self._columns, self._orders, evaluated.candidate.row, strict=True):
                below &= order[column[indices], larger]
            bound[below] = np.minimum(bound[below], evaluated.accuracy)
        return np.column_stack([self._latencies[indices], bound])

    def latency_histogram(self, edges: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return how many candidates, and how many alive ones, have a latency in each bin (as ``np.histogram``)."""
        every, alive = (np.histogram(values, edges)[0] for values in (self._latencies, self._latencies[self._alive]))
        return every.astype(np.int64), alive.astype(np.int64)

    def _precedes(self, smaller: Sequence[int], larger: Sequence[int]) -> bool:
        return all(order[a, b] for order, a, b in zip(self._orders, smaller, larger, strict=True))

    def _candidate(self, index: int) -> Candidate:
        return Candidate(tuple(int(column[index]) for column in self._columns), float(self._latencies[index]))

    def _index(self, row: Sequence[int]) -> int | None:
        for start in range(0, self.total, _CHUNK):
            found = np.flatnonzero(self._columns[0][start : start + _CHUNK] == row[0]) + start
            for column, wanted in zip(self._columns[1:], row[1:], strict=True):
                found = found[column[found] == wanted]
            if len(found):
                return int(found[0])
        return None

    def _rule_out(self, row: Sequence[int], low_ms: float, high_ms: float) -> int:
        """Rule out every alive s ≺ row with low_ms ≤ Lat(s) < high_ms; return how many."""
        begin, end = np.searchsorted(self._latencies, [low_ms, high_ms], side="left")
        below = [np.ascontiguousarray(order[:, item]) for order, item in zip(self._orders, row, strict=True)]
        pruned = 0
        for chunk in range(begin // _CHUNK, -(-int(end) // _CHUNK)):
            if self._alive_in_chunk[chunk] == 0:
                continue
            start, stop = max(begin, chunk * _CHUNK), min(end, (chunk + 1) * _CHUNK)
            indices = np.flatnonzero(self._alive[start:stop]) + start
            for column, allowed in zip(self._columns, below, strict=True):
                indices = indices[allowed[column[indices]]]
            self._kill(indices)
            pruned += len(indices)
        return pruned

    def _kill(self, indices: npt.NDArray[np.int64]) -> None:
        """Mark candidates, all in one chunk, as no longer alive."""
        if len(indices):
            self._alive[indices] = False
            self._alive_in_chunk[indices[0] // _CHUNK] -= len(indices)


def range_text(latency_range: tuple[float | None, float | None]) -> str:
    """Return a latency range for people."""
    low, high = latency_range
    return f"[{'-∞' if low is None else f'{low:g}'}, {'∞' if high is None else f'{high:g}'}] ms"

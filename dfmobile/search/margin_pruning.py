"""The pruner of mode ``certified``: a margin for noise, intervals of latencies, and pairs that need no result.

A candidate s is ruled out

- by results: s ≺ w, Acc(z) ≥ Acc(w) + margin, and z is no slower than s; w and z are evaluated;
- by the table alone: s ≺ y, y ≠ s, and y is no slower than s; y is any candidate. What rules y out, rules s out too,
  so chains of such pairs end at an evaluated architecture or at a pair (w, z).

"No slower" is Lat(z) ≤ Lat(s) as predicted; where the table knows the errors of its blocks, the whole 95 % interval
of the difference has to say so. Errors of blocks that both have cancel, so it is narrow where it matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError
from dfmobile.search.base import Candidate, Covered, Evaluated, Reason
from dfmobile.search.noise import Noise, pooled_deviation
from dfmobile.search.pruning import EnumeratedPruner

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int32]

MAX_CERTIFIED = 50_000
"""Candidates at most: a run to empty trains about a quarter of them, and every pair is compared once."""


class Differences(Protocol):
    """How surely two latencies of a space differ."""

    def half_widths_ms(self, left: Rows, right: Rows) -> Array:
        """Return half of the 95 % interval of latency(left) - latency(right), ``[R]``; NaN where nothing is known."""


class MarginPruner(EnumeratedPruner):
    """See the module.

    Args:
        space: the search space.
        rows: int32 ``[N, columns]``, ``space.rows()``.
        predicted_ms: float64 ``[N]``.
        latency_range: of candidates.
        margin: in standard deviations of an accuracy.
        sigma: that standard deviation; None: from the repeats of the first ``repeated`` results. Until it is known,
            results rule out nothing.
        repeated: how many results have repeats.
        differences: compares latencies; None: by the predictions alone.

    Raises:
        InputError: if no architecture is within the range, or more than ``MAX_CERTIFIED`` are.
    """

    def __init__(
        self,
        space: SearchSpace,
        rows: Rows,
        predicted_ms: Array,
        latency_range: tuple[float | None, float | None] = (None, None),
        *,
        margin: float = 0.0,
        sigma: float | None = 0.0,
        repeated: int = 0,
        differences: Differences | None = None,
    ) -> None:
        super().__init__(space, rows, predicted_ms, latency_range)
        if self.total > MAX_CERTIFIED:
            raise InputError(
                f"mode certified runs until no candidate is left, and {self.total} are too many; at most "
                f"{MAX_CERTIFIED} can be",
                hint="give a smaller --max-depth or a narrower --latency, or use --mode budget",
            )
        self._margin_sigmas = margin
        self._given = sigma
        self._repeated = repeated
        self._repeats: list[tuple[float, ...]] = []
        self._differences = differences
        # By candidate: the lowest accuracy at or above it in the order, and the highest that is no slower.
        self._ceiling = np.full(self.total, np.inf)
        self._reach = np.full(self.total, -np.inf)
        self._covered = self._cover()
        self._kill(np.flatnonzero(self._covered >= 0))

    @property
    def noise(self) -> Noise | None:
        """Standard deviation of an accuracy, and where it comes from; None while it is not known."""
        if self._given is not None:
            return Noise(self._given, "given", 0)
        if len(self._repeats) < self._repeated:
            return None
        sigma, freedom = pooled_deviation(self._repeats)
        return Noise(sigma, f"estimated from {len(self._repeats)} architectures", freedom)

    @property
    def margin(self) -> float | None:
        """By how much z has to be more accurate than w; None while the noise is not known."""
        noise = self.noise
        return None if noise is None else self._margin_sigmas * noise.sigma

    @property
    def covered_count(self) -> int:
        """Candidates that the table alone rules out."""
        return int((self._covered >= 0).sum())

    def apply(self, evaluated: Evaluated) -> int:
        """Add a result and rule out by it.

        Returns:
            How many alive candidates this ruled out.
        """
        self.boundary.add(evaluated)
        self._evaluated.append(evaluated)
        self._thresholds_ms.append(math.nan)  # of the rule without a margin; not used here
        if evaluated.repeats:
            self._repeats.append((evaluated.accuracy, *evaluated.repeats))
        below = self._below(evaluated.candidate.row)
        self._ceiling[below] = np.minimum(self._ceiling[below], evaluated.accuracy)
        slower = self._no_faster(evaluated)
        self._reach[slower] = np.maximum(self._reach[slower], evaluated.accuracy)
        margin = self.margin
        if margin is None:
            return 0
        dead = np.flatnonzero(self._alive & (self._reach >= self._ceiling + margin))
        self._kill(dead)
        return len(dead)

    def why(self, candidate: Candidate) -> Reason | Covered | None:
        """Return the least accurate w, and the most accurate z, that rule a candidate out; or y."""
        index, margin = self._index(candidate.row), self.margin
        if index is not None and self._covered[index] >= 0:
            return Covered(self._candidate(int(self._covered[index])))
        above = [item for item in self._evaluated if self._precedes(candidate.row, item.candidate.row)]
        if not above or margin is None:
            return None
        larger = min(above, key=lambda item: item.accuracy)
        better = sorted(
            (
                item
                for item in self._evaluated
                if item.candidate.predicted_ms <= candidate.predicted_ms and item.accuracy >= larger.accuracy + margin
            ),
            key=lambda item: (item.candidate.predicted_ms, item.number),
        )
        for item in better:
            if candidate.row != larger.candidate.row and self._surely(item.candidate.row, candidate):
                return Reason(larger, item, margin)
        return None

    def pruned_points(self, limit: int = 5000) -> Array:
        """See base class; those that no result bounds, as the table alone ruled them out, are left out."""
        points = super().pruned_points(limit)
        return points[np.isfinite(points[:, 1])]

    def would_rule_out(self, rows: Rows, accuracies: Array) -> npt.NDArray[np.int64]:
        """Return how many alive candidates each of some results would rule out, latencies compared as predicted.

        Args:
            rows: ``[R, columns]`` of candidates.
            accuracies: ``[R]`` that they would have.
        """
        alive = np.flatnonzero(self._alive)
        margin = self.margin or 0.0
        indices = np.array([self._index(row) for row in rows])
        below = np.ones((len(alive), len(rows)), bool)
        for column, order, number in zip(self._columns, self._orders, range(rows.shape[1]), strict=True):
            below &= order[np.ix_(column[alive], rows[:, number])]
        no_faster = self._latencies[alive][:, None] >= self._latencies[indices][None, :]
        ceiling = np.where(below, np.minimum(self._ceiling[alive][:, None], accuracies), self._ceiling[alive][:, None])
        reach = np.where(no_faster, np.maximum(self._reach[alive][:, None], accuracies), self._reach[alive][:, None])
        return np.asarray((reach >= ceiling + margin).sum(axis=0))

    def _cover(self) -> npt.NDArray[np.int64]:
        """Return, for each candidate x, the fastest y ≠ x with x ≺ y that is no slower; -1 where there is none."""
        found = np.full(self.total, -1, np.int64)
        ends = np.searchsorted(self._latencies, self._latencies, side="right")
        for index, end in enumerate(ends):
            above = np.ones(end, bool)
            for column, order in zip(self._columns, self._orders, strict=True):
                above &= order[column[index]][column[:end]]
            above[index] = False
            first = int(above.argmax())
            if above[first]:
                found[index] = first
        pairs = np.flatnonzero(found >= 0)
        if self._differences is not None and len(pairs):
            half = self._differences.half_widths_ms(self._rows(found[pairs]), self._rows(pairs))
            unsure = ~(self._latencies[found[pairs]] - self._latencies[pairs] + half <= 0)
            found[pairs[unsure]] = -1
        return found

    def _below(self, row: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Return which candidates precede a row, itself included."""
        below = np.ones(self.total, bool)
        for column, order, item in zip(self._columns, self._orders, row, strict=True):
            below &= order[:, item][column]
        return below

    def _no_faster(self, evaluated: Evaluated) -> npt.NDArray[np.int64]:
        """Return the alive candidates that an evaluated architecture is no slower than."""
        latency = evaluated.candidate.predicted_ms
        start = int(np.searchsorted(self._latencies, latency, side="left"))
        indices = np.flatnonzero(self._alive[start:] & (self._reach[start:] < evaluated.accuracy)) + start
        if self._differences is None or len(indices) == 0:
            return indices
        left = np.repeat(np.array([evaluated.candidate.row], np.int32), len(indices), axis=0)
        half = self._differences.half_widths_ms(left, self._rows(indices))
        return indices[latency - self._latencies[indices] + half <= 0]

    def _surely(self, row: Sequence[int], candidate: Candidate) -> bool:
        """Tell whether a row that is predicted to be no slower than a candidate surely is."""
        if self._differences is None:
            return True
        pair = [np.array([item], np.int32) for item in (row, candidate.row)]
        half = float(self._differences.half_widths_ms(*pair)[0])
        other = self.find(row)
        return other is not None and other.predicted_ms - candidate.predicted_ms + half <= 0

    def candidates(self) -> Rows:
        """Return the rows of all candidates, alive or not, fastest first."""
        return self._rows(np.arange(self.total))

    def _rows(self, indices: npt.NDArray[np.int64]) -> Rows:
        return np.stack([column[indices] for column in self._columns], axis=1).astype(np.int32)

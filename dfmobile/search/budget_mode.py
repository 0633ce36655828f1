"""Mode ``budget``: the best boundary within a number of evaluations, by a monotone surrogate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.search.acquisition import expected_hypervolume_improvement
from dfmobile.search.base import AliveCandidates, Candidate, Mode, Pruner, SearchState
from dfmobile.search.features import MonotoneFeatures
from dfmobile.search.latencies import Latencies, open_pruner
from dfmobile.search.surrogate import MonotoneSurrogate

Array = npt.NDArray[np.float64]

SPREAD_DRAWS = 5
"""The first draws spread over the latencies: a surrogate of fewer results says little."""
MAX_SCORED = 20_000
"""Alive candidates that are scored for one draw; of more, a uniform sample."""
# Fifths of the alive candidates in order of latency: the middle first, then the ends.
_FIFTHS = (2, 0, 4, 1, 3)


class SurrogateMode(Mode):
    """What the modes with a surrogate share: the first draws, and what the surrogate says of the alive candidates."""

    def __init__(self) -> None:
        self._features: MonotoneFeatures | None = None

    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> Pruner:
        """See base class."""
        self._features = MonotoneFeatures(space)
        return open_pruner(space, latencies, latency_range)

    def features(self, rows: npt.NDArray[np.int32]) -> Array:
        """Return the features of rows of the space that ``pruner`` was made for."""
        if self._features is None:
            raise RuntimeError("a mode is asked for its pruner before it chooses")
        return self._features(rows)

    @staticmethod
    def spread(alive: AliveCandidates, drawn: int, generator: np.random.Generator) -> Candidate:
        """Return a uniform draw from a fifth of the alive candidates in order of latency, another one each time."""
        order = np.argsort(alive.predicted_ms, kind="stable")
        fifth = np.array_split(order, SPREAD_DRAWS)[_FIFTHS[drawn % SPREAD_DRAWS]]
        return alive.candidate(int(generator.choice(fifth if len(fifth) else order)))

    def surrogate(self, state: SearchState, generator: np.random.Generator, noise: float | None) -> MonotoneSurrogate:
        """Fit the surrogate to the applied results."""
        rows = np.array([item.candidate.row for item in state.evaluated], np.int32)
        accuracies = np.array([item.accuracy for item in state.evaluated])
        return MonotoneSurrogate(self.features(rows), accuracies, generator, noise=noise)

    def gains(self, state: SearchState, surrogate: MonotoneSurrogate, alive: AliveCandidates) -> tuple[Array, Array]:
        """Return what each alive candidate is expected to add to the boundary, and its expected accuracy.

        The area is in log latency times accuracy, so that ten percent faster counts the same at both ends. What is
        evaluated counts with its expected accuracy, not its measured one, which noise makes look better than it is
        on the boundary; what is in flight counts as if its expected accuracy had come.
        """
        known = [*(item.candidate for item in state.evaluated), *state.in_flight]
        known_means, _ = surrogate.predict(self.features(np.array([item.row for item in known], np.int32)))
        means, deviations = surrogate.predict(self.features(alive.rows))
        worst = (float(np.log(state.pruner.latency_span()[1])), float(min(means.min(), known_means.min())))
        gains = expected_hypervolume_improvement(
            np.log(alive.predicted_ms),
            means,
            deviations,
            np.log([item.predicted_ms for item in known]),
            known_means,
            worst,
        )
        return gains, means


class BudgetMode(SurrogateMode):
    """Each draw is the alive candidate of which the surrogate expects most for the boundary.

    After ``SPREAD_DRAWS`` draws spread over the latencies, a monotone surrogate is fitted to all results, and the
    candidate with the highest expected hypervolume improvement is drawn. The pruning rule is that of ``paper``.
    """

    name = "budget"

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """See base class."""
        alive = state.pruner.varied(MAX_SCORED, generator)
        drawn = len(state.evaluated) + len(state.in_flight)
        if drawn < SPREAD_DRAWS or len(state.evaluated) < 2:
            return self.spread(alive, drawn, generator)
        gains, means = self.gains(state, self.surrogate(state, generator, None), alive)
        if gains.max() <= 0:  # nothing can add to the boundary: the most accurate ones are the least sure
            return alive.candidate(int(np.argmax(means)))
        return alive.candidate(int(np.argmax(gains)))

"""Baselines to compare the modes with: random, stratified random and regularized evolution. They rule nothing out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.search.base import Candidate, Evaluated, Mode, Pruner, SearchState
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.latencies import Latencies
from dfmobile.search.pruning import EnumeratedPruner

ALL = 1 << 62
"""As a limit: every alive candidate."""
STRATA = 10


class KeepingPruner(EnumeratedPruner):
    """Keeps every candidate alive until it is drawn."""

    def apply(self, evaluated: Evaluated) -> int:
        """Add a result, and rule out nothing."""
        self.boundary.add(evaluated)
        return 0


class BaselineMode(Mode):
    """A baseline: every candidate stays alive until it is drawn, so none is evaluated twice."""

    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> Pruner:
        """Enumerate the space, and rule out nothing.

        Raises:
            InputError: if no architecture is within the range, or the space is too large to enumerate.
        """
        return KeepingPruner(space, space.rows(), latencies.by_row(space), latency_range)


class RandomMode(BaselineMode):
    """Uniform draws without replacement."""

    name = "random"

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """See base class."""
        return state.pruner.draw(generator)


class StratifiedMode(BaselineMode):
    """Uniform draws from one of ``STRATA`` latency ranges, another one each time.

    The ranges are equally wide in the logarithm; one that holds no alive candidate is passed over.
    """

    name = "stratified"

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """See base class."""
        return stratified_draw(state, generator)


def stratified_draw(state: SearchState, generator: np.random.Generator) -> Candidate:
    """Return a uniform draw from the alive candidates of one latency range; see ``StratifiedMode``."""
    alive = state.pruner.alive(ALL, generator)
    low, high = np.log(state.pruner.latency_span())
    share = (np.log(alive.predicted_ms) - low) / max(high - low, 1e-12)
    stratum = np.minimum((share * STRATA).astype(int), STRATA - 1)
    drawn = len(state.evaluated) + len(state.in_flight)
    first = drawn * 3 % STRATA  # 3 and 10 have no common factor: each range once in ten draws, far ones in turn
    nearest = min(range(STRATA), key=lambda step: STRATA if not (stratum == (first + step) % STRATA).any() else step)
    return alive.candidate(int(generator.choice(np.flatnonzero(stratum == (first + nearest) % STRATA))))


class EvolutionMode(BaselineMode):
    """Regularized evolution (Real et al., AAAI 2019) with a Pareto tournament.

    The first ``FIRST`` draws are those of ``stratified``. Then the population is the last ``POPULATION`` results: the
    oldest leaves, however good. A parent is drawn from the Pareto-optimal ones (latency, accuracy) of ``SAMPLE``
    members; its child is one or two steps of the order away, each in one column: a block more or less, or a width up
    or down. A child that is no alive candidate is drawn anew, up to ``TRIES`` times; then any alive candidate is
    drawn.

    Source: E. Real, A. Aggarwal, Y. Huang, Q. V. Le: Regularized Evolution for Image Classifier Architecture Search.
    """

    name = "evolution"
    FIRST, POPULATION, SAMPLE, STEPS, TRIES = 20, 50, 20, 2, 100

    def __init__(self) -> None:
        self._neighbours: list[list[npt.NDArray[np.int64]]] = []

    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> Pruner:
        """See base class."""
        self._neighbours = [neighbours(space.stage_order(column)) for column in range(len(space.columns))]
        return super().pruner(space, latencies, latency_range)

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """See base class."""
        if len(state.evaluated) + len(state.in_flight) < self.FIRST or not state.evaluated:
            return stratified_draw(state, generator)
        population = state.evaluated[-self.POPULATION :]
        for _ in range(self.TRIES):
            row: Sequence[int] = _parent(population, self.SAMPLE, generator).candidate.row
            for _ in range(int(generator.integers(1, self.STEPS + 1))):
                row = self._child(row, generator)
            candidate = state.pruner.find(row)
            if candidate is not None and state.pruner.is_alive(candidate):
                return candidate
        return state.pruner.draw(generator)

    def _child(self, row: Sequence[int], generator: np.random.Generator) -> list[int]:
        child = list(row)
        column = int(generator.integers(len(child)))
        options = self._neighbours[column][child[column]]
        if len(options):
            child[column] = int(generator.choice(options))
        return child


def _parent(population: Sequence[Evaluated], sample: int, generator: np.random.Generator) -> Evaluated:
    chosen = generator.choice(len(population), min(sample, len(population)), replace=False)
    members = [population[int(index)] for index in chosen]
    optimal = pareto_optimal([item.candidate.predicted_ms for item in members], [item.accuracy for item in members])
    return members[int(generator.choice(np.flatnonzero(optimal)))]


def neighbours(order: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Return, for each id, the ids one step above or below it: comparable, with none in between.

    Args:
        order: ``[ids, ids]``, whether id a precedes id b; reflexive.
    """
    strict = np.array(order)
    np.fill_diagonal(strict, False)
    between = strict.astype(np.float32) @ strict.astype(np.float32)
    steps = strict & (between == 0)
    return [np.flatnonzero(steps[item] | steps[:, item]) for item in range(len(order))]

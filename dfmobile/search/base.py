"""Plug points of the search: the pruner, which keeps what is still worth training, and the mode, which chooses.

A campaign knows only these contracts: another engine (implicit, for spaces beyond enumeration) or another
strategy (surrogate, evolution) is another class here, with the same store, resume and re-measurement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace

if TYPE_CHECKING:
    from dfmobile.search.latencies import Latencies


@dataclass(frozen=True)
class Candidate:
    """An architecture of the space within the latency range.

    Attributes:
        row: list id of each stage (``SearchSpace.architecture`` turns it into an architecture).
        predicted_ms: its latency by the table.
    """

    row: tuple[int, ...]
    predicted_ms: float


@dataclass(frozen=True)
class Evaluated:
    """A candidate whose accuracy is known.

    Attributes:
        number: its draw, from 1.
        candidate: the architecture and its predicted latency.
        accuracy: as the evaluator gave it, in [0, 1].
        repeats: accuracies of the same architecture with other seeds, where the mode asked for them.
    """

    number: int
    candidate: Candidate
    accuracy: float
    repeats: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reason:
    """Why a candidate s is ruled out: s ≺ w, Acc(z) ≥ Acc(w) + margin, and Lat(z) ≤ Lat(s) by the table.

    Attributes:
        larger: w, evaluated and at or above s in the partial order: it bounds the accuracy of s.
        better: z, evaluated, at least as accurate as w and predicted no slower than s; it can be w itself.
        margin: by how much z has to be more accurate than w, in units of accuracy.
    """

    larger: Evaluated
    better: Evaluated
    margin: float = 0.0


@dataclass(frozen=True)
class Covered:
    """Why a candidate s is ruled out without any result: s ≺ y, and y is predicted to be no slower.

    Attributes:
        larger: y, another candidate, at or above s in the partial order.
    """

    larger: Candidate


@dataclass(frozen=True)
class AliveCandidates:
    """Alive candidates as arrays.

    Attributes:
        rows: list ids, int32 ``[n, columns]``.
        predicted_ms: float64 ``[n]``.
    """

    rows: npt.NDArray[np.int32]
    predicted_ms: npt.NDArray[np.float64]

    def candidate(self, index: int) -> Candidate:
        """Return one of them."""
        return Candidate(tuple(int(item) for item in self.rows[index]), float(self.predicted_ms[index]))


class Pruner(ABC):
    """The set of candidates that are still worth evaluating. It only ever shrinks."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Number of candidates: the architectures within the latency range."""

    @property
    @abstractmethod
    def alive_count(self) -> int:
        """Number of candidates neither drawn nor ruled out, exact."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Candidate:
        """Return an alive candidate, each with the same probability; it stays alive until it is taken.

        Raises:
            LookupError: if none is alive.
        """

    def alive(self, limit: int, generator: np.random.Generator) -> AliveCandidates:
        """Return the alive candidates, or where there are more than ``limit`` that many, drawn uniformly.

        What comes depends on the alive set and the generator alone. Here by drawing, so a few may be left out, and
        each comes once; a pruner that can list them does so.

        Raises:
            LookupError: if none is alive.
        """
        drawn = {self.draw(generator): None for _ in range(min(limit, 4 * self.alive_count))}
        rows = np.array([candidate.row for candidate in drawn], np.int32)
        return AliveCandidates(rows, np.array([candidate.predicted_ms for candidate in drawn]))

    def varied(self, limit: int, generator: np.random.Generator) -> AliveCandidates:
        """Return the alive candidates, or where there are more than ``limit`` about that many, fast ones among them.

        A uniform sample of a large space is nearly all slow networks. Half of this one is uniform, the other half is
        spread over the latencies as far as the pruner can; here all of it is uniform.

        Raises:
            LookupError: if none is alive.
        """
        return self.alive(limit, generator)

    @abstractmethod
    def latency_span(self) -> tuple[float, float]:
        """Return the lowest and the highest latency of a candidate, ms, whether it is alive or not."""

    @abstractmethod
    def find(self, row: Sequence[int]) -> Candidate | None:
        """Return the candidate with this row; None if its predicted latency is outside the range."""

    @abstractmethod
    def is_alive(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is neither drawn nor ruled out."""

    @abstractmethod
    def take(self, candidate: Candidate) -> None:
        """Remove an alive candidate from the alive set because it is being evaluated.

        Raises:
            LookupError: if it is not alive.
        """

    @abstractmethod
    def apply(self, evaluated: Evaluated) -> int:
        """Add a result and rule out what it makes pointless.

        Returns:
            How many alive candidates this ruled out.
        """

    @abstractmethod
    def why(self, candidate: Candidate) -> Reason | Covered | None:
        """Return why the evaluations so far, or the table alone, rule a candidate out; None if they do not."""


@dataclass
class SearchState:
    """What a mode may look at when it chooses: only what was applied in draw order, never what just finished.

    Attributes:
        pruner: the alive candidates.
        evaluated: applied results in draw order.
        in_flight: drawn candidates whose results are not applied yet, in draw order.
    """

    pruner: Pruner
    evaluated: list[Evaluated] = field(default_factory=list)
    in_flight: list[Candidate] = field(default_factory=list)


class Mode(ABC):
    """A search strategy: which pruner, and which alive candidate is evaluated next.

    ``choose`` must depend on its arguments alone: that makes a campaign the same however its workers are timed
    and wherever it is interrupted.
    """

    name: str

    def options(self) -> dict[str, object]:
        """Return what shapes the choices besides the campaign's settings; recorded, and compared on resume.

        ``open_mode(name, options)`` makes the same mode of them.
        """
        return {}

    def repeats(self, number: int) -> int:
        """Return how often draw ``number`` is evaluated, each time with another seed: to learn the noise.

        The first result is the architecture's accuracy, the others are in ``Evaluated.repeats``.
        """
        return 1

    @abstractmethod
    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> Pruner:
        """Make the pruner.

        Args:
            space: the search space.
            latencies: of all its architectures by the table; ``latencies.open_pruner`` makes a pruner of them.
            latency_range: lowest and highest predicted latency of a candidate, ends included; None: open.

        Raises:
            InputError: if no architecture is within the range, or the space is too large.
        """

    @abstractmethod
    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """Return the alive candidate to evaluate next.

        Args:
            state: everything applied so far; at least one candidate is alive.
            generator: seeded by the campaign's seed and the number of this draw.
        """

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
    """

    number: int
    candidate: Candidate
    accuracy: float


@dataclass(frozen=True)
class Reason:
    """Why a candidate s is ruled out: s ≺ w, Acc(z) ≥ Acc(w), and Lat(z) ≤ Lat(s) by the table.

    Attributes:
        larger: w, evaluated and at or above s in the partial order: it bounds the accuracy of s.
        better: z, evaluated, at least as accurate as w and predicted no slower than s; it can be w itself.
    """

    larger: Evaluated
    better: Evaluated


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
    def why(self, candidate: Candidate) -> Reason | None:
        """Return why the evaluations so far rule a candidate out; None if they do not."""


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
        """Return what shapes the choices besides the campaign's settings; recorded, and compared on resume."""
        return {}

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

"""Mode ``certified``: run until no candidate is left, in an order that needs few evaluations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError
from dfmobile.search.base import Candidate, SearchState
from dfmobile.search.boundary import hypervolume
from dfmobile.search.budget_mode import MAX_SCORED, SPREAD_DRAWS, SurrogateMode
from dfmobile.search.latencies import Latencies
from dfmobile.search.margin_pruning import Differences, MarginPruner

REPEATED = 4
"""Architectures that are evaluated with several seeds where the noise is not given."""
_WORTH = 1e-3  # of the area: below it the boundary is as good as found, and what is left is to rule out the rest
_TRIED = 256  # alive candidates whose effect is computed for one draw


class CertifiedMode(SurrogateMode):
    """First the boundary, as in ``budget``; then what is expected to rule out most of what is left.

    Args:
        margin: in standard deviations of an accuracy, see ``MarginPruner``.
        sigma: standard deviation of an accuracy, 0 to 1; None: estimated.
        repeats: seeds of each of the first ``REPEATED`` architectures where ``sigma`` is not given, 2 or more.
        comparison: how latencies are compared: ``"prediction"``, or ``"interval"`` (of the difference).

    Raises:
        InputError: if an option is out of range.
    """

    name = "certified"

    def __init__(
        self, margin: float = 2.0, sigma: float | None = None, repeats: int = 3, comparison: str = "prediction"
    ) -> None:
        super().__init__()
        if not (math.isfinite(margin) and margin >= 0):
            raise InputError(f"a margin of {margin} standard deviations makes no sense", hint="--margin 0 or more")
        if sigma is not None and not 0 <= sigma < 1:
            raise InputError(f"{sigma} is not a standard deviation of an accuracy", hint="0.005 is half a point")
        if not 2 <= repeats <= 100:
            raise InputError(f"{repeats} seeds do not tell the noise", hint="--repeats 2 or more")
        if comparison not in ("prediction", "interval"):
            raise InputError(f"latencies cannot be compared by {comparison!r}", hint="by prediction or interval")
        self.margin, self.sigma, self._repeats, self.comparison = float(margin), sigma, repeats, comparison
        self.differences: Differences | None = None

    def options(self) -> dict[str, Any]:
        """See base class."""
        return {
            "margin": self.margin,
            "sigma": self.sigma,
            "repeats": self._repeats,
            "comparison": self.comparison,
        }

    def repeats(self, number: int) -> int:
        """See base class."""
        return self._repeats if self.sigma is None and number <= REPEATED else 1

    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> MarginPruner:
        """See base class.

        Raises:
            InputError: if no architecture is within the range, or too many are.
            RuntimeError: if latencies are to be compared by intervals, and ``differences`` is not set.
        """
        if (self.comparison == "interval") != (self.differences is not None):
            raise RuntimeError("the intervals of differences are set exactly where they are used")
        super().pruner(space, latencies, latency_range)
        return MarginPruner(
            space,
            space.rows(),
            latencies.by_row(space),
            latency_range,
            margin=self.margin,
            sigma=self.sigma,
            repeated=REPEATED,
            differences=self.differences,
        )

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """See base class."""
        pruner = state.pruner
        alive = pruner.varied(MAX_SCORED, generator)
        drawn = len(state.evaluated) + len(state.in_flight)
        if drawn < SPREAD_DRAWS or len(state.evaluated) < 2 or not isinstance(pruner, MarginPruner):
            return self.spread(alive, drawn, generator)
        gains, means = self.gains(state, self.surrogate(state, generator, self.sigma or None), alive)
        accuracies = [item.accuracy for item in state.evaluated]
        area = hypervolume(
            np.log([item.candidate.predicted_ms for item in state.evaluated]).tolist(),
            accuracies,
            float(np.log(pruner.latency_span()[1])),
            min(accuracies),
        )
        if gains.max() > _WORTH * area:
            return alive.candidate(int(np.argmax(gains)))
        tried = np.arange(len(means))
        if len(tried) > _TRIED:
            tried = np.sort(generator.choice(tried, _TRIED, replace=False, shuffle=False))
        counts = pruner.would_rule_out(alive.rows[tried], means[tried])
        return alive.candidate(int(tried[np.argmax(counts)]))

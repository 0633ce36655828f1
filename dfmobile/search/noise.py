"""How much accuracies of one architecture differ between seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Noise:
    """The noise of an accuracy.

    Attributes:
        sigma: standard deviation between seeds, in units of accuracy.
        source: where it comes from, for people.
        freedom: degrees of freedom of the estimate; 0 where it was given.
    """

    sigma: float
    source: str
    freedom: int


def pooled_deviation(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the pooled standard deviation within groups, and its degrees of freedom.

    Args:
        groups: accuracies of one architecture each, with different seeds.

    Raises:
        ValueError: if no group has two.
    """
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        raise ValueError("no architecture was evaluated with two seeds")
    # Exact, so that equal accuracies have no deviation at all.
    squares = [statistics.variance(group) * (len(group) - 1) for group in groups if len(group) > 1]
    return math.sqrt(math.fsum(squares) / freedom), freedom

"""Prediction rules: from measurements of blocks to the latency of a network. One interface, found by name.

A rule gives each block a few numbers (features), which are summed over a network's blocks, and turns the sums into
a latency. So one rule serves single networks and, vectorised, millions of rows of a space; and a rule that needs
more than a sum (bytes of weights against the cache, fitted coefficients) still fits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError, PluginError
from dfmobile.latency.statistics import sum_half_width
from dfmobile.latency.table import LatencyTable, TableEntry

Sums = npt.NDArray[np.float64]


class PredictionRule(ABC):
    """How block measurements become a network's latency.

    Args:
        table: for the header and for what a rule has stored (``LatencyTable.document``).
        entries: the table's blocks.
    """

    name: ClassVar[str]

    def __init__(self, table: LatencyTable, entries: Sequence[TableEntry]) -> None:
        del table, entries

    @abstractmethod
    def features(self, entry: TableEntry) -> tuple[float, ...]:
        """Return a block's F numbers; they are summed over the blocks of a network."""

    @abstractmethod
    def combine(self, sums: Sums) -> npt.NDArray[np.float64]:
        """Return the latencies in ms, ``[R]``, of networks whose summed features are ``sums``, ``[R, F]``."""

    def block_ms(self, entry: TableEntry) -> float:
        """Return what a block contributes, for people; by default what it would take as a network of its own."""
        return float(self.combine(np.array([self.features(entry)]))[0])

    @abstractmethod
    def interval_ms(self, counts: Sequence[tuple[TableEntry, int]], latency_ms: float) -> tuple[float, float] | None:
        """Return the 95 % interval of one prediction; None where the table does not tell.

        Args:
            counts: the network's distinct blocks, and how often each occurs.
            latency_ms: the prediction.
        """


_RULES: dict[str, type[PredictionRule]] = {}


def register_rule(rule: type[PredictionRule]) -> type[PredictionRule]:
    """Register a rule under its name (class decorator).

    Raises:
        PluginError: if there is another of that name.
    """
    other = _RULES.get(rule.name)
    if other is not None and (other.__module__, other.__qualname__) != (rule.__module__, rule.__qualname__):
        raise PluginError(f"two prediction rules are called {rule.name!r}: in {other.__module__} and {rule.__module__}")
    _RULES[rule.name] = rule
    return rule


def rule_names() -> list[str]:
    """Return the names of all prediction rules."""
    return sorted(_RULES)


def open_rule(name: str) -> Callable[[LatencyTable, Sequence[TableEntry]], PredictionRule]:
    """Return the rule of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in _RULES:
        raise InputError(f"unknown prediction rule {name!r}", hint=f"known: {', '.join(rule_names())}")
    return _RULES[name]


@register_rule
class SumRule(PredictionRule):
    """The paper's rule: the sum of the blocks' hot medians (Li et al., CVPR 2019, section 3.2).

    Its interval is measurement error only, not model error: it says how far the sum would move if the blocks
    were measured again, not how far the network is from being the sum of its blocks (weights that stay cached in
    isolation and not in the network, for instance).
    """

    name = "sum"

    def features(self, entry: TableEntry) -> tuple[float, ...]:
        """See base class: the hot median."""
        return (entry.hot_ms,)

    def combine(self, sums: Sums) -> npt.NDArray[np.float64]:
        """See base class."""
        return sums[:, 0]

    def interval_ms(self, counts: Sequence[tuple[TableEntry, int]], latency_ms: float) -> tuple[float, float] | None:
        """See base class; the blocks' errors are independent, those of a block that occurs k times are one error."""
        errors = []
        for entry, count in counts:
            if entry.hot.standard_error_ms is None:
                return None
            errors.append((count * entry.hot.standard_error_ms, entry.hot.passes - 1))
        half_ms = sum_half_width(errors)
        return max(0.0, latency_ms - half_ms), latency_ms + half_ms

"""Prediction rules: from measurements of blocks to the latency of a network. One interface, found by name.

A rule gives each block a few numbers (features), which are summed over a network's blocks, and turns the sums into
a latency. So one rule serves single networks and, vectorised, millions of rows of a space; and a rule that needs
more than a sum (bytes of weights against the cache, fitted coefficients) still fits.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError, PluginError
from dfmobile.latency.statistics import sum_half_width, t_quantile_975
from dfmobile.latency.table import LatencyTable, TableEntry

Sums = npt.NDArray[np.float64]


class OnePrediction(NamedTuple):
    """A rule's answer for one network.

    Attributes:
        latency_ms: the prediction.
        interval_ms: (low, high), 95 %; None where the table does not tell.
        shares_ms: what each of its blocks contributes.
    """

    latency_ms: float
    interval_ms: tuple[float, float] | None
    shares_ms: list[float]


class PredictionRule(ABC):
    """How block measurements become a network's latency.

    Args:
        table: for the header and for what a rule has stored (``LatencyTable.document``).
        entries: the table's blocks.
    """

    name: ClassVar[str]
    additive: ClassVar[bool] = False
    """Whether ``combine`` returns the first feature's sums as they are: a latency is then a sum over blocks."""

    def __init__(self, table: LatencyTable, entries: Sequence[TableEntry]) -> None:
        del table
        self.entries: Sequence[TableEntry] = entries

    @classmethod
    def open_all(cls, table: LatencyTable, entries: Sequence[TableEntry]) -> list[PredictionRule]:
        """Return every instance that a table has: one, but where something was fitted for one space and input only.

        Raises:
            InputError: if the table lacks what the rule needs.
            FileFormatError: if what it needs is damaged.
        """
        return [cls(table, entries)]

    @property
    def basis(self) -> str:
        """What predictions rest on, one line for people."""
        return self.name

    @abstractmethod
    def features(self, entry: TableEntry) -> tuple[float, ...]:
        """Return a block's F numbers; they are summed over the blocks of a network."""

    @abstractmethod
    def combine(self, sums: Sums) -> npt.NDArray[np.float64]:
        """Return the latencies in ms, ``[R]``, of networks whose summed features are ``sums``, ``[R, F]``."""

    def shares_ms(self, features: Sums, latency_ms: float) -> npt.NDArray[np.float64]:
        """Return what each block of one network contributes, ``[N]``; they add up to the network's latency.

        By default in proportion to what each would take as a network of its own.

        Args:
            features: of the network's blocks, ``[N, F]``.
            latency_ms: of the network.
        """
        alone = self.combine(features)
        found: npt.NDArray[np.float64] = alone * (latency_ms / alone.sum())
        return found

    @abstractmethod
    def interval_ms(self, counts: Sequence[tuple[TableEntry, int]], latency_ms: float) -> tuple[float, float] | None:
        """Return the 95 % interval of one prediction; None where the table does not tell.

        Args:
            counts: the network's distinct blocks, and how often each occurs.
            latency_ms: the prediction.
        """

    def predict_one(self, blocks: Sequence[int]) -> OnePrediction:
        """Return everything about one network; rules may have a faster way.

        Args:
            blocks: position in ``entries`` of each of its blocks, in execution order.
        """
        features = np.array([self.features(self.entries[number]) for number in blocks], np.float64)
        latency_ms = float(self.combine(features.sum(axis=0, keepdims=True))[0])
        known = [(self.entries[number], count) for number, count in Counter(blocks).items()]
        return OnePrediction(
            latency_ms, self.interval_ms(known, latency_ms), self.shares_ms(features, latency_ms).tolist()
        )

    def intervals_ms(self, counts: Sums, latency_ms: npt.NDArray[np.float64]) -> Sums:
        """Return the 95 % intervals of many predictions, ``[R, 2]``; NaN where the table does not tell.

        Args:
            counts: how often each of ``entries`` occurs, ``[R, B]``.
            latency_ms: the predictions, ``[R]``.
        """
        found = np.full((len(counts), 2), np.nan)
        for number, row in enumerate(counts):
            known = [(self.entries[position], int(row[position])) for position in np.flatnonzero(row).tolist()]
            interval = self.interval_ms(known, float(latency_ms[number]))
            if interval is not None:
                found[number] = interval
        return found

    def difference_half_widths_ms(self, left: Sums, right: Sums) -> npt.NDArray[np.float64]:
        """Return half of the 95 % interval of ``latency(left) - latency(right)``, ``[R]``; blocks they share cancel.

        Args:
            left: counts, ``[R, B]``.
            right: counts, ``[R, B]``.

        Raises:
            InputError: if the rule cannot tell.
        """
        raise InputError(f"rule {self.name!r} has no intervals of differences", hint="calibrate the table")


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


def open_rule(name: str) -> type[PredictionRule]:
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
    additive = True

    @property
    def basis(self) -> str:
        """See base class."""
        return "sum of the blocks' medians, nothing fitted; interval: measurement error only"

    def features(self, entry: TableEntry) -> tuple[float, ...]:
        """See base class: the hot median."""
        return (entry.hot_ms,)

    def combine(self, sums: Sums) -> npt.NDArray[np.float64]:
        """See base class."""
        return sums[:, 0]

    def shares_ms(self, features: Sums, latency_ms: float) -> npt.NDArray[np.float64]:
        """See base class."""
        return features[:, 0]

    def interval_ms(self, counts: Sequence[tuple[TableEntry, int]], latency_ms: float) -> tuple[float, float] | None:
        """See base class; the blocks' errors are independent, those of a block that occurs k times are one error."""
        half_ms = _half_width(counts)
        return None if half_ms is None else (max(0.0, latency_ms - half_ms), latency_ms + half_ms)

    def difference_half_widths_ms(self, left: Sums, right: Sums) -> npt.NDArray[np.float64]:
        """See base class; measurement error only, as ``interval_ms``; NaN where a differing block has no error."""
        known = [entry.hot.standard_error_ms for entry in self.entries]
        error = np.array([np.nan if item is None else item for item in known], np.float64)
        freedom = np.array([max(1, entry.hot.passes - 1) for entry in self.entries], np.float64)
        counts = np.abs(left - right)
        # A block that both have as often has no part in it, known or not.
        squares = np.where(counts > 0, counts * error, 0.0) ** 2
        variance, spread = squares.sum(axis=1), (squares**2 / freedom).sum(axis=1)
        found = np.zeros(len(left))
        for number in np.flatnonzero(variance != 0):
            degrees = variance[number] ** 2 / spread[number]
            found[number] = t_quantile_975(max(1.0, degrees)) * variance[number] ** 0.5 if degrees > 0 else np.nan
        return found


@register_rule
class IsolatedSumRule(SumRule):
    """The sum of what blocks take as engines of their own, where a table has both: what borders of engines cost."""

    name = "sum-isolated"

    def __init__(self, table: LatencyTable, entries: Sequence[TableEntry]) -> None:
        super().__init__(table, entries)
        if any(entry.isolated is None for entry in entries):
            raise InputError(
                f"{table.path} has no costs of blocks alone beside those inside a network",
                hint="leave --rule out: its sum is of blocks alone",
            )
        self.entries = [dataclasses.replace(entry, hot=entry.isolated) for entry in entries if entry.isolated]

    @property
    def basis(self) -> str:
        """See base class."""
        return "sum of blocks as engines of their own, with what their borders cost; interval: measurement error only"


def _half_width(counts: Sequence[tuple[TableEntry, int]]) -> float | None:
    errors = []
    for entry, count in counts:
        if entry.hot.standard_error_ms is None:
            return None
        errors.append((count * entry.hot.standard_error_ms, entry.hot.passes - 1))
    return sum_half_width(errors)

"""The share of cold time that a working set pays, as a curve that was measured: no model of a cache in between.

A real last-level cache is no step (its replacement is not strictly least-recent) and no straight line either: below
about half of it nothing is lost, above twice of it about everything. A sweep over working sets shows the curve itself.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CacheCurve:
    """A share between 0 and 1 for every working set: linear in the logarithm of the bytes between points.

    Attributes:
        log_bytes: natural logarithms of the working sets, ascending.
        shares: 0 where everything comes from caches, 1 where everything comes from memory; never falling.
    """

    log_bytes: tuple[float, ...]
    shares: tuple[float, ...]

    def at(self, working_set_bytes: Array) -> Array:
        """Return the shares of many working sets, ``[R]``; beyond the ends the nearest end's."""
        found: Array = np.interp(np.log(np.maximum(working_set_bytes, 1.0)), self.log_bytes, self.shares)
        return found

    def at_one(self, working_set_bytes: float) -> float:
        """Return the share of one working set; the same number as ``at``, without numpy's fixed cost."""
        value = math.log(max(working_set_bytes, 1.0))
        above = bisect_right(self.log_bytes, value)
        if above == 0:
            return self.shares[0]
        if above == len(self.log_bytes):
            return self.shares[-1]
        low, high = self.log_bytes[above - 1], self.log_bytes[above]
        slope = (self.shares[above] - self.shares[above - 1]) / (high - low)
        return slope * (value - low) + self.shares[above - 1]


def curve_of(sizes: Array, rates: Array, fast: float, slow: float) -> CacheCurve:
    """Return the curve of a sweep.

    Args:
        sizes: bytes, ascending.
        rates: time a byte at each, never falling (``non_decreasing``).
        fast: time a byte while everything stays in caches.
        slow: time a byte when everything comes from memory; above ``fast``.
    """
    shares = np.clip((rates - fast) / max(slow - fast, 1e-12), 0.0, 1.0)
    return CacheCurve(tuple(np.log(sizes).tolist()), tuple(shares.tolist()))


def non_decreasing(values: Array) -> Array:
    """Return the least-squares non-decreasing fit (pool adjacent violators, Ayer et al. 1955)."""
    pools: list[list[float]] = []  # mean, count
    for value in values:
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, count = pools.pop()
            before = pools[-1]
            before[0] = (before[0] * before[1] + mean * count) / (before[1] + count)
            before[1] += count
    return np.repeat([pool[0] for pool in pools], [int(pool[1]) for pool in pools])

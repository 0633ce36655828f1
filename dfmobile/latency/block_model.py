"""The probabilistic model behind predictions: block costs as priors, corrected by networks measured whole.

A network whose blocks occur ``n_b`` times takes::

    y = sum_b n_b h_b (1 + d_b)  +  (1 + g) f(F) sum_b n_b c_b  -  (1 + k) (N - 1) o      with noise sigma y

``h_b``: a block's undisturbed hot time; ``c_b``: what evicted caches add to it, less what they add to a call of the
runtime that computes nothing; ``F``: the network's footprint, and ``f`` the measured curve of what a working set of
that size pays (``cache_curve``); ``o``: a call of the runtime, ``N``: blocks. The
deviations ``d_b`` (a block in a network is not quite what it is alone: caches, layouts, fusion, and its own
measurement error) are a Gaussian process over blocks: one part common to all, one smooth in what a block does (kind,
work, weights, resolution), one of each block alone. ``g`` and ``k`` are Gaussian. So ``y`` is Gaussian, networks that
share blocks have correlated errors, and measured networks condition it in closed form (Rasmussen & Williams, 2006,
chapter 2; their chapter 5 for the choice of scales by marginal likelihood).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dfmobile.latency.cache_curve import CacheCurve
from dfmobile.latency.table import TableEntry

Array = npt.NDArray[np.float64]

# The arena is a maximum over blocks; a sum of high powers is as good and can be summed like everything else.
ARENA_POWER = 16
_ARENA_UNIT_BYTES = 1e6
_LENGTH_OCTAVES = 3.0


@dataclass(frozen=True)
class Scales:
    """Prior standard deviations, all relative.

    Attributes:
        common: of the deviation that all blocks share.
        smooth: of the one that is smooth in what blocks do.
        single: of each block's own: its measurement, and what nothing else explains.
        cold: of ``g``: how much of the cold time a network pays beyond what the footprint rule says.
        call: of ``k``.
        noise: of a measured network, and of what the model does not know.
    """

    common: float = 0.05
    smooth: float = 0.03
    single: float = 0.03
    cold: float = 0.5
    call: float = 0.5
    noise: float = 0.02


@dataclass(frozen=True)
class Physics:
    """What the device was measured to do.

    Attributes:
        curve: share of the cold time that a working set pays; None: the cold term is left out.
        call_ms: one call of the runtime; 0 where it was not measured.
        cold_call_ms: what evicted caches add to a call.
    """

    curve: CacheCurve | None
    call_ms: float
    cold_call_ms: float = 0.0


class BlockModel:
    """The model for one list of blocks. Networks are rows of counts, ``[R, B]``, in the order of ``entries``.

    Args:
        entries: blocks; B of them.
        physics: of the device.
        scales: of the prior.
    """

    def __init__(self, entries: Sequence[TableEntry], physics: Physics, scales: Scales | None = None) -> None:
        self.entries = list(entries)
        self.physics = physics
        self.scales = scales or Scales()
        self.hot = np.array([entry.hot.quiet_ms for entry in entries])
        cold = np.array([entry.cold.quiet_ms if entry.cold else entry.hot.quiet_ms for entry in entries])
        self.extra: Array = np.maximum(0.0, cold - self.hot - physics.cold_call_ms)
        if physics.curve is None:
            self.extra[:] = 0.0
        self.weights = np.array([float(entry.weight_bytes) for entry in entries])
        self.arena_power = np.array([arena_bytes(entry) / _ARENA_UNIT_BYTES for entry in entries]) ** ARENA_POWER
        self.deviation: Array = np.zeros(len(self.hot))
        self.cold_deviation = 0.0
        self.call_deviation = 0.0
        self._reduction: Array | None = None

    # Predicting

    def feature_rows(self) -> Array:
        """Return what is summed over a network's blocks, ``[B, 5]``; ``latency`` takes the sums."""
        corrected = self.hot * (1 + self.deviation)
        return np.stack([corrected, self.extra, self.weights, self.arena_power, np.ones(len(self.hot))], axis=1)

    def latency(self, sums: Array) -> Array:
        """Return latencies in ms, ``[R]``, from summed features ``[R, 5]``."""
        cold = self.cached_share(sums[:, 2], sums[:, 3]) * sums[:, 1] * (1 + self.cold_deviation)
        calls = (sums[:, 4] - 1) * self.physics.call_ms * (1 + self.call_deviation)
        # No network is faster than a tenth of its blocks, whatever is subtracted.
        found: Array = np.maximum(sums[:, 0] + cold - calls, 0.1 * sums[:, 0])
        return found

    def cached_share(self, weight_bytes: Array, arena_power: Array) -> Array:
        """Return f: the share of the cold time that a network pays, by its footprint."""
        if self.physics.curve is None:
            return np.zeros(len(weight_bytes))
        return self.physics.curve.at(weight_bytes + _ARENA_UNIT_BYTES * arena_power ** (1 / ARENA_POWER))

    def cached_share_of(self, weight_bytes: float, arena_power: float) -> float:
        """Return f for one network."""
        if self.physics.curve is None:
            return 0.0
        return self.physics.curve.at_one(weight_bytes + _ARENA_UNIT_BYTES * arena_power ** (1 / ARENA_POWER))

    def predict(self, counts: Array) -> Array:
        """Return latencies in ms, ``[R]``."""
        return self.latency(counts @ self.feature_rows())

    def design(self, counts: Array) -> Array:
        """Return how the latency in ms changes with each unknown, ``[R, B + 2]``: deviations, ``g``, ``k``."""
        share = self.cached_share(counts @ self.weights, counts @ self.arena_power)
        cold = (share * (counts @ self.extra))[:, None]
        calls = -((counts.sum(axis=1) - 1) * self.physics.call_ms)[:, None]
        return np.concatenate([counts * self.hot, cold, calls], axis=1)

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the unknowns given what was seen, ``[B + 2, B + 2]``."""
        return self.prior if self._reduction is None else self.prior - self._reduction @ self._reduction.T

    def variance(self, design: Array) -> Array:
        """Return the variance in ms², ``[R]``, of ``design @ unknowns``; differences of designs included."""
        found: Array = np.maximum(np.einsum("ri,ri->r", design @ self.covariance, design), 0.0)
        return found

    def standard_deviation(self, counts: Array, latency_ms: Array) -> Array:
        """Return the standard deviation in ms, ``[R]``, of networks that are measured."""
        found: Array = np.sqrt(self.variance(self.design(counts)) + (self.scales.noise * latency_ms) ** 2)
        return found

    # Prior

    @cached_property
    def similarity(self) -> Array:
        """Correlation of the smooth part of the deviations, ``[B, B]``."""
        return block_similarity(self.entries)

    @cached_property
    def prior(self) -> Array:
        """Prior covariance of the unknowns, ``[B + 2, B + 2]``."""
        size, scales = len(self.hot), self.scales
        found = np.zeros((size + 2, size + 2))
        found[:size, :size] = scales.common**2 + scales.smooth**2 * self.similarity + scales.single**2 * np.eye(size)
        found[size, size], found[size + 1, size + 1] = scales.cold**2, scales.call**2
        return found

    # Conditioning

    def conditioned(self, counts: Array, measured_ms: Array) -> BlockModel:
        """Return the model after having seen networks.

        Args:
            counts: ``[K, B]``.
            measured_ms: ``[K]``.
        """
        found = BlockModel(self.entries, self.physics, self.scales)
        found.__dict__["similarity"] = self.similarity
        design, rest = self.design(counts), measured_ms - self.predict(counts)
        cross = design @ self.prior
        covariance = cross @ design.T + np.diag((self.scales.noise * measured_ms) ** 2)
        factor = np.linalg.cholesky(covariance)
        found._reduction = np.linalg.solve(factor, cross).T
        unknowns = found._reduction @ np.linalg.solve(factor, rest)
        size = len(self.hot)
        found.deviation = unknowns[:size]
        found.cold_deviation, found.call_deviation = float(unknowns[size]), float(unknowns[size + 1])
        return found

    def leave_one_out(self, counts: Array, measured_ms: Array) -> tuple[Array, Array]:
        """Return each network's error (ms, ``[K]``) and its sd when all others are known.

        Closed form (Rasmussen & Williams, equations 5.10 to 5.12). ``self`` is the prior.
        """
        design = self.design(counts)
        covariance = design @ self.prior @ design.T + np.diag((self.scales.noise * measured_ms) ** 2)
        inverse = np.linalg.inv(covariance)
        rest = measured_ms - self.predict(counts)
        variance = 1 / np.diag(inverse)
        return (inverse @ rest) * variance, np.sqrt(variance)


def arena_bytes(entry: TableEntry) -> float:
    """Return about the activation arena that a block needs: its inputs and its output, float32."""
    return 4.0 * (sum(math.prod(shape) for shape in entry.input_shapes) + math.prod(entry.output_shape))


def block_similarity(entries: Sequence[TableEntry]) -> Array:
    """Return the correlation of blocks, ``[B, B]``: 0 between kinds, else smooth in work, weights and resolution."""
    kinds = np.array([entry.kind for entry in entries])
    features = np.log2(
        np.array(
            [
                [1.0 + entry.macs, 1.0 + entry.weight_bytes, float(math.prod(entry.output_shape[2:]))]
                for entry in entries
            ]
        )
    )
    square = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    found: Array = np.exp(-square / (2 * _LENGTH_OCTAVES**2)) * (kinds[:, None] == kinds[None])
    return found


# Passes of a network agree within about 2 %, so noise below 1 % (2 % at 1.96) would claim more than is measured.
_GRID: Mapping[str, tuple[float, ...]] = {
    "common": (0.02, 0.05, 0.12),
    "smooth": (0.005, 0.02, 0.06),
    "single": (0.01, 0.025, 0.06),
    "noise": (0.01, 0.015, 0.02, 0.03, 0.045, 0.07),
}
# Weak beliefs (median, sd of the logarithm) that keep few networks from choosing extreme scales.
_BELIEFS = {"common": (0.05, 0.8), "smooth": (0.02, 0.8), "single": (0.02, 0.6), "noise": (0.02, 0.6)}


def choose_scales(model: BlockModel, counts: Array, measured_ms: Array) -> Scales:
    """Return the scales that make measured networks most probable, with weak beliefs about them (type II MAP).

    Args:
        model: the prior.
        counts: of the networks, ``[K, B]``.
        measured_ms: ``[K]``.
    """
    # The covariance of the networks is a sum of fixed matrices, each times a squared scale: all in [K, K].
    design = model.design(counts) / measured_ms[:, None]
    blocks, cold, call = design[:, :-2], design[:, -2:-1], design[:, -1:]
    level = blocks.sum(axis=1, keepdims=True)
    rest = 1 - model.predict(counts) / measured_ms
    fixed = model.scales.cold**2 * (cold @ cold.T) + model.scales.call**2 * (call @ call.T)
    parts = {
        "common": level @ level.T,
        "smooth": blocks @ model.similarity @ blocks.T,
        "single": blocks @ blocks.T,
        "noise": np.eye(len(rest)),
    }
    best, best_value = model.scales, -math.inf
    for values in itertools.product(*_GRID.values()):
        chosen = dict(zip(_GRID, values, strict=True))
        covariance = fixed + sum(chosen[name] ** 2 * part for name, part in parts.items())
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, rest)
        value = float(-0.5 * white @ white - np.log(np.diag(factor)).sum())
        value -= sum(
            0.5 * (math.log(chosen[name] / middle) / spread) ** 2 for name, (middle, spread) in _BELIEFS.items()
        )
        if value > best_value:
            best, best_value = replace(model.scales, **chosen), value
    return best

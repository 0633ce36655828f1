"""The rules ``cache-aware`` (nothing fitted) and ``calibrated`` (corrected by networks measured whole)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError
from dfmobile.latency.block_model import BlockModel, Physics, Scales
from dfmobile.latency.calibration import Calibration, Fit, fit_calibration, stored_calibrations
from dfmobile.latency.rules import OnePrediction, PredictionRule, Sums, register_rule
from dfmobile.latency.table import LatencyTable, TableEntry
from dfmobile.latency.working_set import WorkingSet, stored_working_set

# What is believed of a device on which no network was measured: blocks sum up to within some percent.
UNCALIBRATED = Scales(common=0.04, smooth=0.02, single=0.03, noise=0.02)
_Z_975 = 1.96


class BlockModelRule(PredictionRule):
    """A rule that predicts by a ``BlockModel``.

    Args:
        model: over ``entries``.
        multiplier: half of a 95 % interval in standard deviations.
        drift: standard deviation, relative, of a level that all networks share: the state of the machine.
    """

    def __init__(self, model: BlockModel, multiplier: float, drift: float = 0.0) -> None:
        self.entries = model.entries
        self.model = model
        self.multiplier = multiplier
        self.drift = drift
        self._position = {entry.key: number for number, entry in enumerate(model.entries)}
        self._rows = [tuple(row) for row in model.feature_rows().tolist()]

    def features(self, entry: TableEntry) -> tuple[float, ...]:
        """See base class; an entry that the rule does not know is an error."""
        return self._rows[self._position[entry.key]]

    def combine(self, sums: Sums) -> npt.NDArray[np.float64]:
        """See base class."""
        return self.model.latency(sums)

    def shares_ms(self, features: Sums, latency_ms: float) -> npt.NDArray[np.float64]:
        """See base class: hot time, its part of the cold time, and its part of the calls that a network saves."""
        total = features.sum(axis=0, keepdims=True)
        share = float(self.model.cached_share(total[:, 2], total[:, 3])[0]) * (1 + self.model.cold_deviation)
        found = features[:, 0] + share * features[:, 1]
        found += (latency_ms - found.sum()) / len(found)
        return found

    def predict_one(self, blocks: Sequence[int]) -> OnePrediction:
        """See base class; the same numbers as the vectorised way, without its fixed costs."""
        model, rows = self.model, self._rows
        hot, extra, weights, power, number = (math.fsum(rows[block][item] for block in blocks) for item in range(5))
        share, call_ms = model.cached_share_of(weights, power), model.physics.call_ms
        cold = share * (1 + model.cold_deviation)
        latency_ms = max(hot + cold * extra - (number - 1) * call_ms * (1 + model.call_deviation), 0.1 * hot)
        design = np.zeros(len(rows) + 2)
        design[:-2] = model.hot * np.bincount(blocks, minlength=len(rows))
        design[-2], design[-1] = share * extra, -(number - 1) * call_ms
        variance = max(0.0, float(design.dot(model.covariance).dot(design))) + (model.scales.noise * latency_ms) ** 2
        half = math.hypot(self.multiplier * math.sqrt(variance), _Z_975 * self.drift * latency_ms)
        shares = [rows[block][0] + cold * rows[block][1] for block in blocks]
        rest = (latency_ms - math.fsum(shares)) / len(shares)
        interval = (max(0.0, latency_ms - half), latency_ms + half)
        return OnePrediction(latency_ms, interval, [value + rest for value in shares])

    def interval_ms(self, counts: Sequence[tuple[TableEntry, int]], latency_ms: float) -> tuple[float, float] | None:
        """See base class."""
        row = np.zeros((1, len(self.entries)))
        for entry, count in counts:
            row[0, self._position[entry.key]] = count
        low, high = self.intervals_ms(row, np.array([latency_ms]))[0]
        return float(low), float(high)

    def intervals_ms(self, counts: Sums, latency_ms: npt.NDArray[np.float64]) -> Sums:
        """See base class."""
        own = self.multiplier * self.model.standard_deviation(counts, latency_ms)
        half = np.hypot(own, _Z_975 * self.drift * latency_ms)
        return np.stack([np.maximum(0.0, latency_ms - half), latency_ms + half], axis=1)

    def difference_half_widths_ms(self, left: Sums, right: Sums) -> npt.NDArray[np.float64]:
        """See base class; what the model does not know of each network is taken as independent."""
        model = self.model
        shared = model.variance(model.design(left) - model.design(right))
        own = model.scales.noise**2 * (model.predict(left) ** 2 + model.predict(right) ** 2)
        # The same network twice differs by nothing at all.
        own[(left == right).all(axis=1)] = 0.0
        level = self.drift * (model.predict(left) - model.predict(right))
        found: npt.NDArray[np.float64] = np.hypot(self.multiplier * np.sqrt(shared + own), _Z_975 * level)
        return found


def physics_of(working_set: WorkingSet | None) -> Physics:
    """Return what a table knows of its device; without a working set no cold term and no call."""
    if working_set is None:
        return Physics(None, 0.0)
    return Physics(working_set.curve, working_set.call_overhead_ms, working_set.cold_call_ms)


@register_rule
class CacheAwareRule(BlockModelRule):
    """Blocks' undisturbed hot times, and of what evicted caches add the share that the network's footprint asks for.

    Nothing is fitted. Its interval is prior knowledge about sums of blocks, not knowledge about this device.
    """

    name = "cache-aware"

    def __init__(self, table: LatencyTable, entries: Sequence[TableEntry]) -> None:
        found = stored_working_set(table)
        if found is None:
            raise InputError(
                f"{table.path} has no working-set sweep, which rule cache-aware needs",
                hint=f"measure it: dfmobile lut calibrate {table.path}, or predict with --rule sum",
            )
        self._working_set = found
        super().__init__(BlockModel(entries, physics_of(found), UNCALIBRATED), _Z_975)

    @property
    def basis(self) -> str:
        """See base class."""
        return f"{self._working_set.text}; nothing fitted, interval from prior experience, not from this device"


@register_rule
class CalibratedRule(BlockModelRule):
    """The cache-aware rule as a prior, corrected by networks of one space and input measured on the device.

    Its interval is the posterior's, widened by what leaving out each measured network showed (``fit_networks``) and
    by how far anchor blocks drifted meanwhile.
    """

    name = "calibrated"

    def __init__(
        self, table: LatencyTable, entries: Sequence[TableEntry], calibration: Calibration | None = None
    ) -> None:
        if calibration is None:
            found = stored_calibrations(table)
            if len(found) != 1:
                raise InputError(f"{table.path} has {len(found)} calibrations; one has to be named")
            calibration = found[0]
        physics = physics_of(stored_working_set(table))
        self.calibration = calibration
        self.fit: Fit = fit_calibration(table, entries, physics, calibration)
        super().__init__(self.fit.model, self.fit.multiplier, self.fit.drift)

    @classmethod
    def open_all(cls, table: LatencyTable, entries: Sequence[TableEntry]) -> list[PredictionRule]:
        """See base class: one instance for each calibration, over the blocks of its space and input."""
        found: list[PredictionRule] = []
        by_key = {entry.key: entry for entry in entries}
        for calibration in stored_calibrations(table):
            known = [by_key[key] for key in calibration.keys(table) if key in by_key]
            found.append(cls(table, known, calibration))
        return found

    @property
    def basis(self) -> str:
        """See base class."""
        item = self.calibration
        return (
            f"{len(item.networks)} networks of {item.space} at {item.width}x{item.height} measured whole "
            f"({item.measured_utc[:10]}); left out one by one they were predicted within "
            f"{100 * self.fit.left_out_error:.1f} % on average"
        )

"""Validate a table: measure networks that it has not seen, and say how far its predictions are off."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.sampling import stratified_rows
from dfmobile.errors import InputError
from dfmobile.files import FileLock, atomic_write
from dfmobile.latency.agreement import Agreement, Fraction, agreement
from dfmobile.latency.backends.base import Backend
from dfmobile.latency.calibrate import planned
from dfmobile.latency.calibration import stored_calibrations
from dfmobile.latency.network_runs import NETWORK_PROTOCOL, RunProgress, anchor_blocks, measure_networks, open_for
from dfmobile.latency.networks import MeasuredNetwork
from dfmobile.latency.predictor import Predictor, available_rules
from dfmobile.latency.table import LatencyTable

DEFAULT_NETWORKS = 200
PASSES = 4
MAX_PASSES = 8
WORST = 5


@dataclass(frozen=True)
class ValidatedNetwork:
    """One network, predicted and measured.

    Attributes:
        encoding: of the architecture.
        predicted_ms: by the table.
        interval_ms: (low, high), 95 %; None where the table does not tell.
        measured_ms: undisturbed latency of the whole network.
        median_ms: median of the pass medians, disturbances included.
        half_width: half of the 95 % interval of ``measured_ms``, relative, by how far its passes agree.
        halves_ms: undisturbed latency in the earlier and in the later half of the run.
        passes: how many.
        rejected: passes beside a disturbed anchor, which were measured again.
        drift: median of the anchors before its passes, over their entries; None without anchors.
    """

    encoding: str
    predicted_ms: float
    interval_ms: tuple[float, float] | None
    measured_ms: float
    median_ms: float
    half_width: float
    halves_ms: tuple[float, float] | None
    passes: int
    rejected: int
    drift: float | None

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted_ms / self.measured_ms - 1

    @property
    def covered(self) -> bool | None:
        """Whether the interval holds the measurement; None without an interval."""
        if self.interval_ms is None:
            return None
        return self.interval_ms[0] <= self.measured_ms <= self.interval_ms[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the network as a JSON document."""
        return {
            "encoding": self.encoding,
            "predicted_ms": self.predicted_ms,
            "measured_ms": self.measured_ms,
            "interval_ms": None if self.interval_ms is None else list(self.interval_ms),
            "error": self.error,
            "median_ms": self.median_ms,
            "half_width": self.half_width,
            "halves_ms": None if self.halves_ms is None else list(self.halves_ms),
            "passes": self.passes,
            "rejected": self.rejected,
            "drift": self.drift,
        }


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        space: whose networks.
        width: of the input image, pixels.
        height: of the input image, pixels.
        rule: that predicted.
        basis: what it rests on.
        networks: fresh ones, as measured.
        by_rule: agreement of every rule that the table has, on the same measurements.
        half_width: asked for: a network known to within it (95 %) is not measured again.
    """

    space: str
    width: int
    height: int
    rule: str
    basis: str
    networks: tuple[ValidatedNetwork, ...]
    by_rule: dict[str, Agreement]
    half_width: float

    @property
    def agreement(self) -> Agreement:
        """Of the rule that predicted."""
        return agreement([n.predicted_ms for n in self.networks], [n.measured_ms for n in self.networks])

    @property
    def coverage(self) -> Fraction | None:
        """Share of networks inside their interval; None where the table gives none."""
        known = [item.covered for item in self.networks if item.covered is not None]
        return Fraction(sum(known), len(known)) if known else None

    @property
    def noise_floor(self) -> float | None:
        """Mean absolute difference of the same networks in the two halves of the run; no prediction can do better."""
        halves = [item.halves_ms for item in self.networks if item.halves_ms is not None]
        return float(np.mean([abs(first / last - 1) for first, last in halves])) if halves else None

    @property
    def precise(self) -> Fraction:
        """Share of networks that are known to within ``half_width``."""
        return Fraction(sum(item.half_width <= self.half_width for item in self.networks), len(self.networks))

    @property
    def drift(self) -> tuple[float, float, float] | None:
        """Anchors over their entries: 5 % quantile, median, 95 % quantile; None without anchors."""
        known = [item.drift for item in self.networks if item.drift is not None]
        if not known:
            return None
        low, middle, high = np.quantile(known, (0.05, 0.5, 0.95)).tolist()
        return low, middle, high

    @property
    def rejected(self) -> int:
        """How many passes lay beside a disturbed anchor, and were measured again."""
        return sum(item.rejected for item in self.networks)

    @property
    def worst(self) -> list[ValidatedNetwork]:
        """The networks with the largest errors, largest first."""
        return sorted(self.networks, key=lambda item: -abs(item.error))[:WORST]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``dfmobile lut validate --json`` prints."""
        coverage = self.coverage
        return {
            **self.agreement.to_dict(),
            "coverage": None if coverage is None else coverage.value,
            "coverage_interval": None if coverage is None else list(coverage.interval),
            "noise_floor": self.noise_floor,
            "space": self.space,
            "input": f"{self.width}x{self.height}",
            "rule": self.rule,
            "basis": self.basis,
            "half_width": self.half_width,
            "precise": self.precise.value,
            "rejected": self.rejected,
            "drift": None if self.drift is None else list(self.drift),
            "disturbance": float(np.median([item.median_ms / item.measured_ms for item in self.networks])),
            "by_rule": {name: item.to_dict() for name, item in self.by_rule.items()},
            "worst": [item.to_dict() for item in self.worst],
            "networks": [item.to_dict() for item in self.networks],
        }


def validate_table(
    path: str | os.PathLike[str],
    space: SearchSpace,
    width: int,
    height: int,
    backend: Backend,
    *,
    networks: int = DEFAULT_NETWORKS,
    encodings: Sequence[str] | None = None,
    latency_max_ms: float | None = None,
    half_width: float = 0.02,
    rule: str | None = None,
    seed: int = 1,
    progress: Callable[[RunProgress], None] | None = None,
) -> Validation:
    """Measure networks that a table has not been calibrated with, and compare; run again, it goes on.

    Args:
        path: of a table with every block of the space at this input size.
        space: whose networks are predicted.
        width: of the input image, pixels.
        height: of the input image, pixels.
        backend: of the table.
        networks: how many fresh ones, spread evenly over the logarithm of the latency.
        encodings: instead: these networks, for example those that a search selected.
        latency_max_ms: only networks that are predicted to be faster.
        half_width: a network is measured again (up to ``MAX_PASSES`` passes) until half of its 95 % interval is below
            this share.
        rule: that predicts; None for the table's default.
        seed: of the choice and of the order.
        progress: called after each pass.

    Raises:
        MissingBlocksError: if the table lacks blocks.
        InputError: if the table belongs to another backend, or the space has too few networks in the range.
        LockedError, StorageError, BackendError, DeviceError, FileFormatError: as ``build_table``.
    """
    path = Path(path)
    if not 0 < half_width < 1:
        raise InputError(f"a half width of {half_width} is not between 0 and 1", hint="0.02 stands for 2 %")
    with FileLock(path, "validating the table"), open_for(path, backend) as table:
        Predictor(table, rule)  # a rule that the table does not have is refused before anything is measured
        if encodings is None:
            options = {"networks": networks, "latency_max_ms": latency_max_ms, "seed": seed}
            encodings = planned(
                table,
                f"validation {width}x{height} {space.name}",
                options,
                lambda: fresh_networks(table, space, width, height, networks, latency_max_ms, seed),
            )
        anchors = anchor_blocks(table.entries(), space.blocks(width, height))
    built = [build(Architecture.parse(text), width, height) for text in encodings]
    measured = measure_networks(
        path,
        built,
        backend,
        anchors=anchors,
        protocol=replace(NETWORK_PROTOCOL, passes=PASSES),
        half_width=half_width,
        max_passes=MAX_PASSES,
        seed=seed,
        progress=progress,
    )
    with LatencyTable.open(path) as table:
        predictor = Predictor(table, rule)
        others = {name: Predictor(table, name) for name in available_rules(table)}
    measured_ms = [item.quiet_ms for item in measured]
    predictions = [predictor.predict(network) for network in built]
    return Validation(
        space=space.name,
        width=width,
        height=height,
        rule=predictions[0].rule,
        basis=predictions[0].basis,
        networks=tuple(
            _validated(item, prediction.latency_ms, prediction.interval_ms)
            for item, prediction in zip(measured, predictions, strict=True)
        ),
        by_rule={
            name: agreement([other.predict(network).latency_ms for network in built], measured_ms)
            for name, other in others.items()
            if other.covers(built)
        },
        half_width=half_width,
    )


def fresh_networks(
    table: LatencyTable,
    space: SearchSpace,
    width: int,
    height: int,
    count: int,
    latency_max_ms: float | None,
    seed: int,
) -> list[str]:
    """Draw encodings spread over the latency range, none of which the table was calibrated with.

    Raises:
        MissingBlocksError: if the table lacks blocks.
        InputError: if the space has too few networks in the range.
    """
    predictor = Predictor(table)
    known = {text for item in stored_calibrations(table) for text in item.networks}

    def latency(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        return predictor.predict_rows(space, rows, width, height, skipped="infinite")

    wanted = min(count + len(known), space.count())
    rows, _ = stratified_rows(
        space,
        latency,
        wanted,
        np.random.default_rng(seed),
        latency_range=(None, latency_max_ms),
        strata=max(10, count // 4),
    )
    fresh = [text for text in (space.architecture(row).text for row in rows) if text not in known][:count]
    if len(fresh) < count:
        raise InputError(f"space {space.name!r} has {len(fresh)} networks that are fresh; {count} are wanted")
    return fresh


def _validated(item: MeasuredNetwork, predicted_ms: float, interval_ms: tuple[float, float] | None) -> ValidatedNetwork:
    drift = [value for value in item.drift if value is not None]
    return ValidatedNetwork(
        encoding=item.encoding,
        predicted_ms=predicted_ms,
        interval_ms=interval_ms,
        measured_ms=item.quiet_ms,
        median_ms=item.statistics.median_ms,
        half_width=item.half_width,
        halves_ms=item.halves_ms(),
        passes=len(item.passes),
        rejected=len(item.rejected),
        drift=float(np.median(drift)) if drift else None,
    )


def write_csv(path: str | os.PathLike[str], validation: Validation) -> None:
    """Write one row a network.

    Raises:
        StorageError: if it cannot be written.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "encoding",
            "predicted_ms",
            "low_ms",
            "high_ms",
            "measured_ms",
            "median_ms",
            "error",
            "half_width",
            "passes",
            "drift",
        ]
    )
    for item in validation.networks:
        low, high = item.interval_ms or ("", "")
        drift = "" if item.drift is None else item.drift
        values = (item.predicted_ms, low, high, item.measured_ms, item.median_ms, item.error, item.half_width)
        writer.writerow([item.encoding, *values, item.passes, drift])
    atomic_write(path, stream.getvalue())

"""Calibrate a table: choose networks that span a space, measure them whole, and store what follows."""

from __future__ import annotations

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
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import FileLock
from dfmobile.latency.backends.base import Backend
from dfmobile.latency.block_model import BlockModel
from dfmobile.latency.calibration import Calibration, Fit, fit_networks
from dfmobile.latency.model_rules import UNCALIBRATED, physics_of
from dfmobile.latency.network_runs import (
    NETWORK_PROTOCOL,
    RunProgress,
    anchor_blocks,
    measure_networks,
    open_for,
)
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.provenance import utc_now
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.working_set import WorkingSet, ensure_working_set, stored_working_set

DEFAULT_NETWORKS = 20
PASSES = 8
HALF_WIDTH = 0.02
_CANDIDATES_A_STRATUM = 30
_PLAN = "plan "


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration did.

    Attributes:
        path: of the table.
        calibration: as stored.
        fit: what follows from it.
        working_set: of the device; None for backends that do not run on a CPU.
        drift: of the anchors: (5 % quantile, median, 95 % quantile) over their entries; None without anchors.
        disturbance: median over the networks of their median run over their fastest.
    """

    path: Path
    calibration: Calibration
    fit: Fit
    working_set: WorkingSet | None
    drift: tuple[float, float, float] | None
    disturbance: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        item = self.calibration
        return {
            "table": str(self.path),
            "space": item.space,
            "input": f"{item.width}x{item.height}",
            "networks": list(item.networks),
            "n": len(item.networks),
            "left_out_error": self.fit.left_out_error,
            "interval_multiplier": self.fit.multiplier,
            "coefficients": item.coefficients,
            "working_set": None if self.working_set is None else self.working_set.model_dump(mode="json"),
            "drift": None if self.drift is None else list(self.drift),
            "disturbance": self.disturbance,
        }

    @property
    def text(self) -> str:
        """One line for people."""
        found = self.calibration
        return (
            f"calibrated with {len(found.networks)} networks of {found.space} at {found.width}x{found.height}; left "
            f"out one by one they are predicted within {100 * self.fit.left_out_error:.1f} % on average"
        )


def calibrate_table(
    path: str | os.PathLike[str],
    space: SearchSpace,
    width: int,
    height: int,
    backend: Backend,
    *,
    networks: int = DEFAULT_NETWORKS,
    latency_max_ms: float | None = None,
    passes: int = PASSES,
    seed: int = 0,
    progress: Callable[[RunProgress], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> CalibrationReport:
    """Measure networks of a space whole and store them with the table; run again, it goes on where it was stopped.

    Args:
        path: of a table with every block of the space at this input size.
        space: whose networks are to be predicted.
        width: of the input image, pixels.
        height: of the input image, pixels.
        backend: of the table.
        networks: how many.
        latency_max_ms: only networks that are predicted to be faster.
        passes: fresh interpreters a network, at least.
        seed: of the choice and of the order.
        progress: called after each pass.
        tell: told a line now and then.

    Raises:
        MissingBlocksError: if the table lacks blocks of the space.
        InputError: if the table belongs to another backend, or the space has too few networks in the range.
        LockedError, StorageError, BackendError, DeviceError, FileFormatError: as ``build_table``.
    """
    path = Path(path)
    with FileLock(path, "calibrating the table"), open_for(path, backend) as table:
        working_set = ensure_working_set(table, backend, tell) if backend.processor == "cpu" else None
        options = {"networks": networks, "latency_max_ms": latency_max_ms, "seed": seed}
        encodings = planned(
            table,
            f"calibration {width}x{height} {space.name}",
            options,
            lambda: spanning_networks(table, space, width, height, networks, latency_max_ms, seed),
        )
        anchors = anchor_blocks(table.entries(), space.blocks(width, height))
    measured = measure_networks(
        path,
        [build(Architecture.parse(text), width, height) for text in encodings],
        backend,
        anchors=anchors,
        protocol=replace(NETWORK_PROTOCOL, passes=passes),
        half_width=HALF_WIDTH,
        seed=seed,
        progress=progress,
    )
    with FileLock(path, "calibrating the table"), LatencyTable.open(path) as table:
        by_key = {entry.key: entry for entry in table.entries()}
        entries = [by_key[key] for key in space.key_index(width, height) if key in by_key]
        fit = fit_networks(entries, physics_of(stored_working_set(table)), measured)
        calibration = Calibration(
            space=space.name,
            width=width,
            height=height,
            networks=encodings,
            passes=passes,
            coefficients=fit.coefficients(),
            measured_utc=utc_now(),
        )
        table.set_document(calibration.document_name, calibration.model_dump(mode="json"))
    drift = [value for item in measured for value in item.drift if value is not None]
    low, middle, high = np.quantile(drift, (0.05, 0.5, 0.95)).tolist() if drift else (0.0, 0.0, 0.0)
    disturbance = float(np.median([item.statistics.median_ms / item.quiet_ms for item in measured]))
    return CalibrationReport(path, calibration, fit, working_set, (low, middle, high) if drift else None, disturbance)


def measure_device(
    path: str | os.PathLike[str], backend: Backend, tell: Callable[[str], None] | None = None
) -> WorkingSet | None:
    """Measure the working set of a table's device, where the table lacks it; None for backends without a CPU's caches.

    Raises:
        InputError: if the table belongs to another backend.
        LockedError, StorageError, BackendError, DeviceError, FileFormatError: as ``build_table``.
    """
    path = Path(path)
    if backend.processor != "cpu":
        return None
    with FileLock(path, "measuring the working set"), open_for(path, backend) as table:
        return ensure_working_set(table, backend, tell)


def spanning_networks(
    table: LatencyTable,
    space: SearchSpace,
    width: int,
    height: int,
    count: int,
    latency_max_ms: float | None,
    seed: int,
) -> list[str]:
    """Choose networks that span a space: one a stratum of log latency, there the one that tells most.

    Strata are taken from all over the range in turn; in each, the candidate is chosen whose latency is least certain
    (relative to it) given those chosen before: greedy D-optimal design for the block model.

    Returns:
        Encodings.

    Raises:
        MissingBlocksError: if the table lacks blocks.
        InputError: if the space has too few networks in the range.
    """
    predictor = Predictor(table, "sum" if stored_working_set(table) is None else "cache-aware")
    generator = np.random.default_rng(seed)

    def latency(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        return predictor.predict_rows(space, rows, width, height, skipped="infinite")

    rows, latency_ms = stratified_rows(
        space,
        latency,
        min(count * _CANDIDATES_A_STRATUM, _most(space, count)),
        generator,
        latency_range=(None, latency_max_ms),
        strata=count,
    )
    by_key = {entry.key: entry for entry in table.entries()}
    keys = [key for key in space.key_index(width, height) if key in by_key]
    unit = dict(zip(keys, np.eye(len(keys)).tolist(), strict=True))
    zeros = [0.0] * len(keys)
    counts = space.sums(rows, width, height, {key: unit.get(key, zeros) for key in space.key_index(width, height)})
    model = BlockModel([by_key[key] for key in keys], physics_of(stored_working_set(table)), UNCALIBRATED)
    design = model.design(counts) / latency_ms[:, None]
    strata = np.array_split(np.argsort(latency_ms, kind="stable"), count)
    covariance = model.prior.copy()
    chosen: list[int] = []
    for stratum in (strata[number] for number in generator.permutation(count)):
        variance = np.einsum("ri,ri->r", design[stratum] @ covariance, design[stratum])
        best = int(stratum[int(np.argmax(variance))])
        chosen.append(best)
        seen = covariance @ design[best]
        covariance -= np.outer(seen, seen) / (design[best] @ seen + UNCALIBRATED.noise**2)
    return [space.architecture(rows[number]).text for number in sorted(chosen, key=lambda item: latency_ms[item])]


def _most(space: SearchSpace, count: int) -> int:
    """Return how many candidates a space can give at most, ``count`` at least."""
    return max(count, space.count() // 4)


def planned(table: LatencyTable, name: str, options: dict[str, Any], choose: Callable[[], Sequence[str]]) -> list[str]:
    """Return the encodings that an earlier sitting with equal options chose, else choose and store them.

    So what is measured does not change when the table learns more in the meantime.

    Raises:
        FileFormatError: if the plan is damaged.
    """
    document = table.document(_PLAN + name)
    if document is not None:
        good = (
            isinstance(document, dict)
            and set(document) == {"options", "encodings"}
            and isinstance(document["encodings"], list)
            and all(isinstance(item, str) for item in document["encodings"])
        )
        if not good:
            raise FileFormatError(f"{table.path} is damaged: the plan of {name!r} cannot be read")
        if document["options"] == options:
            return list(document["encodings"])
    encodings = list(choose())
    if not encodings:
        raise InputError("no network was chosen")
    table.set_document(_PLAN + name, {"options": options, "encodings": encodings})
    return encodings

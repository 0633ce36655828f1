"""Calibrations: which networks were measured whole to correct a table's predictions, and what follows from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dfmobile.errors import FileFormatError, InputError
from dfmobile.latency.block_model import BlockModel, Physics, choose_scales
from dfmobile.latency.build_command import build_command
from dfmobile.latency.header import Text, damaged
from dfmobile.latency.networks import MeasuredNetwork, stored_networks
from dfmobile.latency.statistics import robust_deviation
from dfmobile.latency.table import LatencyTable, TableEntry

PREFIX = "calibration "
LEAST_NETWORKS = 8
_Z_975 = 1.96
_PRIOR_SCORES = 6.0


class Calibration(BaseModel):
    """A calibration as a table keeps it.

    Attributes:
        space: whose networks were measured.
        width: of the input image, pixels.
        height: of the input image, pixels.
        networks: encodings of the measured networks; their passes are documents of the table.
        passes: that each has at least.
        coefficients: what was fitted when it was made, for readers; predictions fit anew from the measurements.
        measured_utc: when.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    space: Text
    width: Annotated[int, Field(ge=1, le=2**20)]
    height: Annotated[int, Field(ge=1, le=2**20)]
    networks: Annotated[list[Text], Field(min_length=LEAST_NETWORKS, max_length=10_000)]
    passes: Annotated[int, Field(ge=1, le=10_000)]
    coefficients: dict[str, Any]
    measured_utc: Text

    @property
    def document_name(self) -> str:
        """Under which name a table keeps it."""
        return f"{PREFIX}{self.width}x{self.height} {self.space}"

    def keys(self, table: LatencyTable) -> list[str]:
        """Return the keys of the blocks that it is for.

        Raises:
            FileFormatError: if the table does not say.
        """
        for build in table.builds():
            if (build.space, build.width, build.height) == (self.space, self.width, self.height):
                return list(build.keys)
        raise FileFormatError(
            f"{table.path} has a calibration of {self.space} at {self.width}x{self.height}, but no such build",
            hint=build_command(table.header, table.path, f"--space {self.space} --input {self.width}x{self.height}"),
        )


@dataclass(frozen=True)
class Fit:
    """What follows from a calibration.

    Attributes:
        model: conditioned on the measured networks.
        multiplier: half of a 95 % interval in the model's standard deviations.
        left_out_error: mean absolute relative error of the networks, each predicted from the others.
        drift: how far the machine moves, relative (see ``machine_drift``). Added to intervals as a standard deviation
            that all networks share.
    """

    model: BlockModel
    multiplier: float
    left_out_error: float
    drift: float

    def coefficients(self) -> dict[str, Any]:
        """Return what was fitted, JSON values: deviations by block digest are relative."""
        scales = self.model.scales
        kinds = sorted({entry.kind for entry in self.model.entries})
        deviation = {
            kind: float(
                np.mean([d for e, d in zip(self.model.entries, self.model.deviation, strict=True) if e.kind == kind])
            )
            for kind in kinds
        }
        return {
            "mean_deviation_by_kind": deviation,
            "cold_deviation": self.model.cold_deviation,
            "call_deviation": self.model.call_deviation,
            "scales": {name: getattr(scales, name) for name in scales.__dataclass_fields__},
            "interval_multiplier": self.multiplier,
            "left_out_error": self.left_out_error,
            "drift": self.drift,
            "call_ms": self.model.physics.call_ms,
            "cold_call_ms": self.model.physics.cold_call_ms,
        }


def stored_calibrations(table: LatencyTable) -> list[Calibration]:
    """Return a table's calibrations, by name.

    Raises:
        FileFormatError: if one is damaged.
    """
    found = []
    for name, document in table.documents(PREFIX).items():
        try:
            calibration = Calibration.model_validate(document)
        except ValidationError as error:
            raise damaged(str(table.path), "calibration", error) from error
        if calibration.document_name != name or len(set(calibration.networks)) != len(calibration.networks):
            raise FileFormatError(f"{table.path} is damaged: {name!r} holds another calibration")
        found.append(calibration)
    return found


def fit_calibration(
    table: LatencyTable, entries: Sequence[TableEntry], physics: Physics, calibration: Calibration
) -> Fit:
    """Condition the block model on a calibration's networks.

    Raises:
        FileFormatError: if the table lacks one of the networks or its blocks.
    """
    networks = stored_networks(table, calibration.width, calibration.height, calibration.networks)
    return fit_networks(entries, physics, networks)


def fit_networks(entries: Sequence[TableEntry], physics: Physics, networks: Sequence[MeasuredNetwork]) -> Fit:
    """Condition the block model on measured networks.

    Raises:
        InputError: if there are fewer than ``LEAST_NETWORKS``.
        FileFormatError: if a network has a block that is not among the entries.
    """
    if len(networks) < LEAST_NETWORKS:
        raise InputError(f"{len(networks)} networks are too few to calibrate with; {LEAST_NETWORKS} are the least")
    counts = count_matrix(entries, networks)
    measured_ms = np.array([network.quiet_ms for network in networks])
    prior = BlockModel(entries, physics)
    chosen = BlockModel(entries, physics, choose_scales(prior, counts, measured_ms))
    chosen.__dict__["similarity"] = prior.similarity
    errors, deviations = chosen.leave_one_out(counts, measured_ms)
    return Fit(
        model=chosen.conditioned(counts, measured_ms),
        multiplier=conformal_multiplier(errors / deviations),
        left_out_error=float(np.mean(np.abs(errors) / measured_ms)),
        drift=machine_drift(networks),
    )


def machine_drift(networks: Sequence[MeasuredNetwork]) -> float:
    """Return how far the machine moves between measurements of the same things: a relative standard deviation.

    Two kinds of evidence, weighted by their degrees of freedom. In each round every network had a pass: the median over
    networks of how far that pass is from the network's own median is the level of the round, and rounds scatter: a few
    disturbed ones do not count, as they do not move the networks' medians. And anchor blocks in a usual round are off
    their entries in the table: one observation, of a longer time. What scatters within a round is no drift; that is
    the noise of the model. 0 without anchors and with one pass a network.
    """
    rounds = itertools.zip_longest(*(network.drift for network in networks))
    known = [[value for value in values if value is not None] for values in rounds]
    departures = [abs(float(np.median(values)) - 1) for values in known if values]
    departure = float(np.median(departures)) if departures else 0.0
    levels = round_levels(networks)
    if len(levels) < 2:
        return departure
    freedom = len(levels) - 1
    return math.sqrt((freedom * robust_deviation(levels) ** 2 + departure**2) / (freedom + 1))


def round_levels(networks: Sequence[MeasuredNetwork]) -> list[float]:
    """Return the level of each round that all networks took part in, relative to a usual one."""
    complete = min((len(network.passes) for network in networks), default=0)
    if complete < 2:
        return []
    fastest = [np.log(network.pass_fastest_ms) for network in networks]
    relative = np.stack([values[:complete] - np.median(values) for values in fastest])
    return [float(value) for value in np.median(relative, axis=0)]


def conformal_multiplier(scores: npt.NDArray[np.float64], coverage: float = 0.95) -> float:
    """Return how many standard deviations an interval needs, from leave-one-out errors in standard deviations.

    The larger of two: the conformal quantile, the ceil((K + 1) coverage)-th smallest score (jackknife; Vovk et al.
    2005; Barber et al. 2021), which assumes no distribution; and the normal quantile, scaled up (never down: twenty
    lucky networks prove little) by the root mean square of the scores with six more scores of 1 added.
    """
    count = len(scores)
    rank = min(count, math.ceil((count + 1) * coverage))
    conformal = float(np.sort(np.abs(scores))[rank - 1])
    scaled = _Z_975 * max(1.0, math.sqrt((_PRIOR_SCORES + float(scores @ scores)) / (_PRIOR_SCORES + count)))
    return max(conformal, scaled)


def count_matrix(entries: Sequence[TableEntry], networks: Sequence[MeasuredNetwork]) -> npt.NDArray[np.float64]:
    """Return how often each entry occurs in each network, ``[K, B]``.

    Raises:
        FileFormatError: if a network has a block that is not among the entries.
    """
    position = {entry.digest: number for number, entry in enumerate(entries)}
    found = np.zeros((len(networks), len(entries)))
    for row, network in zip(found, networks, strict=True):
        for digest, count in network.blocks.items():
            if digest not in position:
                raise FileFormatError(
                    f"the measured network {network.encoding[:80]} has block {digest}, which is not there"
                )
            row[position[digest]] = count
    return found

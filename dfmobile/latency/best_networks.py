"""Whether the best networks change between two tables.

The best network under a latency target is the one with the most MACs that fits: accuracy is not known to a table,
and within a space MACs grow along the partial order. Targets are quantiles of what A predicts over the space. Both
tables predict by the sum of block medians: comparing tables needs no model of what a sum leaves out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Network, build, resolve
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import MissingBlocksError
from dfmobile.latency.diff import SIGNIFICANCE, TablePair
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.significance import holm, spearman, t_tail, t_value
from dfmobile.latency.table import LatencyTable

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
MAX_NETWORKS = 20_000


@dataclass(frozen=True)
class NetworkDiff:
    """A network in both tables.

    Attributes:
        encoding: of A's choice, or of the network that was built.
        target_ms: latency target; None for a network that was built by itself.
        a_ms: predicted from A.
        b_ms: predicted from B, without the common factor.
        interval: 95 % interval of B over A, by the passes that count: measurement error only.
        floor_ratio: B over A without the common factor, by the blocks' fastest runs.
        choice_b: encoding of the best network by B, without the common factor; None where there is no target.
        macs_a: of A's choice.
        macs_b: of B's choice.
        too_slow: A's choice no longer fits the target, beyond measurement error.
        regressed: passes and floors agree that it is slower by more than the threshold.
    """

    encoding: str
    target_ms: float | None
    a_ms: float
    b_ms: float
    interval: tuple[float, float]
    floor_ratio: float
    choice_b: str | None
    macs_a: int
    macs_b: int
    too_slow: bool
    regressed: bool

    @property
    def moved(self) -> bool:
        """Whether B's best network is another one (near ties move by noise alone: see ``too_slow``)."""
        return self.choice_b is not None and self.choice_b != self.encoding

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "interval": list(self.interval)}


@dataclass(frozen=True)
class SpaceDiff:
    """What two tables say of the networks of a space, or of networks that were built by themselves.

    Attributes:
        space: name, or "networks" for those built by themselves.
        input: width x height.
        networks: how many were predicted.
        rank_correlation: Spearman's, of both tables' predictions; None for single networks.
        best: the best network for each target, by A.
    """

    space: str
    input: str
    networks: int
    rank_correlation: float | None
    best: tuple[NetworkDiff, ...]

    @property
    def changed(self) -> bool:
        """Whether a best network changed beyond measurement error."""
        return any(item.moved and item.too_slow for item in self.best)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "space": self.space,
            "input": self.input,
            "networks": self.networks,
            "rank_correlation": self.rank_correlation,
            "changed": self.changed,
            "best": [{**item.to_dict(), "moved": item.moved} for item in self.best],
        }


def diff_space(
    pair: TablePair,
    a: LatencyTable,
    b: LatencyTable,
    space: SearchSpace,
    width: int,
    height: int,
    *,
    threshold: float,
    same_software: bool,
) -> SpaceDiff:
    """Compare what two tables say of a space; above 20,000 architectures, of a sample of that many.

    Args:
        pair: of ``a`` and ``b``.
        a: the older table.
        b: the newer one.
        space: search space.
        width: of the input image, pixels.
        height: of the input image, pixels.
        threshold: slower by more than this share is a regression.
        same_software: the common factor is drift for certain.

    Raises:
        MissingBlocksError: if a table lacks blocks of the space.
    """
    rows = space.rows() if space.count() <= MAX_NETWORKS else space.sample_rows(MAX_NETWORKS, np.random.default_rng(0))
    latencies = [
        Predictor(table, "sum").predict_rows(space, rows, width, height, skipped="infinite") for table in (a, b)
    ]
    known = np.isfinite(latencies[0]) & np.isfinite(latencies[1])
    if not known.any():
        raise MissingBlocksError(f"no network of {space.name} at {width}x{height} has all its blocks in both tables")
    rows, a_ms = rows[known], latencies[0][known]
    b_ms = latencies[1][known] / math.exp(pair.common_log)
    macs = space.sums(rows, width, height, {item.key: (float(item.macs),) for item in space.blocks(width, height)})[
        :, 0
    ]
    targets = [float(np.quantile(a_ms, share)) for share in QUANTILES]
    choices = [(_best(macs, a_ms, target), _best(macs, b_ms, target)) for target in targets]
    networks = [build(space.architecture(rows[first]), width, height) for first, _ in choices]
    others = [space.architecture(rows[second]).text for _, second in choices]
    macs_b = [int(macs[second]) for _, second in choices]
    best = _judge(pair, networks, targets, others, macs_b, threshold, same_software)
    return SpaceDiff(space.name, f"{width}x{height}", len(rows), spearman(a_ms, b_ms), best)


def diff_networks(
    pair: TablePair, encodings: Sequence[str], width: int, height: int, *, threshold: float, same_software: bool
) -> SpaceDiff:
    """Compare what two tables say of single networks; arguments as for ``diff_space``."""
    networks = [build(resolve(text), width, height) for text in encodings]
    missing = [block for network in networks for block in network.blocks if block.key not in set(pair.keys)]
    if missing:
        raise MissingBlocksError(
            f"both tables must have {missing[0].text} to compare {networks[0].architecture.text}",
            keys=tuple(block.key for block in missing),
        )
    nothing: list[None] = [None] * len(networks)
    macs = [network.cost.macs for network in networks]
    best = _judge(pair, networks, nothing, nothing, macs, threshold, same_software)
    return SpaceDiff("networks", f"{width}x{height}", len(networks), None, best)


def _best(macs: npt.NDArray[np.float64], latency_ms: npt.NDArray[np.float64], target_ms: float) -> int:
    """Return the row with the most MACs that fits, of several the fastest; where none fits, the fastest of all."""
    fits = np.flatnonzero(latency_ms <= target_ms)
    if not len(fits):
        return int(np.argmin(latency_ms))
    return int(fits[np.lexsort((latency_ms[fits], -macs[fits]))[0]])


def _judge(
    pair: TablePair,
    networks: Sequence[Network],
    targets: Sequence[float | None],
    others: Sequence[str | None],
    macs_b: Sequence[int],
    threshold: float,
    same_software: bool,
) -> tuple[NetworkDiff, ...]:
    index = {key: position for position, key in enumerate(pair.keys)}
    scale = math.exp(pair.common_log)
    facts = []
    for network, target in zip(networks, targets, strict=True):
        counts = Counter(block.key for block in network.blocks)
        at = [index[key] for key in counts]
        times = np.array(list(counts.values()))
        a_ms, b_ms = (float(value) for value in (times * pair.medians_ms[:, at]).sum(axis=1))
        terms = times * pair.levels_ms[:, at]
        # Relative errors of the two sums: those of a block that occurs k times are one error.
        parts = pair.variances[:, at] * (terms / terms.sum(axis=1, keepdims=True)) ** 2
        error = math.sqrt(max(float(parts.sum()), 1e-12))
        freedom = pair.freedom(parts, pair.freedoms[:, at])
        floors = (times * pair.floors_ms[:, at]).sum(axis=1)
        level = terms.sum(axis=1)
        shift = math.log(level[1] / level[0]) - pair.common_log
        slower = t_tail((shift - math.log1p(threshold)) / error, freedom)
        # The target is in terms of medians: what A's choice may slow down before it no longer fits.
        late = 1.0 if target is None else t_tail((shift - math.log(max(target / a_ms, 1.0))) / error, freedom)
        facts.append((a_ms, b_ms / scale, shift, t_value(0.025, freedom) * error, floors[1] / floors[0], slower, late))
    slower_p = holm([item[5] for item in facts])
    late_p = holm([item[6] for item in facts])
    found = []
    for i, (a_ms, b_ms, shift, half, floor_ratio, _, _) in enumerate(facts):
        floor = floor_ratio / scale
        slowed = floor > 1 + threshold and (same_software or floor_ratio > 1 + threshold)
        found.append(
            NetworkDiff(
                encoding=networks[i].architecture.text,
                target_ms=targets[i],
                a_ms=a_ms,
                b_ms=b_ms,
                interval=(math.exp(shift - half), math.exp(min(shift + half, 700.0))),
                floor_ratio=float(floor),
                choice_b=others[i],
                macs_a=networks[i].cost.macs,
                macs_b=macs_b[i],
                too_slow=bool(late_p[i] < SIGNIFICANCE and floor > 1),
                regressed=bool(slower_p[i] < SIGNIFICANCE and slowed),
            )
        )
    return tuple(found)

"""Measure on where it pays, until intervals are as narrow as was asked, or the time is used.

After the first passes of all blocks, rounds follow. A round has one more pass of some blocks: of those whose interval
is still too wide, first those that matter most, that is, whose variance, weighted by how often the block occurs in
networks of the space and how much of their latency it is, shrinks most for the time another pass takes.

Everything that is needed to go on is in the table, so an interrupted build goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Network
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError, quoted
from dfmobile.latency.entries import TableEntry
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.pooled import Precision, pooled_precision
from dfmobile.latency.statistics import t_quantile_975
from dfmobile.latency.table import LatencyTable

Array = npt.NDArray[np.float64]
Of = Literal["blocks", "networks"]
DEFAULT_HALF_WIDTH = 0.03
# Fresh interpreters say more than more runs, so passes are short and there are more of them.
# A run of over 150 ms is an average by itself: one to warm up, one that counts.
ADAPTIVE_PROTOCOL = Protocol(passes=1, min_runs=1, min_warm_up_runs=1, hot_budget_ms=150.0, cold_budget_ms=50.0)
SAMPLED_NETWORKS = 1000
# Two passes that happen to agree do not show that a block repeats well, whatever the others do.
LEAST_PASSES = 3
# Fewer would follow one another so closely that a slow moment hits several passes of one block.
LEAST_BATCH = 6
_GAIN_SHARE = 0.8


@dataclass(frozen=True)
class Target:
    """What an adaptive build aims at.

    Attributes:
        half_width: half of the 95 % interval over the estimate, e.g. 0.03.
        of: every block, or every one of a sample of networks of the space, predicted by the sum of blocks.
        max_passes: of one block; a block that needs more is left as it is, and reported.
        time_budget_s: begin no pass later than this after the build began; None: no limit.
    """

    half_width: float = DEFAULT_HALF_WIDTH
    of: Of = "blocks"
    max_passes: int = 30
    time_budget_s: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the first that cannot be.
        """
        if not 0.0005 <= self.half_width <= 1.0:
            raise InputError(
                f"a half-width of {self.half_width} cannot be aimed at", hint="a share from 0.0005 to 1, e.g. 0.03"
            )
        if self.of not in get_args(Of):
            raise InputError(f"{self.of!r} have no half-width", hint=f"one of: {', '.join(get_args(Of))}")
        if not LEAST_PASSES <= self.max_passes <= 10_000:
            raise InputError(f"{self.max_passes} passes at most are too few or too many")
        if self.time_budget_s is not None and not 0 < self.time_budget_s < math.inf:
            raise InputError(f"a time budget of {self.time_budget_s} s is no time")


def adaptive_target(half_width: float | None, of: str, time_budget_s: float | None) -> Target | None:
    """Return what a user's options aim at; None where neither a half-width nor a time is given.

    Raises:
        InputError: if one cannot be, or ``of`` is given without the others.
    """
    if half_width is None and time_budget_s is None:
        if of != "blocks":
            raise InputError("a half-width of networks was asked for, but not which", hint="add --half-width 0.03")
        return None
    if of not in get_args(Of):
        raise InputError(f"{quoted(of)} have no half-width", hint=f"one of: {', '.join(get_args(Of))}")
    return Target(DEFAULT_HALF_WIDTH if half_width is None else half_width, cast(Of, of), time_budget_s=time_budget_s)


@dataclass(frozen=True)
class Reached:
    """How precise a table is for what was asked.

    Attributes:
        target: what was aimed at.
        blocks_within: share of the blocks that are precise enough.
        block_worst: largest relative half-width of a block; None where one is unknown.
        networks_within: share of the sampled networks that are precise enough.
        network_worst: largest relative half-width of a sampled network; None where one is unknown.
        passes: of all blocks.
        out_of_time: the time budget ended it.
    """

    target: Target
    blocks_within: float
    block_worst: float | None
    networks_within: float
    network_worst: float | None
    passes: int
    out_of_time: bool

    @property
    def done(self) -> bool:
        """Whether the target is reached."""
        return (self.blocks_within if self.target.of == "blocks" else self.networks_within) == 1.0

    @property
    def text(self) -> str:
        """One line for people."""
        worst = ["-" if value is None else f"{100 * value:.1f} %" for value in (self.block_worst, self.network_worst)]
        verdict = "reached" if self.done else "not reached" + (", out of time" if self.out_of_time else "")
        return (
            f"half-width {100 * self.target.half_width:g} % of {self.target.of}: {verdict} (blocks: worst {worst[0]},"
            f" {100 * self.blocks_within:.0f} % within; networks: worst {worst[1]},"
            f" {100 * self.networks_within:.0f} % within; {self.passes} passes)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "half_width": self.target.half_width,
            "of": self.target.of,
            "reached": self.done,
            "blocks_within": self.blocks_within,
            "block_worst": self.block_worst,
            "networks_within": self.networks_within,
            "network_worst": self.network_worst,
            "passes": self.passes,
            "out_of_time": self.out_of_time,
        }


class Adaptive:
    """Chooses what to measure next.

    Args:
        table: being built.
        source: space or network that the table is for.
        width: of the input image, pixels.
        height: of the input image, pixels.
        target: to reach.
    """

    def __init__(
        self, table: LatencyTable, source: SearchSpace | Network, width: int, height: int, target: Target
    ) -> None:
        self._table, self.target = table, target
        self._keys, self._counts = occurrences(source, width, height)

    def next_passes(self, left_out: Collection[str], seconds: Mapping[str, float]) -> list[tuple[str, int]]:
        """Return (key, pass index) of the next round; empty where the target is reached or nothing helps any more.

        Args:
            left_out: keys of blocks that are too slow for the build.
            seconds: about how long a pass of each block takes, by key.
        """
        state = _State(self._table, self._keys, self._counts, left_out)
        able = [
            place
            for place in state.known
            if state.passes[place] < self.target.max_passes and not state.exhausted[place]
        ]
        rows = np.ones(len(state.counts), np.bool_)
        if self.target.of == "blocks":
            wanted = [place for place in able if state.relative[place] > self.target.half_width]
        else:
            rows = state.network_half_widths() > self.target.half_width
            wanted = [place for place in able if state.counts[rows, place].any()]
        if not wanted:
            return []
        rate = state.gain(rows) / np.array([max(1e-6, seconds.get(key, 1.0)) for key in self._keys])
        ordered = sorted(wanted, key=lambda place: (-rate[place], self._keys[place]))
        if self.target.of == "networks":
            shares = np.cumsum(rate[ordered]) / rate[ordered].sum()
            ordered = ordered[: max(LEAST_BATCH, int(np.searchsorted(shares, _GAIN_SHARE)) + 1)]
        rest = sorted((place for place in able if place not in ordered), key=lambda place: -state.relative[place])
        batch = [*ordered, *rest[: max(0, LEAST_BATCH - len(ordered))]]
        return [(self._keys[place], state.next_index[self._keys[place]]) for place in batch]

    def reached(self, left_out: Collection[str], *, out_of_time: bool) -> Reached:
        """Return how precise the table is.

        Args:
            left_out: keys of blocks that are too slow for the build.
            out_of_time: the time budget ended the build.
        """
        state = _State(self._table, self._keys, self._counts, left_out)
        asked = [place for place, key in enumerate(self._keys) if key not in left_out]
        blocks = state.relative[asked] if asked else np.zeros(1)
        networks = state.network_half_widths() if len(state.counts) else np.zeros(1)
        goal = self.target.half_width
        return Reached(
            target=self.target,
            blocks_within=float(np.mean(blocks <= goal)),
            block_worst=_finite(float(blocks.max())),
            networks_within=float(np.mean(networks <= goal)),
            network_worst=_finite(float(networks.max())),
            passes=int(state.passes.sum()),
            out_of_time=out_of_time,
        )


class _State:
    """How precise the blocks are now; arrays in the order of ``keys``. Unknown precision is infinite."""

    def __init__(self, table: LatencyTable, keys: Sequence[str], counts: Array, left_out: Collection[str]) -> None:
        entries = table.entries()
        by_key = {entry.key: entry for entry in entries}
        precision: dict[str, Precision] = pooled_precision(entries)
        self.known = [place for place, key in enumerate(keys) if key in by_key and key not in left_out]
        self.next_index: dict[str, int] = {}
        for key, number in table.recorded():
            self.next_index[key] = max(self.next_index.get(key, 0), number + 1)
        self.latency = np.array([by_key[key].hot_ms if key in by_key else math.nan for key in keys])
        # Builds of engines that passes share (``builds=N``): another pass is of one that is known already.
        self.exhausted = np.array([key in by_key and _shares_builds(by_key[key]) for key in keys], np.bool_)
        self.passes = np.array([by_key[key].passes if key in by_key else 0 for key in keys])
        self.error = np.array([precision[key].standard_error_ms if key in precision else math.inf for key in keys])
        self.freedom = np.array([precision[key].freedom if key in precision else 1.0 for key in keys])
        half = np.array([precision[key].half_width_ms if key in precision else math.inf for key in keys])
        unknown = np.isnan(self.latency) | (self.passes < LEAST_PASSES)
        self.relative: Array = np.where(unknown, math.inf, half / self.latency)
        # Networks with a block that is too slow are none that anybody predicts.
        absent = np.array([key in left_out for key in keys])
        self.counts = counts[~(counts[:, absent] > 0).any(axis=1)]

    def network_half_widths(self) -> Array:
        """Return relative half-widths of the sampled networks, ``[R]``; errors of different blocks are independent."""
        found = np.full(len(self.counts), math.inf)
        for row, counts in enumerate(self.counts):
            used = np.flatnonzero(counts)
            variances = (counts[used] * self.error[used]) ** 2
            total = float(variances.sum())
            if math.isfinite(total) and not np.isnan(self.latency[used]).any():
                # Blocks share the common part of their freedom: the least of them is on the safe side.
                freedom = max(1.0, float(self.freedom[used].min()))
                latency_ms = float(counts[used] @ self.latency[used])
                found[row] = t_quantile_975(freedom) * math.sqrt(total) / latency_ms
        return found

    def gain(self, rows: npt.NDArray[np.bool_]) -> Array:
        """Return how much relative variance of some networks another pass of each block would take away, ``[B]``.

        Args:
            rows: which networks, ``[R]``.
        """
        latency = np.nan_to_num(self.latency, nan=0.0)
        counts = self.counts[rows]
        shares = counts / np.maximum(counts @ latency, 1e-9)[:, None]
        error = np.where(np.isfinite(self.error), self.error, latency)
        found: Array = (shares**2).sum(axis=0) * error**2 / (self.passes + 1)
        return found


def occurrences(source: SearchSpace | Network, width: int, height: int) -> tuple[list[str], Array]:
    """Return the block keys of a space or network, and how often each occurs in networks, ``[R, B]``.

    Networks are drawn from the space, small ones as often as large ones; a network stands for itself.
    """
    blocks = source.blocks if isinstance(source, Network) else source.blocks(width, height)
    keys = list(dict.fromkeys(block.key for block in blocks))
    place = {key: number for number, key in enumerate(keys)}
    if isinstance(source, Network):
        counts = np.zeros((1, len(keys)))
        for block in blocks:
            counts[0, place[block.key]] += 1
        return keys, counts
    identity = np.eye(len(keys))
    rows = source.spread_rows(SAMPLED_NETWORKS, np.random.default_rng(0))
    rows = np.unique(rows, axis=0).astype(np.int32)
    return keys, source.sums(rows, width, height, {key: identity[place[key]].tolist() for key in keys})


def _shares_builds(entry: TableEntry) -> bool:
    return entry.between_builds_ms is not None and entry.hot.passes < entry.passes


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

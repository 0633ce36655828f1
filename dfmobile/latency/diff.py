"""What changed between two latency tables: blocks, the machine as a whole, and which networks are best.

Interference only ever makes a run slower, and on a shared machine it comes in phases, so two tables of the same
software differ by tens of percent in a few blocks. A change is believed when two views of it agree:

- **passes**: Student's t on logarithms, with variances drawn towards what is typical of the table, corrected for the
  number of blocks (Benjamini-Hochberg to list changes, Holm for the gate). Below six passes a block: the medians of
  all passes. From six up: the fastest runs of the fastest third of the passes (three at least), which sets slow
  phases aside (chosen on 21 repeats of one build, see ``docs/how-to/compare-tables.md``);
- **floors**: the fastest run of all passes, which interference rarely moves.

Engines (TensorRT) differ from build to build, faster and slower, and so does what a block adds, a difference of two of
them. There builds stand for passes and medians for fastest runs, in both views.

What all blocks share (the median of the floors' ratios) is the *common factor*: drift of the machine where the
software is the same, drift or a slower runtime where it is not. Blocks and networks are judged without it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError
from dfmobile.latency.marginal import build_of, cost_by_build
from dfmobile.latency.significance import benjamini_hochberg, holm, moderated_variances, t_tail, t_value
from dfmobile.latency.table import LatencyTable

SIGNIFICANCE = 0.05
DEFAULT_THRESHOLD = 0.05
MANY_PASSES = 6
SMALLEST_CHANGE = 0.01
"""Changes of a floor below 1 % are not listed, however certain."""
_SOFTWARE = ("backend", "runtime", "runtime_version", "library_sha256", "flags", "precision", "threads", "affinity")


@dataclass(frozen=True)
class BlockDiff:
    """One block in both tables.

    Attributes:
        key: LUT key.
        kind: of block.
        text: for people.
        a_ms: median of A's pass medians.
        b_ms: of B's.
        ratio: B over A without the common factor, by the passes that count.
        interval: its 95 % interval, of this block alone.
        floor_ratio: B over A without the common factor, by the fastest run.
        p_changed: adjusted by Benjamini-Hochberg, two-sided.
        p_slower: that it is not slower than the threshold allows; adjusted by Holm.
        changed: passes and floors agree that it changed.
        regressed: passes and floors agree that it is slower by more than the threshold.
    """

    key: str
    kind: str
    text: str
    a_ms: float
    b_ms: float
    ratio: float
    interval: tuple[float, float]
    floor_ratio: float
    p_changed: float
    p_slower: float
    changed: bool
    regressed: bool


@dataclass(frozen=True)
class TableDiff:
    """Two tables compared.

    Attributes:
        a: path of the older table.
        b: path of the newer one.
        differences: what differs in their headers; empty for repeats of one measurement.
        same_software: runtime, version, flags, precision, threads and affinity are the same.
        threshold: slower by more than this share is a regression.
        common: B over A, what all blocks share.
        common_interval: its 95 % interval (of a median: from order statistics).
        common_slower: all blocks together are slower by more than the threshold, for whatever reason.
        common_regressed: and the software differs, and there are passes enough (six) to believe it.
        blocks: in both tables, the most slowed down first.
        only_a: texts of blocks that only A has.
        only_b: texts of blocks that only B has.
    """

    a: str
    b: str
    differences: tuple[str, ...]
    same_software: bool
    threshold: float
    common: float
    common_interval: tuple[float, float]
    common_slower: bool
    common_regressed: bool
    blocks: tuple[BlockDiff, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def changed(self) -> tuple[BlockDiff, ...]:
        """Blocks that changed."""
        return tuple(block for block in self.blocks if block.changed)

    @property
    def regressed(self) -> tuple[BlockDiff, ...]:
        """Blocks that are slower by more than the threshold."""
        return tuple(block for block in self.blocks if block.regressed)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as a JSON document."""
        return {
            "a": self.a,
            "b": self.b,
            "differences": list(self.differences),
            "same_software": self.same_software,
            "threshold": self.threshold,
            "common": self.common,
            "common_interval": list(self.common_interval),
            "common_slower": self.common_slower,
            "common_regressed": self.common_regressed,
            "blocks": [{**asdict(block), "interval": list(block.interval)} for block in self.blocks],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


class TablePair:
    """The blocks that two tables share, ready for statistics.

    Args:
        a: the older table.
        b: the newer one.

    Attributes:
        keys: of the blocks that both have.
        entries: of A's blocks, by key.
        medians_ms: ``[2, blocks]``, of A's and B's pass medians.
        levels_ms: ``[2, blocks]``: what is compared: geometric means over the passes that count.
        floors_ms: ``[2, blocks]``: fastest runs; the medians where passes are of builds of engines.
        variances: ``[2, blocks]``, of the logarithms of the levels.
        freedoms: ``[2, blocks]``, of the variances.
        many: every block has six passes or more in both.
        common_log: logarithm of the common factor.

    Raises:
        InputError: if they are not of one granularity, share no block, or no block has two passes.
        FileFormatError: if one is damaged.
    """

    def __init__(self, a: LatencyTable, b: LatencyTable) -> None:
        if a.header.granularity != b.header.granularity:
            raise InputError(
                f"{a.path} is a table of {a.header.granularity}s and {b.path} of {b.header.granularity}s: "
                "they never mix"
            )
        tables = (a, b)
        found = [{entry.key: entry for entry in table.entries()} for table in tables]
        self.entries, self.others = found
        self.keys = [key for key in found[0] if key in found[1]]
        if not self.keys:
            raise InputError(
                f"{a.path} and {b.path} have no block in common", hint="build both for one space and input"
            )
        measures = [{entry.measure for entry in item.values()} for item in found]
        if measures[0] != measures[1]:
            raise InputError(
                f"{a.path} and {b.path} hold different costs: of blocks alone and inside a network, which never mix",
                hint="build both with the same --backend-option measure=…",
            )
        passes = [table.passes() for table in tables]
        rows = [[[result for _, result in item[key]] for key in self.keys] for item in passes]
        samples = [[cost_by_build(results) for results in table] for table in rows]
        self.medians_ms = np.array([[np.median([np.median(x) for x in group]) for group in table] for table in samples])
        # What disturbs a run makes it slower, so the fastest tells most. Engines differ both ways, and so do
        # differences of two of them: their fastest says nothing of the others.
        both_ways = any(build_of(result) for table in rows for results in table for result in results)
        self.floors_ms = self.medians_ms
        if not both_ways:
            self.floors_ms = np.array([[min(min(x) for x in group) for group in table] for table in samples])
        self.many = min(len(group) for table in samples for group in table) >= MANY_PASSES
        logs = [[_compared(group, many=self.many and not both_ways) for group in table] for table in samples]
        self.levels_ms = np.exp([[np.mean(group) for group in groups] for groups in logs])
        variances, freedoms = zip(*(moderated_variances(groups) for groups in logs), strict=True)
        self.variances = np.array(variances) / [[len(group) for group in groups] for groups in logs]
        self.freedoms = np.array(freedoms)
        self.floor_logs = np.log(self.floors_ms[1] / self.floors_ms[0])
        self.common_log = float(np.median(self.floor_logs))

    @staticmethod
    def freedom(variances: npt.NDArray[np.float64], freedoms: npt.NDArray[np.float64]) -> float:
        """Return the degrees of freedom of a sum of independent terms (Welch 1947, Satterthwaite 1946)."""
        parts = float(np.sum(variances**2 / freedoms))
        return float(np.sum(variances)) ** 2 / parts if parts > 0 else float(freedoms.min())


def _compared(samples: Sequence[Sequence[float]], *, many: bool) -> list[float]:
    """Return the logarithms of the passes that count: see the module's text."""
    if not many:
        return [math.log(float(np.median(values))) for values in samples]
    return sorted(math.log(min(values)) for values in samples)[: max(3, math.ceil(0.3 * len(samples)))]


def diff_tables(pair: TablePair, a: LatencyTable, b: LatencyTable, threshold: float = DEFAULT_THRESHOLD) -> TableDiff:
    """Compare two tables block by block.

    Args:
        pair: of ``a`` and ``b``.
        a: the older table.
        b: the newer one.
        threshold: slower by more than this share is a regression, e.g. 0.05.

    Raises:
        InputError: if the threshold is no share.
    """
    if not 0 <= threshold < 10:
        raise InputError(f"a threshold of {threshold} is no share", hint="for example 0.05 for 5 %")
    same = all(getattr(a.header, name) == getattr(b.header, name) for name in _SOFTWARE)
    allowed = math.log1p(threshold)
    shift = np.log(pair.levels_ms[1] / pair.levels_ms[0]) - pair.common_log
    floor = pair.floor_logs - pair.common_log
    freedoms = [pair.freedom(pair.variances[:, i], pair.freedoms[:, i]) for i in range(len(shift))]
    errors = np.sqrt(np.maximum(pair.variances.sum(axis=0), 1e-12))
    changed = benjamini_hochberg([2 * t_tail(abs(shift[i]) / errors[i], freedoms[i]) for i in range(len(shift))])
    slower = holm([t_tail((shift[i] - allowed) / errors[i], freedoms[i]) for i in range(len(shift))])
    blocks = []
    for i, key in enumerate(pair.keys):
        half = t_value(0.025, freedoms[i]) * errors[i]
        entry = pair.entries[key]
        agree = abs(floor[i]) > math.log1p(SMALLEST_CHANGE) and floor[i] * shift[i] > 0
        # With other software the common factor may be its gain: what did not gain is not slower for that.
        slowed = floor[i] > allowed and (same or pair.floor_logs[i] > allowed)
        blocks.append(
            BlockDiff(
                key=key,
                kind=entry.kind,
                text=entry.text,
                a_ms=float(pair.medians_ms[0, i]),
                b_ms=float(pair.medians_ms[1, i]),
                ratio=math.exp(shift[i]),
                interval=(math.exp(shift[i] - half), math.exp(min(shift[i] + half, 700.0))),
                floor_ratio=math.exp(floor[i]),
                p_changed=float(changed[i]),
                p_slower=float(slower[i]),
                changed=bool(changed[i] < SIGNIFICANCE and agree),
                regressed=bool(slower[i] < SIGNIFICANCE and slowed),
            )
        )
    low, high = median_interval(pair.floor_logs.tolist())
    return TableDiff(
        a=os.fspath(a.path),
        b=os.fspath(b.path),
        differences=tuple(
            item.replace(" in the table and", ",").removesuffix(" now") for item in a.header.differences(b.header)
        ),
        same_software=same,
        threshold=threshold,
        common=math.exp(pair.common_log),
        common_interval=(math.exp(low), math.exp(high)),
        common_slower=low > allowed,
        common_regressed=pair.many and not same and low > allowed,
        blocks=tuple(sorted(blocks, key=lambda block: -block.ratio)),
        only_a=tuple(entry.text for key, entry in pair.entries.items() if key not in pair.others),
        only_b=tuple(entry.text for key, entry in pair.others.items() if key not in pair.entries),
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a median from order statistics; all of the range below 6 values."""
    ordered, count = sorted(values), len(values)
    below, tail = 0, 0.5**count
    # The k-th smallest is below the median but for a chance of P(Binomial(n, 1/2) < k).
    while below + 1 < count / 2:
        following = tail + math.comb(count, below + 1) * 0.5**count
        if following > 0.025:
            break
        below, tail = below + 1, following
    return ordered[below], ordered[count - 1 - below]

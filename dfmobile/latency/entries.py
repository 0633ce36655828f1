"""What a latency table says of a block: a summary of its passes, or that it was skipped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.errors import FileFormatError
from dfmobile.latency.marginal import (
    between_builds_sd_ms,
    build_of,
    by_build,
    marginal_samples,
    measure_of,
    summarise_isolated,
    summarise_marginal,
)
from dfmobile.latency.measurement import Measure, PassResult, is_count
from dfmobile.latency.statistics import LatencyStatistics, summarise

_BLOCK_FIELDS = ("kind", "text", "input_shapes", "output_shape", "macs", "weight_bytes")


@dataclass(frozen=True)
class TableEntry:
    """All passes of one block, summarised.

    Attributes:
        key: LUT key.
        kind: of block.
        text: kind, shapes and short key, for people.
        hot: statistics of back-to-back runs.
        cold: statistics of runs with evicted caches; None where there were none.
        macs: multiply-accumulates.
        weight_bytes: float32.
        input_shapes: ``[N, C, H, W]`` each.
        output_shape: ``[N, C, H, W]`` or ``[N, C]``.
        passes: how many.
        measure: what ``hot`` is: of the block alone, or what it adds to a network. Predictors never mix the two.
        isolated: of the block alone, where ``hot`` is not; else None.
        between_builds_ms: standard deviation between builds of the engine; None where there are none, or one.
    """

    key: str
    kind: str
    text: str
    hot: LatencyStatistics
    cold: LatencyStatistics | None
    macs: int
    weight_bytes: int
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    passes: int
    measure: Measure = "isolated"
    isolated: LatencyStatistics | None = None
    between_builds_ms: float | None = None

    @cached_property
    def digest(self) -> str:
        """Short name of the key, 12 hexadecimal digits."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    @property
    def hot_ms(self) -> float:
        """Median of back-to-back runs."""
        return self.hot.median_ms

    @property
    def cold_ms(self) -> float | None:
        """Median of runs with evicted caches."""
        return None if self.cold is None else self.cold.median_ms

    @property
    def half_width_ms(self) -> float | None:
        """Half of the 95 % interval of ``hot_ms``; None for a single pass."""
        return self.hot.half_width_ms

    @property
    def n(self) -> int:
        """Number of hot samples; 0 where the backend gave aggregates only."""
        return self.hot.n

    @property
    def runs(self) -> int:
        """Number of timed hot runs, also of those whose samples did not come back."""
        return self.hot.runs

    @property
    def aggregate(self) -> bool:
        """Tell whether the backend gave aggregates only, in any pass."""
        return (self.hot if self.isolated is None else self.isolated).p5_ms is None


@dataclass(frozen=True)
class SkippedBlock:
    """A block that alone takes longer than a build's latency limit.

    Attributes:
        key: LUT key.
        kind: of block.
        text: kind, shapes and short key, for people.
        limit_ms: the limit.
        measured_ms: what showed it: the median of its hot runs, or the fastest run of a stopped warm-up.
        evidence: the pass that showed it.
    """

    key: str
    kind: str
    text: str
    limit_ms: float
    measured_ms: float
    evidence: PassResult


def entry_of(path: Path, key: str, facts: dict[str, Any], results: Sequence[PassResult]) -> TableEntry:
    """Summarise a block's passes.

    Args:
        path: of the table, for messages.
        key: LUT key.
        facts: what ``check_facts`` has checked.
        results: its passes.

    Raises:
        FileFormatError: if a pass has no samples.
    """
    if not all(result.hot_ms for result in results):
        raise FileFormatError(f"{path} is damaged: a pass of {facts['text']} has no samples")
    cold = [result.cold_ms for result in results if result.cold_ms]
    origin = f"{path}, {facts['text']}"
    measure, isolated = measure_of(results, origin), summarise_isolated(results)
    hot, values = isolated, [float(np.median(result.hot_ms)) for result in results]
    if measure == "marginal":
        samples = [found for result in results if (found := marginal_samples(result, origin)) is not None]
        hot, values = summarise_marginal(results, samples), [item.median_ms for item in samples]
    builds = by_build(results, values) if any(build_of(result) for result in results) else []
    return TableEntry(
        key=key,
        kind=facts["kind"],
        text=facts["text"],
        hot=hot,
        cold=summarise(cold) if cold else None,
        macs=facts["macs"],
        weight_bytes=facts["weight_bytes"],
        input_shapes=tuple(tuple(shape) for shape in facts["input_shapes"]),
        output_shape=tuple(facts["output_shape"]),
        passes=len(results),
        measure=measure,
        isolated=isolated if measure == "marginal" else None,
        between_builds_ms=between_builds_sd_ms(builds),
    )


def check_facts(path: Path, key: str, document: Any) -> dict[str, Any]:
    """Return what a table says of a block, checked.

    Raises:
        FileFormatError: if it cannot be.
    """
    good = (
        isinstance(document, dict)
        and set(document) == set(_BLOCK_FIELDS)
        and all(isinstance(document[name], str) and 0 < len(document[name]) < 10_000 for name in ("kind", "text"))
        and all(is_count(document[name]) for name in ("macs", "weight_bytes"))
        and isinstance(document["input_shapes"], list)
        and all(_is_shape(shape) for shape in (*document["input_shapes"], document["output_shape"]))
    )
    if not good:
        raise FileFormatError(f"{path} is damaged: what it says of block {key[:60]} cannot be")
    facts: dict[str, Any] = document
    return facts


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 8 and all(is_count(extent) and extent > 0 for extent in value)

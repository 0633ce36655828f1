"""Costs as differences, and engines that differ from one build to the next: what a table makes of such passes.

A pass of a backend that times engines says of which *build* of the engine it is, and keeps in ``extra["marginal"]`` the
raw samples of the block behind its prefix and of the prefix alone (``context``), beside those of the block alone
(``hot_ms``). A builder of engines chooses kernels by timing them, so two builds of one network differ in speed; runs of
one build share its choice. So the unit of repetition is the build: the passes of a build are drawn together first, and
the uncertainty comes from the spread between builds. Both engines of a difference are built by themselves, so their
errors are independent and their variances add up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dfmobile.errors import FileFormatError
from dfmobile.latency.measurement import MAX_SAMPLES, Measure, PassResult, is_time
from dfmobile.latency.statistics import (
    LatencyStatistics,
    quiet_latency,
    standard_error_of_median,
    summarise_results,
    t_quantile_975,
)

FIELD = "marginal"
# A time by GPU events has a resolution of about half a microsecond (cudaEventElapsedTime): a cost below it, or below
# zero by noise, is not told from it.
RESOLUTION_MS = 0.0005


@dataclass(frozen=True)
class MarginalSamples:
    """Raw samples of one pass.

    Attributes:
        context_ms: of the block behind its prefix.
        prefix_ms: of the prefix alone; empty for a block that has none.
    """

    context_ms: list[float]
    prefix_ms: list[float]

    @property
    def median_ms(self) -> float:
        """The pass's difference of medians; may be negative by noise."""
        return float(np.median(self.context_ms)) - (float(np.median(self.prefix_ms)) if self.prefix_ms else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document, for ``PassResult.extra``."""
        return {"context_ms": self.context_ms, "prefix_ms": self.prefix_ms, "median_ms": self.median_ms}


def marginal_samples(result: PassResult, origin: str = "a pass") -> MarginalSamples | None:
    """Return a pass's samples for its marginal cost; None where it is of the block alone.

    Raises:
        FileFormatError: if they cannot be.
    """
    document = result.extra.get(FIELD)
    if document is None:
        return None
    if not isinstance(document, Mapping):
        raise FileFormatError(f"{origin}: its marginal samples are damaged", hint="build the table again")
    found: list[list[float]] = []
    for name, least in (("context_ms", 1), ("prefix_ms", 0)):
        values = document.get(name)
        if not isinstance(values, list) or not least <= len(values) <= MAX_SAMPLES or not all(map(is_time, values)):
            raise FileFormatError(f"{origin}: its {name} cannot be", hint="build the table again")
        found.append([float(value) for value in values])
    return MarginalSamples(*found)


def cost_samples(result: PassResult) -> list[float]:
    """Return the positive values of a pass that stand for its block: hot runs, or the one difference.

    Raises:
        FileFormatError: if its marginal samples cannot be.
    """
    samples = marginal_samples(result)
    return result.hot_ms if samples is None else [max(RESOLUTION_MS, samples.median_ms)]


def measure_of(results: Sequence[PassResult], origin: str) -> Measure:
    """Return of which cost some passes of one block are.

    Raises:
        FileFormatError: if some are of one and some of the other: they never mix.
    """
    kinds = {result.extra.get(FIELD) is not None for result in results}
    if len(kinds) > 1:
        raise FileFormatError(
            f"{origin}: some passes are of the block alone and some inside a network", hint="build the table again"
        )
    return "marginal" if kinds == {True} else "isolated"


def build_of(result: PassResult) -> str | None:
    """Return of which build of its engine a pass is; None from a backend that builds none."""
    name: Any = result.extra.get("build")
    return name if isinstance(name, str) and 0 < len(name) <= 100 else None


def by_build(results: Sequence[PassResult], values: Sequence[float]) -> list[float]:
    """Return one value a build: the median of its passes' values; one a pass where there are no builds."""
    groups: dict[str, list[float]] = {}
    for place, (result, value) in enumerate(zip(results, values, strict=True)):
        groups.setdefault(build_of(result) or f"pass {place}", []).append(value)
    return [float(np.median(group)) for group in groups.values()]


def cost_by_build(results: Sequence[PassResult]) -> list[list[float]]:
    """Return ``cost_samples`` of the passes of each build together; of each pass where there are no builds.

    Raises:
        FileFormatError: if marginal samples cannot be.
    """
    groups: dict[str, list[float]] = {}
    for place, result in enumerate(results):
        groups.setdefault(build_of(result) or f"pass {place}", []).extend(cost_samples(result))
    return list(groups.values())


def between_builds_sd_ms(values: Sequence[float]) -> float | None:
    """Return the standard deviation between builds; None of a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def summarise_isolated(results: Sequence[PassResult]) -> LatencyStatistics:
    """Summarise the hot runs of passes; where they are of several builds of an engine, by build.

    Raises:
        InputError: if there is no pass, or one has no hot value.
    """
    found = summarise_results(results)
    if not any(build_of(result) for result in results):
        return found
    medians = by_build(results, [float(np.median(result.hot_ms)) for result in results])
    error = standard_error_of_median(medians)
    return replace(
        found,
        median_ms=float(np.median(medians)),
        passes=len(medians),
        standard_error_ms=error,
        half_width_ms=None if error is None else t_quantile_975(len(medians) - 1) * error,
    )


def summarise_marginal(results: Sequence[PassResult], samples: Sequence[MarginalSamples]) -> LatencyStatistics:
    """Summarise what a block adds to a network.

    The estimate is the median over builds of the block behind its prefix, less that of the prefix; at least the
    resolution of the clock. Its variance is the sum of the two medians' variances, each from the spread between builds,
    with Welch's and Satterthwaite's degrees of freedom.

    Args:
        results: passes of one block.
        samples: of each.
    """
    context = by_build(results, [float(np.median(item.context_ms)) for item in samples])
    prefix = by_build(results, [float(np.median(item.prefix_ms)) if item.prefix_ms else 0.0 for item in samples])
    median_ms = float(np.median(context)) - float(np.median(prefix))
    errors = [standard_error_of_median(values) for values in (context, prefix)]
    error = half = None
    if errors[0] is not None and errors[1] is not None:
        error = math.hypot(errors[0], errors[1])
        half = t_quantile_975(welch_freedom(errors[0], errors[1], len(context) - 1)) * error
    quiet = quiet_latency([item.context_ms for item in samples])
    mean_ms = float(np.mean([np.mean(item.context_ms) for item in samples]))
    if any(item.prefix_ms for item in samples):
        quiet -= quiet_latency([item.prefix_ms for item in samples])
        mean_ms -= float(np.mean([np.mean(item.prefix_ms) for item in samples]))
    runs = sum(len(item.context_ms) for item in samples)
    return LatencyStatistics(
        median_ms=max(RESOLUTION_MS, median_ms),
        p5_ms=None,
        p95_ms=None,
        mean_ms=mean_ms,
        mad_ms=None,
        n=runs,
        runs=runs,
        passes=len(context),
        standard_error_ms=error,
        half_width_ms=half,
        quiet_ms=max(RESOLUTION_MS, quiet),
    )


def welch_freedom(first: float, second: float, each: int) -> float:
    """Return the degrees of freedom of a difference of two estimates with ``each`` of their own.

    Args:
        first: standard error of one.
        second: standard error of the other.
        each: degrees of freedom of either.
    """
    a, b = first * first, second * second
    total = a * a + b * b
    return each * (a + b) ** 2 / total if total > 0 else float(each)

"""How precise a table's blocks are, when all blocks tell together how much passes scatter.

Three passes of one block hardly show how much its passes scatter: alone, the 95 % interval takes Student's t with two
degrees of freedom, 4.3 standard errors. But blocks are measured by the same runtime on the same device, so their
relative variances are alike, and how alike is seen in the table itself. Smyth (2004, "Linear models and empirical Bayes
methods", section 6) shrinks each variance towards the common one, and gives the degrees of freedom that this is worth:
many where blocks are alike, none where they are not. Then it is each block's own interval again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dfmobile.latency.entries import TableEntry
from dfmobile.latency.statistics import median_factor, t_quantile_975

LEAST_BLOCKS = 5
# Nothing repeats better than this, whatever few passes say; it also keeps logarithms finite.
LEAST_RELATIVE_SD = 1e-4
# However alike the others are, a block's own passes count: a few blocks may scatter far more than all others, and those
# are the ones that a common variance would hide (Phipson et al. 2016 treat such outliers; a bound is simpler).
MAX_FREEDOM = 10.0


@dataclass(frozen=True)
class Precision:
    """How precise a block's hot median is.

    Attributes:
        standard_error_ms: of the median of its passes.
        freedom: degrees of freedom of the standard error.
        half_width_ms: half of the 95 % interval.
    """

    standard_error_ms: float
    freedom: float
    half_width_ms: float


def pooled_precision(entries: Sequence[TableEntry]) -> dict[str, Precision]:
    """Return the precision of each block by key; without those of a single pass where nothing is known of others."""
    own = {entry.key: (_relative_variance(entry), entry.hot.passes - 1) for entry in entries if entry.hot.passes > 1}
    prior = common_variance([item for item in own.values() if item[1] > 0])
    found = {}
    for entry in entries:
        variance, freedom = own.get(entry.key, (0.0, 0))
        if prior is not None:
            common, worth = prior
            variance = (worth * common + freedom * variance) / (worth + freedom)
            total = worth + freedom
        elif freedom:
            total = float(freedom)
        else:
            continue
        passes = entry.hot.passes
        error_ms = entry.hot_ms * median_factor(passes) * math.sqrt(variance / passes)
        found[entry.key] = Precision(error_ms, total, t_quantile_975(max(1.0, total)) * error_ms)
    return found


def common_variance(samples: Sequence[tuple[float, int]]) -> tuple[float, float] | None:
    """Return (variance, degrees of freedom) that blocks have in common; None where too few blocks tell.

    Args:
        samples: relative variance between passes and its degrees of freedom, of each block.
    """
    if len(samples) < LEAST_BLOCKS:
        return None
    # log of a scaled chi-square: its mean and variance are known (Smyth 2004, section 6.2).
    logs = [math.log(value) - digamma(freedom / 2) + math.log(freedom / 2) for value, freedom in samples]
    mean = math.fsum(logs) / len(logs)
    spread = math.fsum((item - mean) ** 2 for item in logs) / (len(logs) - 1)
    excess = spread - math.fsum(trigamma(freedom / 2) for _, freedom in samples) / len(samples)
    freedom = MAX_FREEDOM if excess <= 0 else min(MAX_FREEDOM, 2 * inverse_trigamma(excess))
    return math.exp(mean + digamma(freedom / 2) - math.log(freedom / 2)), freedom


def _relative_variance(entry: TableEntry) -> float:
    error_ms = entry.hot.standard_error_ms or 0.0
    sd_ms = error_ms * math.sqrt(entry.hot.passes) / median_factor(entry.hot.passes)
    return max(LEAST_RELATIVE_SD, sd_ms / entry.hot_ms) ** 2


def digamma(value: float) -> float:
    """Return ψ(x) for x > 0 (Abramowitz & Stegun 6.3.5 and 6.3.18)."""
    found = 0.0
    while value < 8:
        found -= 1 / value
        value += 1
    square = 1 / (value * value)
    return found + math.log(value) - 0.5 / value - square * (1 / 12 - square * (1 / 120 - square / 252))


def trigamma(value: float) -> float:
    """Return ψ'(x) for x > 0 (Abramowitz & Stegun 6.4.6 and 6.4.12)."""
    found = 0.0
    while value < 8:
        found += 1 / (value * value)
        value += 1
    square = 1 / (value * value)
    return found + 1 / value + square / 2 + square / value * (1 / 6 - square * (1 / 30 - square / 42))


def inverse_trigamma(value: float) -> float:
    """Return x > 0 with ψ'(x) = value, by bisection of the logarithm: ψ' falls all the way."""
    low, high = math.log(1e-4), math.log(1e8)
    for _ in range(100):
        middle = (low + high) / 2
        if trigamma(math.exp(middle)) > value:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)

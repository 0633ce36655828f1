"""Robust statistics of passes, and how far a median of few passes can be off.

The estimate is the median of the pass medians. Its uncertainty comes from the spread *between* passes: the runs
of one pass share an interpreter, its memory layout and a moment of the machine, so their spread says little
about what the next pass will give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError
from dfmobile.latency.measurement import PassResult

# Student's t, 0.975 quantile, by degrees of freedom (Abramowitz & Stegun, table 26.10).
_T_975 = (
    (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306), (9, 2.262),
    (10, 2.228), (12, 2.179), (15, 2.131), (20, 2.086), (30, 2.042), (60, 2.000), (120, 1.980),
)  # fmt: skip
_Z_975 = 1.960
# Standard error of the median of n normal values over that of their mean: exact from normal order statistics for
# small n; sqrt(pi / 2) is the limit and an upper bound from there on.
_MAD_FACTOR = {1: 1.0, 2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
_MEDIAN_FACTOR = {1: 1.0, 2: 1.0, 3: 1.160, 4: 1.092, 5: 1.198, 6: 1.135, 7: 1.214}


@dataclass(frozen=True)
class LatencyStatistics:
    """Statistics of a model file's passes, all times in ms.

    Attributes:
        median_ms: median of the pass medians: the estimate.
        p5_ms: 5 % quantile of all samples; None where there are none, only aggregates.
        p95_ms: 95 % quantile of all samples; None likewise.
        mean_ms: of all runs.
        mad_ms: median absolute deviation of all samples from their median; None likewise.
        n: number of samples; 0 where a backend gave aggregates only.
        runs: number of timed runs, also of those whose samples did not come back.
        passes: number of passes; where several are of one build of an engine, the number of builds.
        standard_error_ms: of ``median_ms``, from the spread between passes; None for a single pass.
        half_width_ms: half of the 95 % interval of ``median_ms``; None for a single pass.
        quiet_ms: undisturbed latency (see ``quiet_latency``).
    """

    median_ms: float
    p5_ms: float | None
    p95_ms: float | None
    mean_ms: float
    mad_ms: float | None
    n: int
    runs: int
    passes: int
    standard_error_ms: float | None
    half_width_ms: float | None
    quiet_ms: float


def summarise(passes: Sequence[Sequence[float]]) -> LatencyStatistics:
    """Summarise samples in ms, one sequence a pass; the order of passes and of samples does not matter.

    ``half_width_ms`` is Student's t (passes - 1 degrees of freedom) times the standard error of the median of
    the pass medians under normal spread between passes. With three passes it is wide, and honestly so.

    Raises:
        InputError: if there is no pass, or one has no sample.
    """
    if not passes or not all(len(samples) for samples in passes):
        raise InputError("statistics need at least one sample a pass")
    medians = [float(np.median(samples)) for samples in passes]
    pooled: npt.NDArray[np.float64] = np.sort(np.concatenate([np.asarray(item, np.float64) for item in passes]))
    p5, p95 = np.quantile(pooled, (0.05, 0.95))
    error = standard_error_of_median(medians)
    return LatencyStatistics(
        median_ms=float(np.median(medians)),
        p5_ms=float(p5),
        p95_ms=float(p95),
        mean_ms=math.fsum(pooled) / pooled.size,
        mad_ms=float(np.median(np.abs(pooled - np.median(pooled)))),
        n=int(pooled.size),
        runs=int(pooled.size),
        passes=len(medians),
        standard_error_ms=error,
        half_width_ms=None if error is None else t_quantile_975(len(medians) - 1) * error,
        quiet_ms=quiet_latency(passes),
    )


def summarise_results(results: Sequence[PassResult]) -> LatencyStatistics:
    """Summarise the hot runs of passes, and claim no more than what is there.

    Where any pass is an aggregate there are no samples to take quantiles of: the spread between passes remains, and
    the passes themselves keep what their tool said.

    Raises:
        InputError: if there is no pass, or one has no hot value.
    """
    found = summarise([result.hot_ms for result in results])
    if not any(result.aggregate for result in results):
        return found
    runs = [result.timed_runs for result in results]
    means = [result.mean_ms or 0.0 for result in results]
    weighted = math.fsum(mean * count for mean, count in zip(means, runs, strict=True)) / sum(runs)
    samples = sum(len(result.hot_ms) for result in results if not result.aggregate)
    return replace(found, p5_ms=None, p95_ms=None, mad_ms=None, mean_ms=weighted, n=samples, runs=sum(runs))


def quiet_latency(passes: Sequence[Sequence[float]]) -> float:
    """Return how long a model takes when nothing disturbs it: the median over passes of each pass's fastest run.

    What else a machine does within a pass can only add time, to CPU time too (shared caches, memory), so there the
    fastest run repeats better than an average (Chen & Revels, "Robust benchmarking in noisy environments", 2016).
    Between passes it goes both ways: a processor that boosts its clock for some seconds makes a whole pass 10 % faster
    than usual, so neither the fastest pass nor a low quantile of them repeats, and the median does. Of one or two
    passes it is the fastest run: a second pass can only tell that the other one was disturbed.

    Raises:
        InputError: if there is no sample.
    """
    fastest = [min(samples) for samples in passes if len(samples)]
    if not fastest:
        raise InputError("a latency needs at least one sample")
    return float(np.median(fastest)) if len(fastest) > 2 else min(fastest)


def robust_half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of the median of some values, from their median absolute deviation.

    One or two passes that a machine disturbed then do not make a network look imprecise that others agree on. Infinite
    below three values. Corrected for few values (Croux & Rousseeuw, "Time-efficient algorithms for two highly robust
    estimators of scale", 1992).
    """
    count = len(values)
    if count < 3:
        return math.inf
    return _Z_975 * math.sqrt(math.pi / 2) * robust_deviation(values) / math.sqrt(count)


def robust_deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of normal values by their median absolute deviation: a few others do not move it.

    Corrected for few values (Croux & Rousseeuw 1992, as above). 0 for a single value.
    """
    count = len(values)
    deviation = float(np.median(np.abs(np.asarray(values) - np.median(values))))
    return _MAD_FACTOR.get(count, count / (count - 0.8)) * 1.4826 * deviation


def standard_error_of_median(values: Sequence[float]) -> float | None:
    """Return the standard error of the median of independent, about normal values; None for a single one."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return median_factor(count) * math.sqrt(variance / count)


def median_factor(count: int) -> float:
    """Return the standard error of the median of ``count`` normal values over that of their mean."""
    return _MEDIAN_FACTOR.get(count, math.sqrt(math.pi / 2))


def t_quantile_975(degrees_of_freedom: float) -> float:
    """Return Student's t at 0.975; between tabulated degrees of freedom linear in their reciprocal.

    Raises:
        InputError: below one degree of freedom.
    """
    if not degrees_of_freedom >= 1:
        raise InputError(f"{degrees_of_freedom} degrees of freedom are too few for an interval")
    low, high = _T_975[0], (math.inf, _Z_975)
    for point in _T_975:
        if point[0] <= degrees_of_freedom:
            low = point
        else:
            high = point
            break
    here, first, last = 1 / degrees_of_freedom, 1 / low[0], 1 / high[0]
    share = (first - here) / (first - last)
    return low[1] + share * (high[1] - low[1])


def sum_half_width(errors: Sequence[tuple[float, int]]) -> float:
    """Return the 95 % half width of a sum of independent estimates (Welch 1947, Satterthwaite 1946).

    Args:
        errors: standard error and degrees of freedom of each.
    """
    variance = math.fsum(error * error for error, _ in errors)
    if variance == 0:
        return 0.0
    freedom = variance**2 / math.fsum(error**4 / count for error, count in errors if error)
    return t_quantile_975(max(1.0, freedom)) * math.sqrt(variance)

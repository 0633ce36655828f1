"""What an evaluation can be expected to add to the boundary."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dfmobile.search.boundary import pareto_optimal

Array = npt.NDArray[np.float64]


def expected_hypervolume_improvement(
    costs: Array,
    means: Array,
    deviations: Array,
    known_costs: Array,
    known_accuracies: Array,
    worst: tuple[float, float],
) -> Array:
    """Return by how much each candidate is expected to grow the area that the known points dominate.

    The cost of a candidate is known, its accuracy is normal. Between two neighbours of the boundary the best
    accuracy at that cost or less is a constant a, so a candidate of cost c adds ∫ E[max(0, accuracy − a(t))] dt
    from c to the worst cost: a sum over the boundary of widths times expected improvements, in closed form.

    Args:
        costs: ``[n]``, smaller is better (for example log latency).
        means: ``[n]``, expected accuracies.
        deviations: ``[n]``, their standard deviations.
        known_costs: ``[m]``.
        known_accuracies: ``[m]``.
        worst: cost and accuracy of the worst corner.

    Returns:
        ``[n]``, in units of cost times accuracy.
    """
    optimal = pareto_optimal(known_costs.tolist(), known_accuracies.tolist())
    order = np.argsort(known_costs[optimal], kind="stable")
    corners, levels = known_costs[optimal][order], known_accuracies[optimal][order]
    begins = np.concatenate([[-np.inf], corners])
    ends = np.minimum(np.concatenate([corners, [worst[0]]]), worst[0])
    levels = np.maximum(np.concatenate([[worst[1]], levels]), worst[1])
    deviations = np.maximum(deviations, 1e-12)
    total = np.zeros(len(costs))
    for begin, end, level in zip(begins, ends, levels, strict=True):
        width = np.maximum(end - np.maximum(begin, costs), 0.0)
        reach = (means - level) / deviations
        total += width * deviations * (reach * normal_cdf(reach) + np.exp(-0.5 * reach**2) / math.sqrt(2 * math.pi))
    return total


def normal_cdf(values: Array) -> Array:
    """Return P(Z ≤ value) of the standard normal distribution; off by less than 1e-7.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.17.
    """
    t = 1.0 / (1.0 + 0.2316419 * np.abs(values))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * values**2) / math.sqrt(2 * math.pi) * series
    return np.asarray(np.where(values >= 0, 1.0 - tail, tail))

"""Tests of many small differences at once: Student's t, moderated variances, corrections for multiple testing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError

Array = npt.NDArray[np.float64]


def t_tail(value: float, freedom: float) -> float:
    """Return P(T > value) of Student's t with ``freedom`` degrees of freedom (incomplete beta function)."""
    if not freedom > 0:
        raise InputError(f"{freedom} degrees of freedom are too few for a test")
    if math.isinf(freedom):
        return 0.5 * math.erfc(value / math.sqrt(2))
    half = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value))
    return half if value >= 0 else 1.0 - half


def t_value(tail: float, freedom: float) -> float:
    """Return the t whose upper tail is ``tail`` (0 < tail < 0.5), by bisection."""
    if not 0 < tail < 0.5:
        raise InputError(f"{tail} is no upper tail")
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > tail:
        high *= 2
        if high > 1e12:
            return high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > tail else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):
        return 1.0 - front * _fraction(b, a, 1 - x) / b
    return front * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1.0 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1 + numerator * d, tiny)
            c = _away_from_zero(1 + numerator / c, tiny)
            result *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return result


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def holm(p_values: Sequence[float]) -> Array:
    """Return p-values adjusted by Holm's method: below 0.05, at most 5 % chance of any false one among them."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> Array:
    """Return p-values adjusted by Benjamini and Hochberg: of those below 0.05, about 5 % are false."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)[::-1]
    factors = len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(values[order] * factors))
    return adjusted


def moderated_variances(groups: Sequence[Sequence[float]], prior_freedom: float = 4.0) -> tuple[Array, Array]:
    """Return the variance within each group, drawn towards what is typical of all, and its degrees of freedom.

    Three values say little of their own spread; the other groups say what to expect (Smyth 2004, with a fixed
    weight). Typical is the mean of the groups' variances, so a busy machine makes every group less certain.

    Args:
        groups: values, one or more a group.
        prior_freedom: weight of what is typical.

    Raises:
        InputError: if no group has two values.
    """
    freedoms = np.array([len(group) - 1 for group in groups], np.float64)
    squares = np.array([float(np.sum((np.asarray(group) - np.mean(group)) ** 2)) for group in groups])
    if freedoms.sum() < 1:
        raise InputError("no block has two passes: nothing says how much they vary", hint="build with --passes 3")
    typical = squares.sum() / freedoms.sum()
    return (prior_freedom * typical + squares) / (prior_freedom + freedoms), prior_freedom + freedoms


def ranks(values: Array) -> Array:
    """Return ranks from 0 up, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]


def spearman(left: Array, right: Array) -> float:
    """Return Spearman's rank correlation; 1 for fewer than two distinct values."""
    a, b = ranks(left), ranks(right)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else 1.0

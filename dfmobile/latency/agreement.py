"""How well predictions agree with measurements: the numbers of ``dfmobile lut validate``, with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError

Array = npt.NDArray[np.float64]
_Z_975 = 1.959964


@dataclass(frozen=True)
class Fraction:
    """A share of networks, with its 95 % interval.

    Attributes:
        count: of them.
        total: networks.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """``count / total``."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927)."""
        n, p, z2 = self.total, self.value, _Z_975**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z_975 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def text(self) -> str:
        """E.g. ``97.5 % (94.3 to 98.9 %)``."""
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


@dataclass(frozen=True)
class Agreement:
    """Predictions beside measurements; errors are predicted / measured − 1.

    Attributes:
        n: networks.
        mape: mean absolute error.
        bias: mean error.
        max_error: largest absolute error.
        within_5: share with an absolute error up to 5 %.
        within_10: share up to 10 %.
        kendall_tau: rank correlation (tau-b); NaN where there is no order to compare (a single network).
    """

    n: int
    mape: float
    bias: float
    max_error: float
    within_5: Fraction
    within_10: Fraction
    kendall_tau: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a JSON document; fractions as numbers, their intervals beside them."""
        return {
            "n": self.n,
            "mape": self.mape,
            "bias": self.bias,
            "max_error": self.max_error,
            "within_5": self.within_5.value,
            "within_5_interval": list(self.within_5.interval),
            "within_10": self.within_10.value,
            "within_10_interval": list(self.within_10.interval),
            "kendall_tau": None if math.isnan(self.kendall_tau) else self.kendall_tau,
        }


def agreement(predicted_ms: Sequence[float] | Array, measured_ms: Sequence[float] | Array) -> Agreement:
    """Compare predictions with measurements.

    Raises:
        InputError: if there are none, or one is not a positive number.
    """
    predicted, measured = np.asarray(predicted_ms, np.float64), np.asarray(measured_ms, np.float64)
    if not len(measured) or predicted.shape != measured.shape or not (predicted > 0).all() or not (measured > 0).all():
        raise InputError("agreement needs positive predictions and measurements, one of each for every network")
    error = predicted / measured - 1
    size = np.abs(error)
    return Agreement(
        n=len(error),
        mape=float(size.mean()),
        bias=float(error.mean()),
        max_error=float(size.max()),
        within_5=Fraction(int((size <= 0.05).sum()), len(error)),
        within_10=Fraction(int((size <= 0.10).sum()), len(error)),
        kendall_tau=kendall_tau(predicted, measured),
    )


def kendall_tau(left: Array, right: Array) -> float:
    """Return Kendall's tau-b (1945) of two equally long sequences; NaN where one is constant or has one value."""
    pairs = np.triu_indices(len(left), 1)
    a, b = np.sign(left[pairs[0]] - left[pairs[1]]), np.sign(right[pairs[0]] - right[pairs[1]])
    denominator = math.sqrt(float((a != 0).sum()) * float((b != 0).sum()))
    return float((a * b).sum()) / denominator if denominator else math.nan

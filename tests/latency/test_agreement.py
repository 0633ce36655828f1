"""How predictions and measurements are compared."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.errors import InputError
from dfmobile.latency.agreement import Fraction, agreement, kendall_tau

times = st.lists(st.floats(0.1, 100), min_size=2, max_size=30).map(np.array)


@given(times)
def test_perfect_predictions(measured: np.ndarray) -> None:
    found = agreement(measured, measured)
    assert found.mape == found.bias == found.max_error == 0.0
    assert found.within_5.value == found.within_10.value == 1.0


@given(times, st.floats(0.5, 2))
def test_a_common_factor_is_bias_and_no_change_of_order(measured: np.ndarray, factor: float) -> None:
    found = agreement(factor * measured, measured)
    assert found.bias == pytest.approx(factor - 1)
    assert found.mape == pytest.approx(abs(factor - 1))
    assert math.isnan(found.kendall_tau) or found.kendall_tau == pytest.approx(1.0)


def test_errors_are_counted_by_size() -> None:
    found = agreement([1.04, 0.93, 1.2, 1.0], [1.0] * 4)
    assert (found.within_5.count, found.within_10.count) == (2, 3)
    assert found.max_error == pytest.approx(0.2)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilsons_interval_holds_the_share_and_stays_a_share(count: int, more: int) -> None:
    found = Fraction(count, count + more)
    low, high = found.interval
    assert 0 <= low <= found.value + 1e-12
    assert found.value <= high + 1e-12 <= 1 + 2e-12


def test_wilsons_interval_as_published() -> None:
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662."""
    assert Fraction(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_kendalls_tau_counts_pairs() -> None:
    assert kendall_tau(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)
    assert kendall_tau(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == -1.0
    assert math.isnan(kendall_tau(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


@pytest.mark.parametrize(("predicted", "measured"), [([], []), ([1.0], [0.0]), ([1.0, 2.0], [1.0])])
def test_what_cannot_be_compared_is_refused(predicted: list[float], measured: list[float]) -> None:
    with pytest.raises(InputError):
        agreement(predicted, measured)

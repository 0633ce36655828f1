"""The measured curve of what a working set pays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.latency.cache_curve import CacheCurve, curve_of, non_decreasing

CURVE = curve_of(np.array([1e6, 2e6, 4e6, 8e6]), np.array([1.0, 1.0, 2.5, 4.0]), fast=1.0, slow=4.0)


@pytest.mark.parametrize(
    ("bytes_", "share"), [(1.0, 0.0), (2e6, 0.0), (4e6, 0.5), (math.sqrt(4e6 * 8e6), 0.75), (8e6, 1.0), (1e12, 1.0)]
)
def test_shares_are_read_off_between_points(bytes_: float, share: float) -> None:
    assert CURVE.at_one(bytes_) == pytest.approx(share)


@given(
    rates=st.lists(st.floats(0.01, 100), min_size=1, max_size=20).map(lambda values: non_decreasing(np.array(values))),
    asked=st.lists(st.floats(0, 1e12), min_size=1, max_size=20),
)
def test_a_curve_never_falls_and_both_ways_agree(rates: np.ndarray, asked: list[float]) -> None:
    sizes = 1e5 * 2.0 ** np.arange(len(rates))
    curve = curve_of(sizes, rates, fast=float(rates[0]), slow=float(rates[-1]) + 1e-3)
    found = curve.at(np.sort(asked))
    assert (np.diff(found) >= -1e-12).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, [curve.at_one(value) for value in sorted(asked)], atol=1e-9)


def test_a_single_point_is_constant() -> None:
    curve = CacheCurve((0.0,), (1.0,))
    assert curve.at_one(5.0) == curve.at(np.array([1e9]))[0] == 1.0

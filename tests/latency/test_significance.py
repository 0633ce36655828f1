"""Tests of many differences at once, against published values and their own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.errors import InputError
from dfmobile.latency.significance import (
    benjamini_hochberg,
    holm,
    moderated_variances,
    ranks,
    spearman,
    t_tail,
    t_value,
)


@pytest.mark.parametrize(
    ("freedom", "tail", "value"),
    # Abramowitz & Stegun, table 26.10.
    [(1, 0.025, 12.706), (2, 0.005, 9.925), (5, 0.05, 2.015), (10, 0.0005, 4.587), (120, 0.025, 1.980)],
)
def test_students_t_is_as_tabulated(freedom: float, tail: float, value: float) -> None:
    assert t_value(tail, freedom) == pytest.approx(value, abs=6e-4)
    assert t_tail(value, freedom) == pytest.approx(tail, rel=1e-3)


@given(st.floats(-50, 50), st.floats(0.5, 500))
def test_tails_add_up_to_one(value: float, freedom: float) -> None:
    assert t_tail(value, freedom) + t_tail(-value, freedom) == pytest.approx(1.0, abs=1e-9)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    assert t_tail(1.959964, math.inf) == pytest.approx(0.025, abs=1e-6)
    assert t_tail(1.5, 1e6) == pytest.approx(t_tail(1.5, math.inf), rel=1e-4)


def test_corrections_are_those_of_the_papers() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.04, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_stricter_than_benjamini_hochberg_and_neither_lowers_a_p_value(values: list[float]) -> None:
    strict, loose = holm(values), benjamini_hochberg(values)
    assert np.all(strict >= loose - 1e-12)
    assert np.all(loose >= np.array(values) - 1e-12)
    assert np.all(strict <= 1)


def test_moderated_variances_lie_between_their_own_and_what_is_typical() -> None:
    groups = [[1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [5.0]]
    variances, freedoms = moderated_variances(groups)
    assert variances[0] < variances[2] < variances[1]
    assert variances[2] == pytest.approx(0.5)  # a group of one: what is typical, (0 + 2) / 4
    assert freedoms.tolist() == [6, 6, 4]


def test_single_values_everywhere_say_nothing() -> None:
    with pytest.raises(InputError, match="no block has two passes"):
        moderated_variances([[1.0], [2.0]])


def test_ties_share_their_rank() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [1.5, 0.0, 1.5]


@given(st.lists(st.integers(0, 20), min_size=3, max_size=30, unique=True))
def test_rank_correlation_sees_order_only(values: list[int]) -> None:
    left = np.array(values, np.float64)
    assert spearman(left, np.exp(left)) == pytest.approx(1.0)
    assert spearman(left, -left) == pytest.approx(-1.0)

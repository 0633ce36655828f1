"""Statistics of passes: laws, and the numbers of the textbook."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.errors import InputError
from dfmobile.latency.statistics import (
    standard_error_of_median,
    sum_half_width,
    summarise,
    t_quantile_975,
)

samples = st.lists(st.floats(0.001, 1e5), min_size=1, max_size=12)
passes = st.lists(samples, min_size=1, max_size=8)


@given(passes)
def test_the_median_lies_between_the_fastest_and_the_slowest_sample(data: list[list[float]]) -> None:
    found = summarise(data)
    smallest, largest = min(map(min, data)), max(map(max, data))
    assert smallest <= found.median_ms <= largest
    assert smallest <= found.p5_ms <= found.p95_ms <= largest
    assert smallest * (1 - 1e-12) <= found.mean_ms <= largest * (1 + 1e-12)
    assert 0 <= found.mad_ms <= largest - smallest
    assert found.n == sum(map(len, data))


@given(passes, st.randoms())
def test_order_of_passes_and_of_samples_does_not_matter(data: list[list[float]], generator: random.Random) -> None:
    shuffled = [generator.sample(item, len(item)) for item in generator.sample(data, len(data))]
    mine, other = summarise(data), summarise(shuffled)
    assert (mine.median_ms, mine.p5_ms, mine.p95_ms, mine.mean_ms, mine.mad_ms, mine.n) == (
        other.median_ms, other.p5_ms, other.p95_ms, other.mean_ms, other.mad_ms, other.n
    )  # fmt: skip
    assert mine.half_width_ms == pytest.approx(other.half_width_ms)


@given(passes, st.floats(0.1, 10.0))
def test_scaling_all_samples_scales_every_statistic(data: list[list[float]], factor: float) -> None:
    mine, scaled = summarise(data), summarise([[factor * value for value in item] for item in data])
    assert scaled.median_ms == pytest.approx(factor * mine.median_ms)
    if mine.half_width_ms is not None:
        assert scaled.half_width_ms == pytest.approx(factor * mine.half_width_ms, abs=1e-6)


def test_one_outlier_run_does_not_move_the_estimate() -> None:
    assert summarise([[1.0, 1.0, 1.0, 90.0], [1.0] * 4, [1.0] * 4]).median_ms == 1.0


def test_a_single_pass_tells_nothing_of_its_own_uncertainty() -> None:
    found = summarise([[1.0, 1.1, 0.9]])
    assert found.standard_error_ms is None
    assert found.half_width_ms is None


def test_more_runs_in_a_pass_do_not_narrow_the_interval_but_more_passes_do() -> None:
    few = summarise([[1.0], [1.1], [0.9]])
    assert summarise([[1.0] * 50, [1.1] * 50, [0.9] * 50]).half_width_ms == pytest.approx(few.half_width_ms)
    many = summarise([[1.0], [1.1], [0.9]] * 3)
    assert many.half_width_ms is not None
    assert few.half_width_ms is not None
    assert many.half_width_ms < few.half_width_ms / 2


@pytest.mark.parametrize("data", [[], [[]], [[1.0], []]])
def test_no_sample_no_statistics(data: list[list[float]]) -> None:
    with pytest.raises(InputError):
        summarise(data)


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (2, 4.303), (10, 2.228), (1e9, 1.960)])
def test_t_quantiles_are_the_table(freedom: float, expected: float) -> None:
    assert t_quantile_975(freedom) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("freedom", "expected"), [(11, 2.201), (25, 2.060), (40, 2.021), (90, 1.987), (500, 1.965)])
def test_t_quantiles_between_the_tabulated_ones(freedom: float, expected: float) -> None:
    assert t_quantile_975(freedom) == pytest.approx(expected, abs=2e-3)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_t_quantiles_fall_with_the_degrees_of_freedom(left: float, right: float) -> None:
    low, high = sorted((left, right))
    assert t_quantile_975(low) >= t_quantile_975(high) - 1e-12


@pytest.mark.parametrize("count", [3, 5, 7, 20])
def test_the_95_percent_interval_holds_the_truth_95_percent_of_the_time(count: int) -> None:
    generator = np.random.default_rng(count)
    draws = generator.normal(100.0, 3.0, (4000, count))
    inside = 0
    for row in draws:
        error = standard_error_of_median(list(row))
        assert error is not None
        inside += abs(float(np.median(row)) - 100.0) <= t_quantile_975(count - 1) * error
    assert 0.93 <= inside / len(draws) <= 0.985


def test_errors_of_a_sum_add_in_squares() -> None:
    assert sum_half_width([(3.0, 10**9), (4.0, 10**9)]) == pytest.approx(1.96 * 5.0, rel=1e-3)
    assert sum_half_width([(3.0, 2)]) == pytest.approx(4.303 * 3.0)
    assert sum_half_width([]) == 0.0

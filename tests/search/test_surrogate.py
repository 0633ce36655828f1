"""The surrogate: monotone whatever the data, deterministic, and about as sure as it should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_helpers import precedence, toy_accuracy

from dfmobile.architecture.spaces import open_space
from dfmobile.search.acquisition import expected_hypervolume_improvement, normal_cdf
from dfmobile.search.boundary import hypervolume
from dfmobile.search.features import MonotoneFeatures, column_coordinates
from dfmobile.search.surrogate import MonotoneSurrogate

SPACE = open_space("df-mini", max_depth=2)
ROWS = SPACE.rows()
FEATURES = MonotoneFeatures(SPACE)(ROWS)
BELOW = precedence(SPACE, ROWS)
ACCURACY = np.array([toy_accuracy(SPACE.architecture(row).text) for row in ROWS])


@pytest.mark.parametrize("name", ["df", "df-bottleneck", "shuffle", "df-seg", "shuffle-seg"])
def test_features_never_fall_along_the_order(name: str) -> None:
    space = open_space(name, max_depth=2)
    for column in range(len(space.columns)):
        order, coordinates = space.stage_order(column), column_coordinates(space, column)
        assert coordinates.min() >= 0
        for a, b in zip(*np.nonzero(order), strict=True):
            assert (coordinates[a] <= coordinates[b]).all()
    rows = space.sample_rows(200, np.random.default_rng(0))
    features, below = MonotoneFeatures(space)(rows), precedence(space, rows)
    assert features.min() >= 0
    assert features.max() <= 1 + 1e-12
    for a, b in zip(*np.nonzero(below), strict=True):
        assert (features[a] <= features[b] + 1e-12).all()


@given(st.integers(0, 10**6), st.integers(2, 40))
@settings(max_examples=12, deadline=None)
def test_predictions_never_fall_along_the_order_even_of_nonsense(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(ROWS), count, replace=False)
    surrogate = MonotoneSurrogate(FEATURES[chosen], generator.uniform(size=count), generator)
    mean, deviation = surrogate.predict(FEATURES)
    small, large = np.nonzero(BELOW)
    assert (mean[small] <= mean[large] + 1e-9).all()
    assert np.isfinite(deviation).all()
    assert (deviation >= 0).all()


def test_the_same_results_and_generator_give_the_same_surrogate() -> None:
    chosen = np.arange(0, len(ROWS), 40)
    fits = [
        MonotoneSurrogate(FEATURES[chosen], ACCURACY[chosen], np.random.default_rng(5)).predict(FEATURES)
        for _ in range(2)
    ]
    assert (fits[0][0] == fits[1][0]).all()
    assert (fits[0][1] == fits[1][1]).all()


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_it_learns_a_monotone_accuracy_and_knows_how_well(noise: float) -> None:
    """Errors fall with results; of true accuracies, most lie within two standard deviations of the prediction."""
    inside, errors = [], {10: [], 80: []}
    for seed in range(4):
        generator = np.random.default_rng(seed)
        for count, found in errors.items():
            chosen = generator.choice(len(ROWS), count, replace=False)
            seen = ACCURACY[chosen] + noise * generator.standard_normal(count)
            mean, deviation = MonotoneSurrogate(FEATURES[chosen], seen, generator).predict(FEATURES)
            found.append(float(np.abs(mean - ACCURACY).mean()))
            inside.append(float((np.abs(mean - ACCURACY) <= 2 * deviation).mean()))
    assert np.mean(errors[80]) < 0.6 * np.mean(errors[10])
    assert np.mean(errors[80]) < 2 * noise
    assert 0.7 < np.mean(inside) <= 1.0


def test_a_noise_that_is_known_is_used() -> None:
    chosen = np.arange(0, len(ROWS), 40)
    fit = MonotoneSurrogate(FEATURES[chosen], ACCURACY[chosen], np.random.default_rng(5), noise=0.02)
    assert fit.noise == 0.02


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_expected_improvement_is_the_mean_of_real_improvements(seed: int) -> None:
    generator = np.random.default_rng(seed)
    known_costs, known = generator.uniform(size=5), generator.uniform(size=5)
    cost, mean, deviation = generator.uniform(), generator.uniform(), generator.uniform(0.01, 0.3)
    worst = (1.1, 0.0)
    found = expected_hypervolume_improvement(
        np.array([cost]), np.array([mean]), np.array([deviation]), known_costs, known, worst
    )[0]
    before = hypervolume(known_costs.tolist(), known.tolist(), *worst)
    quantiles = (np.arange(400) + 0.5) / 400
    grid = np.linspace(-6, 6, 20_001)
    draws = mean + deviation * np.interp(quantiles, normal_cdf(grid), grid)
    gains = [
        hypervolume([*known_costs.tolist(), cost], [*known.tolist(), float(value)], *worst) - before for value in draws
    ]
    assert found == pytest.approx(np.mean(gains), abs=0.003)

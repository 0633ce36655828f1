"""The model behind predictions, on made-up devices whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_helpers import result_of

from dfmobile.latency.block_model import BlockModel, Physics, Scales, block_similarity, choose_scales
from dfmobile.latency.cache_curve import CacheCurve
from dfmobile.latency.calibration import Fit, conformal_multiplier, fit_networks
from dfmobile.latency.entries import TableEntry
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.model_rules import UNCALIBRATED, BlockModelRule
from dfmobile.latency.networks import MeasuredNetwork
from dfmobile.latency.statistics import summarise

KINDS = ("basic", "classifier_head", "stem")


def entry(number: int, hot_ms: float, cold_ms: float | None = None, weight_bytes: int = 100_000) -> TableEntry:
    """Return a block that takes that long."""
    return TableEntry(
        key=f"block {number}",
        kind=KINDS[number % len(KINDS)],
        text=f"block {number}",
        hot=summarise([[hot_ms], [hot_ms]]),
        cold=summarise([[hot_ms if cold_ms is None else cold_ms]]),
        macs=int(1e6 * hot_ms),
        weight_bytes=weight_bytes,
        input_shapes=((1, 8, 16, 16),),
        output_shape=(1, 8, 2 ** (1 + number % 4), 16),
        passes=2,
    )


def measured(entries: list[TableEntry], counts: np.ndarray, times_ms: np.ndarray) -> list[MeasuredNetwork]:
    """Return networks that took that long."""
    found = []
    for number, (row, time_ms) in enumerate(zip(counts, times_ms, strict=True)):
        blocks = {entries[b].digest: int(row[b]) for b in np.flatnonzero(row)}
        network = MeasuredNetwork(f"network {number}", 32, 32, blocks)
        result: PassResult = result_of(float(time_ms))
        network.add(result, 1, None, "")
        found.append(network)
    return found


def some_counts(generator: np.random.Generator, networks: int, blocks: int) -> np.ndarray:
    counts = generator.poisson(0.7, (networks, blocks)).astype(float)
    counts[:, 0] += 1
    return counts


BLOCKS = 12
CURVE = CacheCurve((math.log(300_000), math.log(900_000)), (0.0, 1.0))
ENTRIES = [entry(number, 0.5 + 0.3 * number, 0.8 + 0.4 * number) for number in range(BLOCKS)]
rows = st.lists(st.integers(0, 5), min_size=BLOCKS, max_size=BLOCKS).filter(any).map(lambda row: np.array([row], float))


def rule() -> BlockModelRule:
    return BlockModelRule(BlockModel(ENTRIES, Physics(CURVE, 0.01), UNCALIBRATED), 1.96)


def test_without_cold_time_or_calls_it_is_the_sum() -> None:
    model = BlockModel(ENTRIES, Physics(None, 0.0))
    counts = some_counts(np.random.default_rng(0), 20, BLOCKS)
    np.testing.assert_allclose(model.predict(counts), counts @ [item.hot_ms for item in ENTRIES])


def test_a_footprint_beyond_the_cache_pays_all_of_the_cold_time() -> None:
    large = BlockModel(ENTRIES, Physics(CacheCurve((0.0,), (1.0,)), 0.0))
    counts = some_counts(np.random.default_rng(0), 20, BLOCKS)
    np.testing.assert_allclose(large.predict(counts), counts @ [item.cold_ms for item in ENTRIES])


def test_what_a_call_pays_with_evicted_caches_is_no_part_of_a_block() -> None:
    everything = CacheCurve((0.0,), (1.0,))
    counts = np.ones((1, BLOCKS))
    whole, less = (BlockModel(ENTRIES, Physics(everything, 0.0, call)).predict(counts)[0] for call in (0.0, 0.01))
    assert whole - less == pytest.approx(BLOCKS * 0.01)
    hot = BlockModel(ENTRIES, Physics(everything, 0.0, 100.0)).predict(counts)[0]
    assert hot == pytest.approx(sum(item.hot_ms for item in ENTRIES))  # never below the hot time


def test_a_network_pays_one_call() -> None:
    counts = np.ones((1, BLOCKS))
    without, with_calls = (BlockModel(ENTRIES, Physics(None, call)).predict(counts)[0] for call in (0.0, 0.1))
    assert without - with_calls == pytest.approx((BLOCKS - 1) * 0.1)


@given(counts=rows)
def test_the_interval_holds_the_prediction_and_shares_add_up(counts: np.ndarray) -> None:
    positions = [number for number in range(BLOCKS) for _ in range(int(counts[0, number]))]
    found = rule().predict_one(positions)
    assert found.interval_ms is not None
    assert 0 <= found.interval_ms[0] < found.latency_ms < found.interval_ms[1]
    assert math.fsum(found.shares_ms) == pytest.approx(found.latency_ms)


@given(counts=rows)
def test_one_by_one_and_vectorised_agree(counts: np.ndarray) -> None:
    model_rule = rule()
    positions = [number for number in range(BLOCKS) for _ in range(int(counts[0, number]))]
    found = model_rule.predict_one(positions)
    features = np.array([model_rule.features(item) for item in ENTRIES])
    together = model_rule.combine(counts @ features)
    assert found.latency_ms == pytest.approx(together[0])
    assert found.interval_ms == pytest.approx(model_rule.intervals_ms(counts, together)[0])
    known = [(ENTRIES[number], int(counts[0, number])) for number in np.flatnonzero(counts[0])]
    assert model_rule.interval_ms(known, found.latency_ms) == pytest.approx(found.interval_ms)


@given(counts=rows, block=st.integers(0, BLOCKS - 1), cache=st.floats(1e4, 1e8))
def test_a_network_with_one_more_block_is_slower(counts: np.ndarray, block: int, cache: float) -> None:
    curve = CacheCurve((math.log(cache / 2), math.log(2 * cache)), (0.0, 1.0))
    model = BlockModel(ENTRIES, Physics(curve, 0.01))
    more = counts.copy()
    more[0, block] += 1
    assert model.predict(more)[0] > model.predict(counts)[0]


@given(left=rows, right=rows)
def test_differences_are_surer_than_two_independent_networks(left: np.ndarray, right: np.ndarray) -> None:
    model_rule = rule()
    half = model_rule.difference_half_widths_ms(left, right)[0]
    alone = [
        model_rule.multiplier * model_rule.model.standard_deviation(c, model_rule.model.predict(c))[0]
        for c in (left, right)
    ]
    assert half <= math.hypot(*alone) + 1e-9
    assert model_rule.difference_half_widths_ms(left, left)[0] == pytest.approx(0.0, abs=1e-6)


def test_networks_that_are_the_sum_of_their_blocks_leave_the_sum_as_it_is() -> None:
    generator = np.random.default_rng(1)
    plain = [entry(number, 0.5 + 0.3 * number) for number in range(BLOCKS)]
    train, test = some_counts(generator, 20, BLOCKS), some_counts(generator, 50, BLOCKS)
    hot = np.array([item.hot_ms for item in plain])
    fit = fit_networks(plain, Physics(None, 0.0), measured(plain, train, train @ hot))
    np.testing.assert_allclose(fit.model.predict(test), test @ hot, rtol=2e-3)
    assert fit.left_out_error < 5e-3


def test_what_all_networks_have_in_common_is_learned() -> None:
    generator = np.random.default_rng(2)
    train, test = some_counts(generator, 20, BLOCKS), some_counts(generator, 50, BLOCKS)
    hot = np.array([item.hot_ms for item in ENTRIES])
    truth = hot * 1.15
    times = train @ truth * generator.normal(1, 0.01, 20)
    fit = fit_networks(ENTRIES, Physics(None, 0.0), measured(ENTRIES, train, times))
    error = np.abs(fit.model.predict(test) / (test @ truth) - 1)
    assert error.mean() < 0.01
    assert np.abs(test @ hot / (test @ truth) - 1).mean() > 0.1


def simulated(generator: np.random.Generator, networks: int) -> tuple[Fit, np.ndarray, np.ndarray]:
    """Return a fit to a device drawn from the model's own family, and fresh networks with their times."""
    size = 30
    blocks = [
        entry(number, float(generator.uniform(0.3, 4)), weight_bytes=int(generator.integers(1e4, 1e6)))
        for number in range(size)
    ]
    scales = Scales(common=0.05, smooth=0.02, single=0.03, noise=0.015)
    model = BlockModel(blocks, Physics(None, 0.0), scales)
    deviation = generator.multivariate_normal(np.zeros(size), model.prior[:size, :size])
    truth = np.array([item.hot_ms for item in blocks]) * (1 + deviation)

    def times(counts: np.ndarray) -> np.ndarray:
        return counts @ truth * generator.normal(1, scales.noise, len(counts))

    train, test = some_counts(generator, networks, size), some_counts(generator, 200, size)
    return fit_networks(blocks, Physics(None, 0.0), measured(blocks, train, times(train))), test, times(test)


def test_intervals_hold_about_95_percent_of_fresh_networks() -> None:
    """Over 40 devices; each alone may be off by chance."""
    inside = []
    for seed in range(40):
        fit, test, times = simulated(np.random.default_rng(seed), 20)
        predicted = fit.model.predict(test)
        half = fit.multiplier * fit.model.standard_deviation(test, predicted)
        inside.append(float((np.abs(predicted - times) <= half).mean()))
    assert 0.92 <= np.mean(inside) <= 0.995


def test_more_networks_make_predictions_better() -> None:
    def error(networks: int) -> float:
        found = []
        for seed in range(10):
            fit, test, times = simulated(np.random.default_rng(seed), networks)
            found.append(float(np.abs(fit.model.predict(test) / times - 1).mean()))
        return float(np.mean(found))

    assert error(60) < error(20) < error(8)


def test_leaving_one_out_in_closed_form_is_leaving_one_out() -> None:
    generator = np.random.default_rng(3)
    counts = some_counts(generator, 10, BLOCKS)
    times = counts @ [item.hot_ms for item in ENTRIES] * generator.normal(1.05, 0.02, 10)
    model = BlockModel(ENTRIES, Physics(None, 0.0))
    errors, deviations = model.leave_one_out(counts, times)
    for number in range(10):
        rest = np.arange(10) != number
        conditioned = model.conditioned(counts[rest], times[rest])
        one = counts[number : number + 1]
        assert errors[number] == pytest.approx(times[number] - conditioned.predict(one)[0])
        sd = math.sqrt(conditioned.variance(conditioned.design(one))[0] + (model.scales.noise * times[number]) ** 2)
        assert deviations[number] == pytest.approx(sd)


def test_scales_follow_the_noise() -> None:
    generator = np.random.default_rng(4)
    counts = some_counts(generator, 40, BLOCKS)
    hot = np.array([item.hot_ms for item in ENTRIES])
    model = BlockModel(ENTRIES, Physics(None, 0.0))
    quiet, loud = (choose_scales(model, counts, counts @ hot * generator.normal(1, sd, 40)) for sd in (0.005, 0.06))
    assert quiet.noise < 0.02 < loud.noise


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=60).map(np.array))
def test_the_multiplier_covers_the_left_out_networks(scores: np.ndarray) -> None:
    """At least 95 % of them, by the conformal part; and never absurdly little."""
    found = conformal_multiplier(scores)
    assert (np.abs(scores) <= found + 1e-12).mean() >= 0.95
    assert found >= 1.96


@settings(max_examples=20)
@given(st.permutations(range(BLOCKS)))
def test_similarity_is_a_covariance_whatever_the_order(order: list[int]) -> None:
    found = block_similarity([ENTRIES[number] for number in order])
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(np.diag(found), 1.0)
    assert np.linalg.eigvalsh(found).min() > -1e-9

"""Measuring on where it pays: to a half-width, or until the time is used; resumable."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from latency_helpers import KnownBackend, build_mini, memory_folder, mini_network

from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.errors import InputError
from dfmobile.latency.adaptive import Target, occurrences
from dfmobile.latency.backends.base import MeasureJob
from dfmobile.latency.builder import BuildReport, build_table
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.pooled import common_variance, digamma, inverse_trigamma, pooled_precision, trigamma
from dfmobile.latency.statistics import t_quantile_975
from dfmobile.latency.table import LatencyTable

SPACE = open_space("df-mini", 1)
TWO = Protocol(passes=2, runs=2, cold_runs=1, warm_up_ms=0.0)


class NoisyBackend(KnownBackend):
    """Passes scatter by a known relative standard deviation, some blocks' more."""

    def __init__(self, sd: float = 0.02, wild: dict[str, float] | None = None, seed: int = 0) -> None:
        super().__init__(open_device("local"))
        generator = np.random.default_rng(seed)
        wild = wild or {}
        self.pace = lambda job: math.exp(generator.normal(0.0, wild.get(job.id.partition("-")[0], sd)))


def build_space(path: Path, backend: KnownBackend, target: Target | None, **options: object) -> BuildReport:
    return build_table(path, SPACE, 32, 32, backend.device, backend, TWO, target=target, **options)  # type: ignore[arg-type]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: these tests record thousands of passes, each synchronised to the disk."""
    with memory_folder() as folder:
        yield folder


def passes_of(path: Path) -> dict[str, int]:
    with LatencyTable.open(path) as table:
        return {entry.key: entry.passes for entry in table.entries()}


# Pooled precision


def test_digamma_and_trigamma() -> None:
    euler = 0.5772156649015329
    assert digamma(1.0) == pytest.approx(-euler, abs=1e-8)
    assert digamma(0.5) == pytest.approx(-euler - 2 * math.log(2), abs=1e-8)
    assert trigamma(1.0) == pytest.approx(math.pi**2 / 6, abs=1e-8)
    assert trigamma(0.5) == pytest.approx(math.pi**2 / 2, abs=1e-8)
    for value in (0.01, 0.3, 2.0, 50.0):
        assert inverse_trigamma(trigamma(value)) == pytest.approx(value, rel=1e-6)


def test_a_common_variance_is_found_with_much_freedom() -> None:
    generator = np.random.default_rng(0)
    samples = [(0.03**2 * generator.chisquare(2) / 2, 2) for _ in range(200)]
    found = common_variance(samples)
    assert found is not None
    assert math.sqrt(found[0]) == pytest.approx(0.03, rel=0.15)
    assert found[1] == 10  # and no more than the bound


def test_unlike_variances_have_little_freedom() -> None:
    generator = np.random.default_rng(0)
    scale = np.exp(generator.normal(0, 2.0, 200))
    samples = [(0.03**2 * float(factor) * generator.chisquare(10) / 10, 10) for factor in scale]
    found = common_variance(samples)
    assert found is not None
    assert found[1] < 3


def test_few_blocks_tell_nothing_of_each_other() -> None:
    assert common_variance([(0.01, 2)] * 4) is None


def test_pooled_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    inside, total = 0, 0
    for seed in range(4):
        path = tmp_path / f"{seed}.sqlite"
        build_space(path, NoisyBackend(seed=seed), None)
        truth = KnownBackend(open_device("local"))
        build_space(tmp_path / f"{seed}-truth.sqlite", truth, None)
        with LatencyTable.open(path) as table, LatencyTable.open(tmp_path / f"{seed}-truth.sqlite") as other:
            known = {entry.key: entry.hot_ms for entry in other.entries()}
            precision = pooled_precision(table.entries())
            for entry in table.entries():
                inside += abs(entry.hot_ms - known[entry.key]) <= precision[entry.key].half_width_ms
                total += 1
                own = t_quantile_975(1) * (entry.hot.standard_error_ms or 0.0)
                assert precision[entry.key].half_width_ms != own
    assert 0.90 <= inside / total <= 0.99


def test_a_single_pass_has_no_precision_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    build_mini(path, KnownBackend(open_device("local")), protocol=Protocol(passes=1, runs=2, cold_runs=0))
    with LatencyTable.open(path) as table:
        assert pooled_precision(table.entries()) == {}


# Adaptive building


def test_every_block_reaches_the_half_width(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    report = build_space(path, NoisyBackend(0.03), Target(0.03))
    assert report.reached is not None
    assert report.reached.done
    assert report.reached.blocks_within == report.reached.networks_within == 1.0
    assert report.reached.block_worst is not None
    assert report.reached.block_worst <= 0.03
    with LatencyTable.open(path) as table:
        entries = table.entries()
    precision = pooled_precision(entries)
    assert all(precision[entry.key].half_width_ms <= 0.03 * entry.hot_ms for entry in entries)
    assert "reached" in report.reached.text


def test_a_precise_table_gets_three_passes(tmp_path: Path) -> None:
    report = build_space(tmp_path / "t.sqlite", NoisyBackend(0.001), Target(0.03))
    assert set(passes_of(tmp_path / "t.sqlite").values()) == {3}
    assert report.reached is not None
    assert report.reached.done


def test_blocks_that_scatter_more_get_more_passes(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    blocks = SPACE.blocks(32, 32)
    wild = {blocks[3].digest: 0.08, blocks[7].digest: 0.08}
    report = build_space(path, NoisyBackend(0.01, wild, seed=1), Target(0.05))
    found = passes_of(path)
    calm = [count for key, count in found.items() if key not in (blocks[3].key, blocks[7].key)]
    assert found[blocks[3].key] + found[blocks[7].key] > 2.5 * np.mean(calm)
    assert report.reached is not None
    assert report.reached.done


def test_networks_need_fewer_passes_than_blocks(tmp_path: Path) -> None:
    by_blocks = build_space(tmp_path / "b.sqlite", NoisyBackend(0.05), Target(0.03))
    by_networks = build_space(tmp_path / "n.sqlite", NoisyBackend(0.05), Target(0.03, of="networks"))
    assert by_networks.reached is not None
    assert by_networks.reached.done
    assert by_networks.reached.networks_within == 1.0
    assert by_networks.reached.blocks_within < 1.0
    assert by_networks.passes < by_blocks.passes


def test_a_block_that_never_settles_is_left_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    wild = {SPACE.blocks(32, 32)[3].digest: 0.8}
    report = build_space(path, NoisyBackend(0.005, wild), Target(0.03, max_passes=6))
    assert report.reached is not None
    assert not report.reached.done
    assert not report.reached.out_of_time
    assert report.reached.blocks_within < 1.0
    assert max(passes_of(path).values()) == 6
    assert "not reached" in report.reached.text


def test_passes_stop_where_they_share_the_builds_of_an_engine(tmp_path: Path) -> None:
    """Further passes of the same builds make nothing more certain, however far off the target is."""
    backend, path = NoisyBackend(0.3), tmp_path / "t.sqlite"
    backend.changes = lambda job: {"extra": {"build": str(job.repetition % 3)}}
    report = build_space(path, backend, Target(0.001, max_passes=12))
    assert report.reached is not None
    assert not report.reached.done
    assert set(passes_of(path).values()) == {4}  # the fourth shows that builds are shared


def test_no_pass_begins_after_the_time_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.sqlite"
    backend = NoisyBackend(0.03)
    now = [1000.0]
    monkeypatch.setattr("dfmobile.latency.sitting.time.monotonic", lambda: now[0])

    def tick(job: MeasureJob) -> None:
        now[0] += 1.0

    backend.before_result = tick
    report = build_space(path, backend, Target(0.002, time_budget_s=100.0))
    assert report.reached is not None
    assert report.reached.out_of_time
    assert "out of time" in report.reached.text
    assert 99 <= len(backend.measured) <= 101
    # the same command goes on
    again = build_space(path, backend, Target(0.002, time_budget_s=50.0))
    assert again.passes >= 45
    assert sum(passes_of(path).values()) == report.passes + again.passes


def test_an_interrupted_adaptive_build_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    blocks = len(SPACE.blocks(32, 32))
    backend = NoisyBackend(0.04)

    def stop(job: MeasureJob) -> None:
        if len(backend.measured) == 2 * blocks + 20:
            raise KeyboardInterrupt

    backend.before_result = stop
    with pytest.raises(KeyboardInterrupt):
        build_space(path, backend, Target(0.03))
    kept = passes_of(path)
    assert sum(kept.values()) > 2 * blocks
    report = build_space(path, NoisyBackend(0.04, seed=1), Target(0.03))
    found = passes_of(path)
    assert all(found[key] >= count for key, count in kept.items())
    assert sum(found.values()) == sum(kept.values()) + report.passes - report.guards.rejected
    assert report.reached is not None
    assert report.reached.done


def test_blocks_above_the_limit_are_left_out(tmp_path: Path) -> None:
    network = mini_network()
    report = build_mini(
        tmp_path / "t.sqlite", NoisyBackend(0.02), network=network, latency_max_ms=15.0, target=Target(0.05)
    )
    assert report.coverage.skipped > 0
    assert report.reached is not None


def test_further_passes_have_no_cold_runs(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    build_space(path, NoisyBackend(0.04), Target(0.03))
    with LatencyTable.open(path) as table:
        entries = table.entries()
    assert any(entry.passes > 2 for entry in entries)
    assert all(entry.cold is not None for entry in entries)


def test_occurrences_count_the_blocks_of_networks() -> None:
    space = SPACE
    keys, counts = occurrences(space, 32, 32)
    assert set(keys) == set(space.key_index(32, 32))
    assert (counts.sum(axis=1) >= 2).all()
    network = mini_network()
    keys, counts = occurrences(network, 32, 32)
    assert counts.sum() == len(network.blocks)


@pytest.mark.parametrize(
    "values", [{"half_width": 0.0}, {"half_width": 2.0}, {"of": "stages"}, {"time_budget_s": 0.0}, {"max_passes": 1}]
)
def test_an_impossible_target_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Target(**values)  # type: ignore[arg-type]

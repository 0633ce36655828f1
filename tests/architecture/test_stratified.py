"""Draws spread over the latency range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dfmobile.architecture.spaces import SearchSpace, open_space, stratified_rows
from dfmobile.architecture.spaces.base import Rows
from dfmobile.errors import InputError


class Macs:
    """MACs as a stand-in for milliseconds."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.features = {block.key: [block.macs / 1e6] for block in space.blocks(64, 32)}

    def __call__(self, rows: Rows) -> npt.NDArray[np.float64]:
        return np.asarray(self.space.sums(rows, 64, 32, self.features)[:, 0])


@pytest.mark.parametrize("name", ["df", "df-bottleneck", "df-seg", "shuffle", "shuffle-seg"])
def test_strata_are_filled_evenly_and_rows_are_distinct_members(name: str) -> None:
    space = open_space(name)
    latency = Macs(space)
    rows, found = stratified_rows(space, latency, 200, np.random.default_rng(1), pool=10_000)
    assert rows.shape == (200, len(space.columns))
    assert len({tuple(row) for row in rows.tolist()}) == 200
    assert np.array_equal(found, latency(rows))
    assert all(space.architecture(row) in space for row in rows)
    counts = np.histogram(np.log(found), bins=10)[0]
    assert counts.min() >= 10  # of 20; the sample's own ends are not quite the pool's
    uniform = np.histogram(np.log(latency(space.sample_rows(200, np.random.default_rng(1)))), bins=10)[0]
    assert np.ptp(counts) < np.ptp(uniform)


def test_depends_on_the_generator_only() -> None:
    space = open_space("df-seg")
    latency = Macs(space)
    first, again, other = (
        stratified_rows(space, latency, 50, np.random.default_rng(seed), pool=2_000)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_range_is_kept_and_infinite_latencies_are_left_out() -> None:
    space = open_space("df")
    latency = Macs(space)

    def limited(rows: Rows) -> npt.NDArray[np.float64]:
        found = latency(rows)
        found[found > 100] = np.inf
        return found

    _, found = stratified_rows(space, limited, 100, np.random.default_rng(1), latency_range=(20, None))
    assert 20 <= found.min() < 25
    assert 90 < found.max() <= 100
    _, found = stratified_rows(space, latency, 100, np.random.default_rng(1), latency_range=(None, 30))
    assert found.max() <= 30


def test_too_few_are_an_error_and_all_there_are_is_not() -> None:
    space = open_space("df", 1)
    latency = Macs(space)
    assert len(stratified_rows(space, latency, 35, np.random.default_rng(1))[0]) == 35
    with pytest.raises(InputError, match=r"35 of 35 architectures drawn from space 'df'.*36 are wanted") as caught:
        stratified_rows(space, latency, 36, np.random.default_rng(1))
    assert caught.value.hint
    with pytest.raises(InputError, match=r"0 of 35 .* latency of 0 to 1e-06 ms"):
        stratified_rows(space, latency, 1, np.random.default_rng(1), latency_range=(None, 1e-6))


def test_equal_latencies_are_one_stratum() -> None:
    space = open_space("df", 1)
    rows, _ = stratified_rows(space, lambda rows: np.ones(len(rows)), 5, np.random.default_rng(1))
    assert len(rows) == 5


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_latencies_must_be_positive(value: float) -> None:
    with pytest.raises(InputError, match="not positive"):
        stratified_rows(open_space("df", 1), lambda rows: np.full(len(rows), value), 1, np.random.default_rng(1))


@pytest.mark.parametrize(("count", "strata", "pool"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_numbers_must_be_at_least_one(count: int, strata: int, pool: int) -> None:
    space = open_space("df", 1)
    with pytest.raises(InputError, match="at least 1"):
        stratified_rows(space, Macs(space), count, np.random.default_rng(1), strata=strata, pool=pool)

"""The exact best by a sum over blocks: equal to enumeration, and found in spaces far beyond it."""

import dataclasses

import numpy as np
import pytest
from factored_helpers import chain_space, rows_of

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.errors import InputError
from dfmobile.search import separable
from dfmobile.search.separable import best_separable

KINDS = [("df", 3), ("df-bottleneck", 2), ("shuffle", 1), ("shuffle-seg", 1), ("df-mini", 1)]
RANGES = [(None, None), (None, 0.5), (None, 0.1), (0.5, None), (0.3, 0.35), (0.9, 0.95), (0.02, 0.021)]


@pytest.mark.parametrize(("name", "depth"), KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_best_of_all(name: str, depth: int, seed: int) -> None:
    """With ties (seed 0) and without; scores do not follow latencies, so that either end of a range can bind."""
    space, rows = chain_space(name, depth), rows_of(name, depth)
    size = (space.total_stride, space.total_stride)
    generator = np.random.default_rng(seed)
    features = {
        key: [float(generator.random()), float(generator.normal() if seed else generator.integers(1, 5) / 4)]
        for key in space.key_index(*size)
    }
    latency_ms, score = space.sums(rows, *size, features).T
    tables = space.block_tables(*size, features)
    for low, high in RANGES:
        ends = [
            None if item is None else float(np.quantile(latency_ms, item, method="nearest")) for item in (low, high)
        ]
        # Ends between latencies: rounding of sums in another order must not decide.
        ends = [None if item is None else item + 1e-9 * sign for item, sign in zip(ends, (-1, 1), strict=True)]
        inside = (latency_ms >= (ends[0] or -np.inf)) & (latency_ms <= (np.inf if ends[1] is None else ends[1]))
        found = best_separable(space, tables[0], tables[1], (ends[0], ends[1]))
        assert found.score == pytest.approx(score[inside].max(), abs=1e-9)
        own = space.sums(space.row(found.architecture)[None], *size, features)[0]
        assert own == pytest.approx((found.latency_ms, found.score))


def test_shuffle_units_have_no_cost_of_their_own_by_place() -> None:
    space = chain_space("shuffle", 2)
    with pytest.raises(InputError, match="do not add up place by place"):
        space.block_tables(64, 64, {key: [1.0] for key in space.key_index(64, 64)})


def test_scores_may_depend_on_the_position() -> None:
    """Each further block of a stage is worth half of the one before."""
    space, rows = chain_space("df", 3), rows_of("df", 3)
    generator = np.random.default_rng(3)
    features = {key: [float(generator.random() + 0.2), float(generator.random())] for key in space.key_index(32, 32)}
    latency, score = space.block_tables(32, 32, features)
    halves = [np.array([0.5, 0.25])[:, None, None] * part for part in score.following]
    score = dataclasses.replace(score, following=halves)
    latency_ms = space.sums(rows, 32, 32, features)[:, 0]
    high = float(np.quantile(latency_ms, 0.4)) + 1e-9
    values = []
    for row in rows[latency_ms <= high]:
        total, before = score.start, 0
        for stage, number in enumerate(row):
            ranks = [space.widths.index(width) for width in space.lists[number]]
            total += score.first[stage][before, ranks[0]] + score.end[stage][ranks[-1]]
            total += sum(halves[stage][i, ranks[i], ranks[i + 1]] for i in range(len(ranks) - 1))
            before = ranks[-1]
        values.append(total)
    assert best_separable(space, latency, score, (None, high)).score == pytest.approx(max(values))


def test_blocks_that_must_not_occur_do_not() -> None:
    space, rows = chain_space("df-mini", 2), rows_of("df-mini", 2)
    keys = space.key_index(8, 8)
    features = {key: [np.inf if number % 7 == 3 else 1.0, 1.0 + number] for number, key in enumerate(keys)}
    counted = {key: [float(np.isinf(value[0])), value[1]] for key, value in features.items()}
    banned, score = space.sums(rows, 8, 8, counted).T
    latency, gain = space.block_tables(8, 8, features)
    assert best_separable(space, latency, gain).score == pytest.approx(score[banned == 0].max())


def test_an_empty_range_says_what_there_is() -> None:
    space = chain_space("df", 2)
    latency, score = space.block_tables(32, 32, {key: [1.0, 2.0] for key in space.key_index(32, 32)})
    with pytest.raises(InputError, match=r"range 0\.1 to 0\.2 ms") as caught:
        best_separable(space, latency, score, (0.1, 0.2))
    assert "5 to 8 ms" in caught.value.hint
    with pytest.raises(InputError, match=r"range 5\.1 to 5\.2 ms"):
        best_separable(space, latency, score, (5.1, 5.2))


def _deep_space() -> ChainSpace:
    widths = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
    return ChainSpace("deep", Architecture.parse("df/16/16/16"), widths, 24, (224, 224))


def test_a_space_of_ten_to_the_fourteen() -> None:
    """The answer is within the range, and close below the bound that no member exceeds."""
    space = _deep_space()
    assert space.count() > 10**14
    generator = np.random.default_rng(0)
    features = {
        block.key: [block.macs * 1e-6 * (0.7 + 0.6 * generator.random()) + 0.02, float(np.log1p(block.macs * 1e-6))]
        for block in space.blocks(224, 224)
    }
    latency, score = space.block_tables(224, 224, features)
    found = best_separable(space, latency, score, (100.0, 300.0))
    assert 100.0 <= found.latency_ms <= 300.0
    problem = separable._Problem(space, latency.variant(0), score.variant(0), (-np.inf, 300.0))
    problem.refine()
    assert found.score <= problem.bound + 1e-9
    assert problem.bound - found.score < 0.03 * abs(problem.bound)  # the duality gap
    assert [found.architecture] == [space.member([stage.widths for stage in found.architecture.stages])]


def test_too_many_labels_are_an_error_never_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separable, "MAX_LABELS", 3)
    space = chain_space("df", 3)
    generator = np.random.default_rng(0)
    features = {key: [float(generator.random()), float(generator.random())] for key in space.key_index(32, 32)}
    latency, score = space.block_tables(32, 32, features)
    with pytest.raises(InputError, match="more than 3 partial architectures"):
        best_separable(space, latency, score, (None, 4.0))

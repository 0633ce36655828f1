"""The factored pruner equals the enumerated one: bits and constraints, numpy and numba, every kind of space."""

import sys
from collections import Counter

import numpy as np
import pytest
from factored_helpers import ENGINES, SMALL, candidates, chain_space, rows_of, scores_of, search, tables_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.errors import InputError, MissingExtraError
from dfmobile.search import factored, factored_layout
from dfmobile.search.base import Candidate, Evaluated
from dfmobile.search.factored import FactoredPruner, open_kernels
from dfmobile.search.pruning import EnumeratedPruner

STORED = ["bits", "constraints"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(("name", "depth"), SMALL)
@pytest.mark.parametrize("levels", [4, None])
def test_equals_the_enumerated_pruner(name: str, depth: int, stored: str, engine: str, levels: int | None) -> None:
    """The same total, ruled out, alive set and reasons after every result, in a latency range with ties at its ends."""
    space, rows = chain_space(name, depth), rows_of(name, depth)
    tables = tables_of(space, seed=depth, levels=levels)
    values = tables.values(rows)
    latency_range = tuple(float(item) for item in np.quantile(values, (0.05, 0.9), method="nearest"))
    accuracy = scores_of(space, rows, seed=1)
    number = {tuple(row): index for index, row in enumerate(rows.tolist())}
    assert np.array_equal(values, tables.values(rows))
    expected = EnumeratedPruner(space, rows, values, latency_range)
    pruner = FactoredPruner(space, tables, latency_range, stored=stored, kernels=open_kernels(engine))
    assert pruner.stored == stored
    assert pruner.total == expected.total
    generator = np.random.default_rng(7)
    for step in range(8):
        if not expected.alive_count:
            break
        candidate = expected.draw(generator)
        assert pruner.is_alive(candidate)
        assert pruner.find(candidate.row) == candidate
        for each in (expected, pruner):
            each.take(candidate)
        evaluated = Evaluated(step + 1, candidate, float(accuracy[number[candidate.row]]))
        assert pruner.apply(evaluated) == expected.apply(evaluated)
        assert (pruner.alive_count, pruner.pruned_count) == (expected.alive_count, expected.pruned_count)
    found = list(pruner.alive_rows())
    alive = [tuple(row) for part, _ in found for row in part.tolist()]
    assert len(alive) == len(set(alive)) == pruner.alive_count
    kept = np.stack(expected._columns, axis=1)[expected._alive].tolist()
    assert set(alive) == set(map(tuple, kept))
    for part, latencies in found:
        assert np.array_equal(latencies, tables.values(part))
    for candidate in candidates(rows[:: max(1, len(rows) // 40)], tables):
        assert pruner.find(candidate.row) == expected.find(candidate.row)
        assert pruner.is_alive(candidate) == expected.is_alive(candidate)
        assert pruner.why(candidate) == expected.why(candidate)
    inside = rows[[candidate is not None for candidate in map(expected.find, rows.tolist())]]
    each = pruner._alive.contains_each(tables.decoder_of(inside), inside[:, :3].astype(np.int64), tables.values(inside))
    assert set(map(tuple, inside[each].tolist())) == set(alive)


@pytest.mark.parametrize("stored", ["rows", *STORED])
def test_varied_candidates_are_alive_and_have_fast_ones_among_them(stored: str) -> None:
    space, rows = chain_space("df", 3), rows_of("df", 3)
    tables = space.stage_tables(32, 32, {block.key: [block.macs * 1e-6 + 0.02] for block in space.blocks(32, 32)})[0]
    values = tables.values(rows)
    if stored == "rows":
        pruner: EnumeratedPruner | FactoredPruner = EnumeratedPruner(space, rows, values)
    else:
        pruner = FactoredPruner(space, tables, stored=stored)  # type: ignore[arg-type]
    generator = np.random.default_rng(1)
    for number in range(1, 6):
        candidate = pruner.draw(generator)
        pruner.take(candidate)
        pruner.apply(Evaluated(number, candidate, 1 - 1 / (1 + candidate.predicted_ms)))
    assert pruner.alive_count > 1000
    found, again = (pruner.varied(400, np.random.default_rng(2)) for _ in range(2))
    assert np.array_equal(found.rows, again.rows)
    assert 200 < len(found.rows) <= 400
    assert len(np.unique(found.rows, axis=0)) == len(found.rows)
    assert all(pruner.is_alive(found.candidate(index)) for index in range(len(found.rows)))
    assert np.array_equal(found.predicted_ms, tables.values(found.rows))
    fast = float(np.quantile(values, 0.02))
    uniform = pruner.alive(400, np.random.default_rng(2))
    assert np.mean(found.predicted_ms < fast) > 1.5 * np.mean(uniform.predicted_ms < fast)
    everything = pruner.varied(10**9, generator)
    assert len(everything.rows) == pruner.alive_count


@given(st.integers(0, 10**6), st.sampled_from(SMALL), st.sampled_from([2, None]))
@settings(max_examples=8, deadline=None)
def test_bits_and_constraints_draw_the_same(seed: int, kind: tuple[str, int], levels: int | None) -> None:
    space, rows = chain_space(*kind), rows_of(*kind)
    tables = tables_of(space, seed, levels)
    accuracy = dict(zip(map(tuple, rows.tolist()), scores_of(space, rows, seed).tolist(), strict=True))
    histories = []
    for stored in STORED:
        pruner = FactoredPruner(space, tables, stored=stored, kernels=open_kernels("numpy"))  # type: ignore[arg-type]
        histories.append((search(pruner, accuracy, 8, seed), pruner.alive_count))
    assert histories[0] == histories[1]


@pytest.mark.parametrize("stored", STORED)
def test_a_recount_gives_the_count_that_was_kept(stored: str) -> None:
    space, rows = chain_space("df-seg", 1), rows_of("df-seg", 1)
    tables = tables_of(space, 3)
    accuracy = dict(zip(map(tuple, rows.tolist()), scores_of(space, rows, 3).tolist(), strict=True))
    pruner = FactoredPruner(space, tables, (3.0, 9.0), stored=stored)  # type: ignore[arg-type]
    search(pruner, accuracy, 40, 3)
    kept = pruner._alive.alive_by_head
    counted = np.zeros_like(kept)
    for found, _ in pruner.alive_rows():
        np.add.at(counted, (tables.decoder_of(found), found[:, 0]), 1)
    assert np.array_equal(kept, counted)
    if stored == "constraints":
        assert np.array_equal(pruner._alive.count(), kept)  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ENGINES)
def test_many_constraints_take_several_words(engine: str) -> None:
    """More than 64 constraints none of which implies another."""
    space, rows = chain_space("df", 3), rows_of("df", 3)
    tables = tables_of(space, 5)
    values = tables.values(rows)
    generator = np.random.default_rng(5)
    pruners = [
        FactoredPruner(space, tables, stored=stored, kernels=open_kernels(engine))  # type: ignore[arg-type]
        for stored in STORED
    ]
    for number, index in enumerate(generator.choice(len(rows), 150, replace=False), 1):
        candidate = Candidate(tuple(rows[index].tolist()), float(values[index]))
        # What is slower is more accurate: thresholds of all heights, and few that imply another.
        evaluated = Evaluated(number, candidate, float(values[index] / 100))
        assert pruners[0].apply(evaluated) == pruners[1].apply(evaluated)
    assert pruners[1]._alive.masks.allowed.shape[1] > 1  # type: ignore[attr-defined]
    assert pruners[0].alive_count == pruners[1].alive_count


@pytest.mark.parametrize("stored", STORED)
def test_blocks_do_not_change_anything(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space, rows = chain_space("df", 2), rows_of("df", 2)
    tables = tables_of(space, 2)
    accuracy = dict(zip(map(tuple, rows.tolist()), scores_of(space, rows, 2).tolist(), strict=True))
    histories = []
    for size in (1 << 19, 7):
        monkeypatch.setattr(factored_layout, "_BLOCK", size)
        pruner = FactoredPruner(space, tables, stored=stored, kernels=open_kernels("numpy"))  # type: ignore[arg-type]
        histories.append((search(pruner, accuracy, 30, 1), pruner.alive_count))
    assert histories[0] == histories[1]


@pytest.mark.parametrize("stored", STORED)
def test_draws_are_uniform_over_what_is_alive(stored: str) -> None:
    space, rows = chain_space("df", 2), rows_of("df", 2)
    tables = tables_of(space, 4)
    accuracy = dict(zip(map(tuple, rows.tolist()), scores_of(space, rows, 4).tolist(), strict=True))
    pruner = FactoredPruner(space, tables, stored=stored)  # type: ignore[arg-type]
    search(pruner, accuracy, 5, 4)
    alive = {tuple(row) for found, _ in pruner.alive_rows() for row in found.tolist()}
    drawn, values = pruner.sample(100 * len(alive), np.random.default_rng(1))
    assert np.array_equal(values, tables.values(drawn))
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == alive
    chi_squared = sum((counts[row] - 100) ** 2 / 100 for row in alive)
    assert abs(chi_squared - len(alive)) < 6 * np.sqrt(2 * len(alive))


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(("name", "depth"), [("df", 3), ("df-seg", 1), ("shuffle-seg", 1)])
def test_the_best_by_an_additive_score_is_that_of_all_alive(stored: str, name: str, depth: int) -> None:
    space, rows = chain_space(name, depth), rows_of(name, depth)
    tables, scores = tables_of(space, 6), tables_of(space, 60, levels=3)
    accuracy = dict(zip(map(tuple, rows.tolist()), scores_of(space, rows, 6).tolist(), strict=True))
    pruner = FactoredPruner(space, tables, stored=stored)  # type: ignore[arg-type]
    search(pruner, accuracy, 15, 6)
    for latency_range in (None, tuple(np.quantile(tables.values(rows), (0.2, 0.5)))):
        low, high = latency_range or (-np.inf, np.inf)
        found = [(rows_, values) for rows_, values in pruner.alive_rows()]
        every = np.concatenate([item[0] for item in found])
        inside = every[(tables.values(every) >= low) & (tables.values(every) <= high)]
        expected = scores.values(inside)
        best = pruner.best(scores, latency_range)
        assert best is not None
        assert best.row == tuple(inside[int(np.argmax(expected))].tolist())
    assert pruner.best(scores, (1e6, 2e6)) is None


def test_a_margin_rules_out_less_and_needs_that_much_more_accuracy() -> None:
    space, rows = chain_space("df", 2), rows_of("df", 2)
    tables = tables_of(space, 8)
    values, accuracy = tables.values(rows), scores_of(space, rows, 8)
    margin = 0.2
    for stored in STORED:
        pruner = FactoredPruner(space, tables, stored=stored, margin=margin)  # type: ignore[arg-type]
        chosen = np.random.default_rng(0).choice(len(rows), 40, replace=False)
        for number, index in enumerate(chosen, 1):
            candidate = Candidate(tuple(rows[index].tolist()), float(values[index]))
            pruner.apply(Evaluated(number, candidate, float(accuracy[index])))
        below = np.ones((len(rows), len(chosen)), bool)
        for column in range(3):
            below &= space.stage_order(column)[np.ix_(rows[:, column], rows[chosen, column])]
        expected = np.zeros(len(rows), bool)
        for place, w in enumerate(chosen):
            for z in chosen:
                if accuracy[z] >= accuracy[w] + margin:
                    expected |= below[:, place] & (values >= values[z])
        assert expected.any()
        alive = np.array([pruner.is_alive(item) for item in candidates(rows, tables)])
        assert np.array_equal(alive, ~expected)


def test_the_histogram_counts_candidates_and_what_is_alive() -> None:
    space, rows = chain_space("df", 2), rows_of("df", 2)
    tables = tables_of(space, 9)
    accuracy = dict(zip(map(tuple, rows.tolist()), scores_of(space, rows, 9).tolist(), strict=True))
    pruner = FactoredPruner(space, tables, (3.0, 6.0))
    search(pruner, accuracy, 5, 9)
    edges = np.linspace(3.0, 6.0, 9)
    every, alive = pruner.latency_histogram(edges)
    values = tables.values(rows)
    assert every.tolist() == np.histogram(values[(values >= 3.0) & (values <= 6.0)], edges)[0].tolist()
    assert alive.sum() == pruner.alive_count


def test_refusals_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    space = chain_space("df", 2)
    tables = tables_of(space, 1)
    with pytest.raises(InputError, match=r"\[0.001, 0.002\] ms") as caught:
        FactoredPruner(space, tables, (0.001, 0.002))
    low, high = tables.span()
    assert f"from {low:.4g} to {high:.4g} ms" in caught.value.hint
    with pytest.raises(InputError, match="833 architectures, space df has 35"):
        FactoredPruner(chain_space("df", 1), tables)
    monkeypatch.setattr(factored, "MAX_IMPLICIT", 800)
    with pytest.raises(InputError, match="at most 800"):
        FactoredPruner(space, tables)
    with pytest.raises(InputError, match="unknown engine"):
        open_kernels("fortran")


def test_blocks_that_were_skipped_make_architectures_no_candidates() -> None:
    space, rows = chain_space("df", 2), rows_of("df", 2)
    size = (32, 32)
    keys = space.key_index(*size)
    slow = {key: [np.inf if number % 9 == 5 else 1.0 + number / 100] for number, key in enumerate(keys)}
    counted = space.sums(rows, *size, {key: [float(np.isinf(value[0]))] for key, value in slow.items()})[:, 0]
    finite = {key: [0.0 if np.isinf(value[0]) else value[0], float(np.isinf(value[0]))] for key, value in slow.items()}
    tables = space.stage_tables(*size, finite)
    assert (counted > 0).any()
    merged = tables[0].without(tables[1])
    for stored in STORED:
        pruner = FactoredPruner(space, merged, stored=stored)  # type: ignore[arg-type]
        assert pruner.total == int((counted == 0).sum())
    assert np.array_equal(np.isinf(merged.values(rows)), counted > 0)


def test_without_numba_the_loops_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert open_kernels().name == "numpy"
    with pytest.raises(MissingExtraError, match="numba"):
        open_kernels("numba")

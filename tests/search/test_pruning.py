"""Partial Order Pruning: equal to its definition, sound, and complete when run to empty."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_helpers import MacsPredictor, monotone_accuracy, precedence, toy_accuracy

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.errors import InputError
from dfmobile.search import pruning
from dfmobile.search.base import Candidate, Evaluated
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.pruning import EnumeratedPruner

SPACE = open_space("df", max_depth=1)
ROWS = SPACE.rows()
BELOW = precedence(SPACE, ROWS)


class World:
    """The 35 architectures of depth 1 with random latencies and a random monotone accuracy, both with ties.

    The latencies do not follow the order: soundness must not need that.
    """

    def __init__(self, seed: int, levels: int = 9) -> None:
        generator = np.random.default_rng(seed)
        self.latency = generator.integers(1, 20, size=len(ROWS)) / 4.0
        self.accuracy = monotone_accuracy(BELOW, generator, levels)
        self.pruner = EnumeratedPruner(SPACE, ROWS, self.latency)
        self.generator = generator
        self.evaluated: list[int] = []

    def number(self, candidate: Candidate) -> int:
        return int(np.flatnonzero((candidate.row == ROWS).all(axis=1))[0])

    def candidate(self, index: int) -> Candidate:
        return Candidate(tuple(int(item) for item in ROWS[index]), float(self.latency[index]))

    def step(self) -> int:
        candidate = self.pruner.draw(self.generator)
        self.pruner.take(candidate)
        index = self.number(candidate)
        self.evaluated.append(index)
        return self.pruner.apply(Evaluated(len(self.evaluated), candidate, float(self.accuracy[index])))

    def alive(self) -> set[int]:
        return {index for index in range(len(ROWS)) if self.pruner.is_alive(self.candidate(index))}

    def ruled_out_by_definition(self) -> set[int]:
        found = self.evaluated
        optimal = pareto_optimal(self.latency[found].tolist(), self.accuracy[found].tolist())
        boundary = [index for index, keep in zip(found, optimal, strict=True) if keep]
        return {
            s
            for s in set(range(len(ROWS))) - set(found)
            for w in found
            if BELOW[s, w]
            and any(self.accuracy[z] >= self.accuracy[w] and self.latency[z] <= self.latency[s] for z in boundary)
        }

    def true_front(self) -> set[int]:
        return set(np.flatnonzero(pareto_optimal(self.latency.tolist(), self.accuracy.tolist())).tolist())

    def points(self, indices: Any) -> set[tuple[float, float]]:
        return {(float(self.latency[index]), float(self.accuracy[index])) for index in indices}


@given(st.integers(0, 10**6), st.sampled_from([3, 9, 10**9]))
@settings(max_examples=60, deadline=None)
def test_what_is_ruled_out_is_exactly_the_definition(seed: int, levels: int) -> None:
    world = World(seed, levels)
    while world.pruner.alive_count:
        before = world.pruner.pruned_count
        newly = world.step()
        expected = world.ruled_out_by_definition()
        assert world.alive() == set(range(len(ROWS))) - set(world.evaluated) - expected
        assert world.pruner.pruned_count == len(expected) == before + newly


@given(st.integers(0, 10**6), st.sampled_from([3, 9, 10**9]))
@settings(max_examples=60, deadline=None)
def test_pruning_is_sound(seed: int, levels: int) -> None:
    """No point of the true boundary of a monotone oracle is lost, at any time.

    Of architectures equal in latency and accuracy one is enough; a strictly better one is never lost.
    """
    world = World(seed, levels)
    front = world.true_front()
    while world.pruner.alive_count:
        world.step()
        kept = world.alive() | set(world.evaluated)
        lost = front - kept
        assert world.points(lost) <= world.points(world.evaluated)
        if levels == 10**9 and len(world.points(front)) == len(front):
            assert not lost


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_run_to_empty_finds_the_whole_true_boundary(seed: int) -> None:
    world = World(seed)
    while world.pruner.alive_count:
        world.step()
    found = [world.number(item.candidate) for item in world.pruner.boundary.members]
    assert world.points(found) == world.points(world.true_front())


def test_run_to_empty_on_833_architectures_spares_most_trainings() -> None:
    space = open_space("df-mini", max_depth=2)
    rows = space.rows()
    below = precedence(space, rows)
    latency = MacsPredictor().predict_rows(space, rows, 32, 32)
    noise = np.random.default_rng(3).normal(0, 0.01, len(rows))
    accuracy = np.array([toy_accuracy(space.architecture(row).text) for row in rows]) + noise
    accuracy = np.array([accuracy[below[:, j]].max() for j in range(len(rows))])
    pruner = EnumeratedPruner(space, rows, latency)
    index = {tuple(row): number for number, row in enumerate(rows.tolist())}
    generator = np.random.default_rng(0)
    drawn = 0
    while pruner.alive_count:
        candidate = pruner.draw(generator)
        pruner.take(candidate)
        drawn += 1
        pruner.apply(Evaluated(drawn, candidate, float(accuracy[index[candidate.row]])))
    true_front = set(np.flatnonzero(pareto_optimal(latency.tolist(), accuracy.tolist())).tolist())
    assert {index[item.candidate.row] for item in pruner.boundary.members} == true_front
    assert drawn + pruner.pruned_count == len(rows) == 833
    assert drawn < 0.7 * len(rows)


@given(st.integers(0, 10**6), st.permutations(list(range(len(ROWS)))))
@settings(max_examples=30, deadline=None)
def test_what_is_ruled_out_does_not_depend_on_the_order_of_results(seed: int, order: list[int]) -> None:
    """The set of evaluations decides, so a verifier needs nothing else."""
    chosen = order[:8]
    alive = []
    for sequence in (chosen, sorted(chosen)):
        world = World(seed)
        for number, index in enumerate(sequence, 1):
            candidate = world.candidate(index)
            if world.pruner.is_alive(candidate):
                world.pruner.take(candidate)
            world.pruner.apply(Evaluated(number, candidate, float(world.accuracy[index])))
        alive.append(world.alive() - set(chosen))
    assert alive[0] == alive[1]


def test_chunks_do_not_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = []
    for chunk in (1 << 18, 4):
        monkeypatch.setattr(pruning, "_CHUNK", chunk)
        world = World(11)
        counts = []
        while world.pruner.alive_count:
            counts.append(world.step())
        histories.append((world.evaluated, counts))
    assert histories[0] == histories[1]


def _pair(space: SearchSpace, small: str, large: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    from dfmobile.architecture import Architecture

    return (
        tuple(int(item) for item in space.row(Architecture.parse(small))),
        tuple(int(item) for item in space.row(Architecture.parse(large))),
    )


def test_latencies_are_compared_by_the_table_never_by_the_order() -> None:
    """A smaller architecture that the table predicts to be slower goes; one predicted to be faster stays."""
    small, large = _pair(SPACE, "df/64/64/64", "df/128/128/128")
    for small_ms, alive in ((0.9, True), (1.0, False), (1.1, False)):
        latency = np.full(len(ROWS), 100.0)
        latency[(small == ROWS).all(axis=1)] = small_ms
        latency[(large == ROWS).all(axis=1)] = 1.0
        pruner = EnumeratedPruner(SPACE, ROWS, latency)
        candidate = Candidate(large, 1.0)
        pruner.take(candidate)
        pruner.apply(Evaluated(1, candidate, 0.5))
        assert pruner.is_alive(Candidate(small, small_ms)) is alive


def test_a_better_result_lets_an_earlier_one_rule_out_more() -> None:
    small, middle = _pair(SPACE, "df/64/64/64", "df/128/128/128")
    _, other = _pair(SPACE, "df/64/64/64", "df/64/64/1024")
    latency = np.full(len(ROWS), 100.0)
    for row, value in ((small, 1.0), (middle, 3.0), (other, 0.5)):
        latency[(row == ROWS).all(axis=1)] = value
    pruner = EnumeratedPruner(SPACE, ROWS, latency)
    pruner.take(Candidate(middle, 3.0))
    pruner.apply(Evaluated(1, Candidate(middle, 3.0), 0.6))
    assert pruner.is_alive(Candidate(small, 1.0))
    pruner.take(Candidate(other, 0.5))
    pruner.apply(Evaluated(2, Candidate(other, 0.5), 0.7))
    assert not pruner.is_alive(Candidate(small, 1.0))
    reason = pruner.why(Candidate(small, 1.0))
    assert reason is not None
    assert (reason.larger.number, reason.better.number) == (1, 2)


def test_draws_are_uniform_over_what_is_alive() -> None:
    world = World(5)
    for _ in range(3):
        world.step()
    alive = world.alive()
    generator = np.random.default_rng(1)
    counts = Counter(world.number(world.pruner.draw(generator)) for _ in range(400 * len(alive)))
    assert set(counts) == alive
    expected = 400.0
    chi_squared = sum((counts[index] - expected) ** 2 / expected for index in alive)
    assert chi_squared < len(alive) + 6 * np.sqrt(2 * len(alive))


def test_candidates_are_those_within_the_range_ends_included() -> None:
    latency = np.arange(len(ROWS), dtype=np.float64)
    pruner = EnumeratedPruner(SPACE, ROWS, latency, (3.0, 5.0))
    assert pruner.total == pruner.alive_count == 3
    assert pruner.find([int(item) for item in ROWS[3]]) is not None
    assert pruner.find([int(item) for item in ROWS[2]]) is None


def test_a_range_without_architectures_says_what_there_is() -> None:
    with pytest.raises(InputError, match=r"\[0.1, 0.2\] ms") as caught:
        EnumeratedPruner(SPACE, ROWS, np.linspace(1, 2, len(ROWS)), (0.1, 0.2))
    assert "from 1 to 2 ms" in caught.value.hint


def test_an_empty_alive_set_draws_nothing_and_takes_nothing() -> None:
    world = World(2)
    while world.pruner.alive_count:
        world.step()
    with pytest.raises(LookupError):
        world.pruner.draw(world.generator)
    with pytest.raises(LookupError):
        world.pruner.take(world.candidate(0))


def test_pruned_points_carry_the_accuracy_they_cannot_exceed() -> None:
    world = World(8)
    while world.pruner.alive_count:
        world.step()
    points = world.pruner.pruned_points()
    assert len(points) == world.pruner.pruned_count
    for latency, bound in points:
        assert any(
            world.latency[s] == latency
            and min(world.accuracy[w] for w in world.evaluated if BELOW[s, w]) == bound >= world.accuracy[s]
            for s in range(len(ROWS))
            if any(BELOW[s, w] for w in world.evaluated)
        )
    assert len(world.pruner.pruned_points(limit=3)) == 3

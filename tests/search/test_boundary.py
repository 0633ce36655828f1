"""The boundary is exactly what nothing beats."""

from hypothesis import given
from hypothesis import strategies as st

from dfmobile.search.base import Candidate, Evaluated
from dfmobile.search.boundary import Boundary, hypervolume, pareto_optimal


def _evaluated(number: int, latency_ms: float, accuracy: float) -> Evaluated:
    return Evaluated(number, Candidate((number,), latency_ms), accuracy)


def test_a_slower_and_worse_architecture_is_not_on_the_boundary() -> None:
    boundary = Boundary([_evaluated(1, 2.0, 0.8)])
    assert not boundary.add(_evaluated(2, 3.0, 0.7))
    assert not boundary.add(_evaluated(3, 2.0, 0.7))
    assert not boundary.add(_evaluated(4, 3.0, 0.8))
    assert [item.number for item in boundary.members] == [1]


def test_a_better_architecture_replaces_what_it_beats() -> None:
    boundary = Boundary([_evaluated(1, 2.0, 0.8), _evaluated(2, 1.0, 0.5)])
    assert boundary.add(_evaluated(3, 1.0, 0.9))
    assert [item.number for item in boundary.members] == [3]


def test_equal_architectures_are_both_on_the_boundary() -> None:
    boundary = Boundary([_evaluated(1, 2.0, 0.8), _evaluated(2, 2.0, 0.8)])
    assert [item.number for item in boundary.members] == [1, 2]


def test_cheapest_gives_the_fastest_that_is_accurate_enough() -> None:
    boundary = Boundary([_evaluated(1, 1.0, 0.5), _evaluated(2, 2.0, 0.8), _evaluated(3, 4.0, 0.9)])
    assert [item.number if (item := boundary.cheapest(level)) else None for level in (0.5, 0.6, 0.8, 0.95)] == [
        1,
        2,
        2,
        None,
    ]


def test_hypervolume_is_the_area_to_the_worst_corner() -> None:
    boundary = Boundary([_evaluated(1, 1.0, 0.5), _evaluated(2, 2.0, 0.8)])
    assert abs(boundary.hypervolume(worst_ms=4.0) - (1.0 * 0.5 + 2.0 * 0.8)) < 1e-12
    assert hypervolume([], [], worst_ms=4.0) == 0.0
    assert not len(pareto_optimal([], []))


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25)


@given(points)
def test_boundary_is_exactly_what_nothing_beats(found: list[tuple[int, int]]) -> None:
    boundary = Boundary(_evaluated(n, float(lat), acc / 6) for n, (lat, acc) in enumerate(found))
    expected = {
        n
        for n, (lat, acc) in enumerate(found)
        if not any(a >= acc and t <= lat and (a, t) != (acc, lat) for t, a in found)
    }
    assert {item.number for item in boundary.members} == expected


@given(points, st.integers(0, 6))
def test_cheapest_is_the_fastest_of_all_evaluations(found: list[tuple[int, int]], level: int) -> None:
    boundary = Boundary(_evaluated(n, float(lat), acc / 6) for n, (lat, acc) in enumerate(found))
    best = boundary.cheapest(level / 6)
    accurate = [lat for lat, acc in found if acc >= level]
    assert (best.candidate.predicted_ms if best else None) == (min(accurate) if accurate else None)

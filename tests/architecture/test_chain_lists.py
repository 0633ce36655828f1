"""Lists of widths and their chains: counts, listing and draws agree with trying everything."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.architecture.order import list_precedes
from dfmobile.architecture.spaces.lists import RisingLists, StageLists, UniformLists

KINDS = st.sampled_from([RisingLists, UniformLists])
WIDTHS = st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))


def all_chains(lists: StageLists, stages: int) -> set[tuple[tuple[int, ...], ...]]:
    """Every chain, by trying every combination of every list."""
    single = {
        found
        for depth in range(1, lists.max_depth + 1)
        for found in itertools.product(lists.widths, repeat=depth)
        if list(found) == sorted(found) and (isinstance(lists, RisingLists) or len(set(found)) == 1)
    }
    joined = itertools.product(single, repeat=stages)
    return {chain for chain in joined if all(a[-1] <= b[0] for a, b in itertools.pairwise(chain))}


def formula_value(formula: str, depth: int) -> int:
    """Compute a formula's text, as a reader would."""
    text = formula.replace(" widths", "").replace(" depths", "").replace("x", "*").replace("^", "**")
    if "sum over" not in formula:
        return int(eval(text, {"C": math.comb}))  # noqa: S307  (our own text)
    names, term = re.findall(r"\((n[n0-9, ]*)\)", formula)[0].split(", "), formula.split(" of ")[1]
    values = itertools.product(range(1, depth + 1), repeat=len(names))
    return sum(eval(term, {"C": math.comb, **dict(zip(names, chosen, strict=True))}) for chosen in values)  # noqa: S307


@settings(max_examples=40, deadline=None)
@given(KINDS, WIDTHS, st.integers(1, 3), st.integers(1, 3))
def test_count_formula_and_listing_agree(
    kind: type[StageLists], widths: tuple[int, ...], depth: int, stages: int
) -> None:
    lists = kind(widths, depth)
    expected = all_chains(lists, stages)
    rows = lists.chains(stages)
    assert lists.number() == len(lists.lists)
    assert lists.count_chains(stages) == formula_value(lists.formula(stages), depth) == len(rows) == len(expected)
    assert {tuple(lists.lists[number] for number in row) for row in rows} == expected
    assert sorted(rows.tolist()) == rows.tolist()


@settings(max_examples=40, deadline=None)
@given(KINDS, WIDTHS, st.integers(1, 4))
def test_order_matrix_is_the_order_of_lists(kind: type[StageLists], widths: tuple[int, ...], depth: int) -> None:
    lists = kind(widths, depth)
    for (a, left), (b, right) in itertools.product(enumerate(lists.lists), repeat=2):
        assert lists.order[a, b] == list_precedes(left, right)


@pytest.mark.parametrize("kind", [RisingLists, UniformLists])
def test_spread_draws_follow_the_weights_of_depths(kind: type[StageLists]) -> None:
    """Chi-square for a fixed seed: a chain's probability is the product of 1 / (depth · lists of that depth)."""
    lists = kind((8, 16, 24), 3)
    rows = lists.chains(2)
    of_depth = np.bincount([len(widths) for widths in lists.lists])
    weight = np.array([1 / (len(widths) * of_depth[len(widths)]) for widths in lists.lists])
    probability = weight[rows].prod(axis=1)
    expected = 100_000 * probability / probability.sum()
    number = {tuple(row): index for index, row in enumerate(rows.tolist())}
    drawn = lists.draw(100_000, 2, np.random.default_rng(7), spread=True)
    seen = np.bincount([number[tuple(row)] for row in drawn.tolist()], minlength=len(rows))
    statistic = float(((seen - expected) ** 2 / expected).sum())
    assert abs(statistic - (len(rows) - 1)) < 5 * np.sqrt(2 * (len(rows) - 1))


def test_spread_draws_reach_the_shallow_networks_that_uniform_draws_miss() -> None:
    lists = RisingLists((64, 128, 256, 512, 1024), 11)
    depths = np.array([len(widths) for widths in lists.lists])
    for spread, low, high in ((False, 0, 10), (True, 10_000, 15_000)):
        total = depths[lists.draw(20_000, 3, np.random.default_rng(0), spread=spread)].sum(axis=1)
        assert low <= (total <= 6).sum() <= high

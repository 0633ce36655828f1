"""The partial order: its laws, its meaning, and its matrix."""

from __future__ import annotations

import numpy as np
import pytest
from architecture_strategies import architectures
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build
from dfmobile.architecture.order import list_precedes, order_matrix, precedes

WIDTHS = (8, 16, 24)
lists = st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=4).map(lambda drawn: tuple(sorted(drawn)))


@st.composite
def members(draw: st.DrawFn) -> Architecture:
    """Draw from a small space, so that comparable pairs are common."""
    chain = sorted(draw(st.lists(st.sampled_from(WIDTHS), min_size=3, max_size=6)))
    first = draw(st.integers(1, len(chain) - 2))
    second = draw(st.integers(first + 1, len(chain) - 1))
    stages = (chain[:first], chain[first:second], chain[second:])
    text = "df/" + "/".join(",".join(str(width) for width in stage) for stage in stages)
    if draw(st.booleans()):
        text += "+seg:" + ",".join(str(draw(st.sampled_from(WIDTHS))) for _ in range(3))
    return Architecture.parse(text)


class TestLaws:
    @given(architectures())
    def test_reflexive(self, x: Architecture) -> None:
        assert precedes(x, x)

    @given(members(), members())
    def test_antisymmetric(self, x: Architecture, y: Architecture) -> None:
        assert (precedes(x, y) and precedes(y, x)) == (x == y)

    @given(members(), members(), members())
    def test_transitive(self, x: Architecture, y: Architecture, z: Architecture) -> None:
        if precedes(x, y) and precedes(y, z):
            assert precedes(x, z)

    @given(lists, lists, lists)
    def test_lists(self, a: tuple[int, ...], b: tuple[int, ...], c: tuple[int, ...]) -> None:
        assert list_precedes(a, a)
        assert (list_precedes(a, b) and list_precedes(b, a)) == (a == b)
        if list_precedes(a, b) and list_precedes(b, c):
            assert list_precedes(a, c)

    @given(members(), members())
    def test_what_precedes_is_not_larger(self, x: Architecture, y: Architecture) -> None:
        """Not so for latency: Lat(x) <= Lat(y) is always looked up, never inferred from the order."""
        if precedes(x, y):
            assert all(len(a.widths) <= len(b.widths) for a, b in zip(x.stages, y.stages, strict=True))
            # Projections come and go with the widths, so MACs follow the order only without them in the way.
            if all(len(set(stage.widths)) == 1 for stage in (*x.stages, *y.stages)):
                assert build(x, 64, 64).cost.macs <= build(y, 64, 64).cost.macs


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("df/8/8/8", "df/8,8/8/8", True),
        ("df/8/8/8", "df/16/16/16", True),
        ("df/8,8/8/8", "df/16/16/16", False),  # deeper, but narrower
        ("df/16/16/16", "df/8,8/8,8/8,8", False),
        ("df/8,16/16/16", "df/16,16/16/16", True),
        ("df/8,16/16/16", "df/16/16/16", False),
        ("dfb/8/8/8", "df/8/8/8", False),
        ("df/8/8/8", "df,classes=10/8/8/8", False),
        ("df/8/8/8", "df,channels=1/8/8/8", False),
        ("df,stem=8s2-8s2/8/8/8", "df/8/8/8", False),
        ("df/8/8/8", "df/8/8/8+seg:8,8,8", False),
        ("df/8/8/8+seg:8,8,8", "df/8/8/8", False),
        ("df/8/8/8+seg:8,8,8", "df/8/8/8+seg:8,9,8", True),
        ("df/8/8/8+seg:8,9,8", "df/8/8/8+seg:9,8,9", False),
        ("df/8/8/8+seg:8,8,8", "df/8/8/8+seg:8,8,8:d8", False),
        ("shuffle/1x8/2x8/1x8", "shuffle/1x8/2x16/2x16", True),
    ],
)
def test_examples(left: str, right: str, expected: bool) -> None:
    assert precedes(Architecture.parse(left), Architecture.parse(right)) is expected


@given(st.lists(lists, min_size=1, max_size=12))
def test_the_matrix_is_the_order_of_lists(given_lists: list[tuple[int, ...]]) -> None:
    expected = np.array([[list_precedes(a, b) for b in given_lists] for a in given_lists])
    assert np.array_equal(order_matrix(given_lists), expected)

"""Pyramid windows: the divisor nearest to size/bins, the larger of two equally near."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build
from dfmobile.architecture.pyramid import DF_BINS, PL1A_BINS, nearest_divisor, pyramid_windows


@given(st.integers(1, 512), st.integers(1, 64))
def test_no_divisor_is_nearer_and_ties_go_to_the_larger(extent: int, bins: int) -> None:
    window = nearest_divisor(extent, bins)
    assert extent % window == 0

    def distance(number: int) -> Fraction:
        return abs(number - Fraction(extent, bins))

    divisors = [number for number in range(1, extent + 1) if extent % number == 0]
    nearest = min(distance(number) for number in divisors)
    assert window == max(number for number in divisors if distance(number) == nearest)


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_size_that_bins_divide_gets_exactly_those_bins(bins: int, window: int) -> None:
    assert nearest_divisor(bins * window, bins) == window


@pytest.mark.parametrize(
    ("extent", "bins", "window"),
    [(6, 4, 2), (12, 8, 2), (20, 8, 2), (3, 2, 1), (6, 1, 6), (1, 16, 1), (7, 2, 1), (8, 12, 1), (15, 2, 5)],
)
def test_examples_with_ties(extent: int, bins: int, window: int) -> None:
    assert nearest_divisor(extent, bins) == window


def test_published_windows() -> None:
    assert pyramid_windows(32, 64, DF_BINS) == ((32, 32), (16, 16), (8, 8), (4, 4))
    assert pyramid_windows(32, 32, DF_BINS) == ((32, 16), (16, 8), (8, 4), (4, 2))
    assert pyramid_windows(12, 20, PL1A_BINS) == ((12, 20), (6, 10), (3, 5), (2, 2))


@given(st.sampled_from(("df/8/8/8+seg:8,8,8", "shuffle/1x8/1x8/1x8+seg:8,8,8")), st.integers(1, 40), st.integers(1, 40))
def test_every_multiple_of_32_can_be_built(text: str, columns: int, rows: int) -> None:
    network = build(Architecture.parse(text), 32 * columns, 32 * rows)
    pyramid = next(block for block in network.blocks if block.kind == "pyramid_pooling")
    assert pyramid.input_shapes[0][2:] == pyramid.output_shape[2:] == (rows, columns)

"""Order words and stage tables: the same order and the same sums as per architecture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.architecture import Architecture
from dfmobile.architecture.order import list_precedes
from dfmobile.architecture.spaces import open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.order_words import OrderWords
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import FileFormatError, MissingBlocksError

SMALL = [("df", 1), ("df", 3), ("df-bottleneck", 3), ("df-mini", 2), ("shuffle", 4), ("df-seg", 1), ("shuffle-seg", 2)]


def opened(name: str, depth: int) -> ChainSpace:
    space = open_space(name, depth)
    assert isinstance(space, ChainSpace)
    return space


@st.composite
def some_lists(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], tuple[int, ...], int]:
    widths = tuple(sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=14))))
    depth = draw(st.integers(1, 24))
    one = st.lists(st.sampled_from(widths), min_size=1, max_size=depth).map(lambda items: tuple(sorted(items)))
    return draw(st.lists(one, min_size=1, max_size=8)), widths, depth


@given(some_lists())
def test_words_compare_as_the_definition(case: tuple[list[tuple[int, ...]], tuple[int, ...], int]) -> None:
    lists, widths, depth = case
    words = OrderWords(lists, widths, depth)
    expected = np.array([[list_precedes(a, b) for b in lists] for a in lists])
    assert np.array_equal(words.matrix(), expected)
    assert [[words.precedes(a, b) for b in range(len(lists))] for a in range(len(lists))] == expected.tolist()


@pytest.mark.parametrize(("name", "depth"), SMALL)
def test_words_are_the_stage_order(name: str, depth: int) -> None:
    space = opened(name, depth)
    assert np.array_equal(space.order_words().matrix(), space.stage_order(0))


@pytest.mark.parametrize(
    ("widths", "depth", "count"),
    [(5, 2, 833), (5, 3, 6_651), (5, 4, 32_072), (5, 6, 334_683), (5, 8, 1_913_408), (5, 10, 7_689_725),
     (6, 10, 39_710_450)],
)  # fmt: skip
def test_counts_by_formula_and_by_walking_the_suffixes(widths: int, depth: int, count: int) -> None:
    """The published counts; the tables count chains of lists, not by the formula."""
    template = Architecture.parse("df/64/64/64")
    space = ChainSpace("x", template, tuple(64 * 2**rank for rank in range(widths)), depth, (32, 32))
    table = space.stage_tables(32, 32, {key: [1.0] for key in space.key_index(32, 32)})[0]
    assert space.count() == table.count == count


def test_ten_blocks_of_five_widths_fit_one_word() -> None:
    assert opened("df", 10).order_words().words.shape == (3_002, 1)


@pytest.mark.parametrize(("name", "depth"), SMALL)
def test_tables_add_up_to_the_sums(name: str, depth: int) -> None:
    space = opened(name, depth)
    size = (space.total_stride, 2 * space.total_stride)
    generator = np.random.default_rng(0)
    features = {key: generator.random(2).tolist() for key in space.key_index(*size)}
    tables, rows = space.stage_tables(*size, features), space.rows()
    sums = space.sums(rows, *size, features)
    for number, table in enumerate(tables):
        assert table.values(rows) == pytest.approx(sums[:, number], rel=1e-12)
        assert table.span() == pytest.approx((sums[:, number].min(), sums[:, number].max()))
        assert table.count == space.count()
        for decoder, row in zip(table.decoder_of(rows).tolist(), rows.tolist(), strict=True):
            assert table.row(decoder, tuple(row[:3])) == tuple(row)
    # A variant's three parts are the same numbers, added in the same order.
    for decoder in {0, tables[0].decoders - 1}:
        first, fourth, fifth = tables[0].variant(decoder)
        mine = rows[tables[0].decoder_of(rows) == decoder]
        last = tables[0].last_rank
        parts = (first[mine[:, 0]] + fourth[last[mine[:, 0]], mine[:, 1]]) + fifth[last[mine[:, 1]], mine[:, 2]]
        assert np.array_equal(parts, tables[0].values(mine))


def test_a_missing_block_is_named() -> None:
    space = opened("df", 2)
    features = {key: [1.0] for key in space.key_index(32, 32)}
    missing = features.popitem()[0]
    with pytest.raises(MissingBlocksError) as caught:
        space.stage_tables(32, 32, features)
    assert missing in caught.value.keys


def test_tables_go_to_a_file_and_back() -> None:
    space = opened("df-seg", 1)
    table = space.stage_tables(32, 32, {key: [1.0] for key in space.key_index(32, 32)})[0]
    again = StageTables.of_arrays(table.arrays(), "x.npz")
    assert again.fingerprint() == table.fingerprint()
    for name in table.arrays():
        arrays = dict(table.arrays())
        arrays[name] = arrays[name][:-1]
        with pytest.raises(FileFormatError, match=r"x\.npz"):
            StageTables.of_arrays(arrays, "x.npz")
    for number in range(2):
        arrays = dict(table.arrays())
        if number:
            arrays["more"] = arrays["first"]
        else:
            del arrays["first"]
        with pytest.raises(FileFormatError):
            StageTables.of_arrays(arrays, "x.npz")
    wild = dict(table.arrays())
    wild["last_rank"] = wild["last_rank"] + 1000
    with pytest.raises(FileFormatError, match="last_rank"):
        StageTables.of_arrays(wild, "x.npz")

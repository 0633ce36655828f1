"""Search spaces: exact counts, uniform samples, rows, order, block keys and sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build, zoo
from dfmobile.architecture.order import precedes
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.df import DF_WIDTHS
from dfmobile.errors import InputError, MissingBlocksError

SPACES = [("df", 1), ("df", 2), ("df-mini", 1), ("df-mini", 2), ("df-mini", 3)]


def small_input(space: SearchSpace) -> tuple[int, int]:
    return 2 * space.total_stride, space.total_stride


def enumerate_naively(widths: tuple[int, ...], max_depth: int) -> set[str]:
    """Every encoding of a df space, by trying every triple of lists."""
    lists = [
        ",".join(str(width) for width in chosen)
        for depth in range(1, max_depth + 1)
        for chosen in itertools.combinations_with_replacement(widths, depth)
    ]

    def ends(text: str) -> tuple[int, int]:
        numbers = text.split(",")
        return int(numbers[0]), int(numbers[-1])

    return {
        f"df/{a}/{b}/{c}"
        for a, b in itertools.product(lists, lists)
        if ends(a)[1] <= ends(b)[0]
        for c in lists
        if ends(b)[1] <= ends(c)[0]
    }


class TestCounts:
    @pytest.mark.parametrize(
        ("max_depth", "count"),
        [(1, 35), (2, 833), (3, 6_651), (4, 32_072), (6, 334_683), (8, 1_913_408), (10, 7_689_725), (11, 14_056_691)],
    )
    def test_formula(self, max_depth: int, count: int) -> None:
        assert open_space("df", max_depth).count() == open_space("df-mini", max_depth).count() == count

    @pytest.mark.parametrize("max_depth", [1, 2, 3, 4, 6, 8])
    def test_listing(self, max_depth: int) -> None:
        space = open_space("df", max_depth)
        rows = space.rows()
        assert rows.shape == (space.count(), 3)
        assert rows.dtype == np.int32
        lists = len(space.stage_order(0))
        codes = (rows[:, 0].astype(np.int64) * lists + rows[:, 1]) * lists + rows[:, 2]
        assert (np.diff(codes) > 0).all()  # sorted, so none is listed twice

    @pytest.mark.slow
    def test_listing_of_the_paper_s_largest(self) -> None:
        space = open_space("df", 10)
        assert space.rows().shape == (7_689_725, 3)

    @pytest.mark.parametrize("max_depth", [1, 2, 3])
    def test_the_listing_holds_every_member(self, max_depth: int) -> None:
        space = open_space("df", max_depth)
        assert {space.architecture(row).text for row in space.rows()} == enumerate_naively(DF_WIDTHS, max_depth)

    def test_spaces_too_large_to_list_are_refused(self) -> None:
        space = open_space("df", 12)
        assert space.count() == 24_486_552
        with pytest.raises(InputError, match="24486552 architectures; at most 20000000 can be listed"):
            space.rows()


class TestOpening:
    def test_df(self) -> None:
        space = open_space("df")
        assert (space.name, space.max_depth, space.default_input) == ("df", 11, (224, 224))
        assert (space.widths, space.stages, space.total_stride) == ((64, 128, 256, 512, 1024), (3, 4, 5), 32)
        assert space.formula == "sum over depths (n3, n4, n5) from 1 to 11 of C(n3+n4+n5+4, 4)"

    def test_df_mini(self) -> None:
        space = open_space("df-mini")
        assert (space.name, space.max_depth, space.default_input) == ("df-mini", 2, (32, 32))
        assert (space.widths, space.total_stride) == ((8, 16, 24, 40, 64), 8)
        assert Architecture.parse("df,stem=8s1,classes=10,channels=1/8/8,16/64") in space

    @pytest.mark.parametrize("depth", [0, -1, 25, 10**6])
    def test_depths_that_make_no_space(self, depth: int) -> None:
        with pytest.raises(InputError, match="is outside 1 to 24"):
            open_space("df", depth)

    def test_unknown_names(self) -> None:
        with pytest.raises(InputError, match="unknown space 'nas'") as caught:
            open_space("nas")
        assert "df-mini" in caught.value.hint

    @pytest.mark.parametrize("widths", [(), (8, 8), (16, 8), (0, 8)])
    def test_widths_that_make_no_space(self, widths: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match="are not ascending positive numbers"):
            ChainSpace("mine", Architecture.parse("df/8/8/8"), widths, 2, (32, 32))

    def test_resnets_make_no_chain_space(self) -> None:
        with pytest.raises(InputError, match="a chain space is of DF or shuffle networks"):
            ChainSpace("mine", Architecture.parse("resnet/8/8/8/8"), (8, 16), 2, (32, 32))

    def test_too_many_lists_are_refused_before_they_are_made(self) -> None:
        space = ChainSpace("mine", Architecture.parse("df/8/8/8"), tuple(range(8, 168, 8)), 24, (32, 32))
        with pytest.raises(InputError, match="lists a stage"):
            _ = space.lists
        with pytest.raises(InputError, match="lists a stage"):
            open_space("df", 24).stage_order(0)


class TestMembers:
    @pytest.mark.parametrize(("name", "depth"), SPACES)
    def test_rows_and_architectures_are_the_same_thing(self, name: str, depth: int) -> None:
        space = open_space(name, depth)
        for row in space.rows()[:: max(1, space.count() // 500)]:
            architecture = space.architecture(row)
            assert architecture in space
            assert np.array_equal(space.row(architecture), row)

    def test_published_backbones_are_members(self) -> None:
        space = open_space("df")
        for name in ("DF1", "DF2", "DFlite"):
            architecture = zoo.get(name).architecture
            assert architecture in space
            assert space.architecture(space.row(architecture)) == architecture
        assert zoo.get("DF2").architecture not in open_space("df", 10)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("df/64/64/65", "not a member of space 'df' at depth 2"),
            ("df/64,64,64/64/64", "not a member of space 'df' at depth 2"),
            ("df,classes=10/64/64/64", "another kind of network"),
            ("dfb/64/64/64", "another kind of network"),
            ("df/64/64/64+seg:8,8,8", "another kind of network"),
            ("df,stem=64s2-64s2/64/64/64", "another kind of network"),
            ("resnet/64x2/128x2/256x2/512x2", "another kind of network"),
        ],
    )
    def test_others_are_not(self, text: str, says: str) -> None:
        space = open_space("df", 2)
        with pytest.raises(InputError, match=says):
            space.row(Architecture.parse(text))
        assert Architecture.parse(text) not in space
        assert text not in space  # a text is no architecture

    @pytest.mark.parametrize("row", [[], [0, 0], [0, 0, 0, 0], [-1, 0, 0], [0, 0, 20], [19, 0, 0]])
    def test_rows_of_no_member_are_refused(self, row: list[int]) -> None:
        with pytest.raises(InputError):
            open_space("df", 2).architecture(row)


class TestSampling:
    @pytest.mark.parametrize(("name", "depth", "draws"), [("df", 1, 3_500), ("df-mini", 2, 50_000), ("df", 3, 130_000)])
    def test_is_uniform(self, name: str, depth: int, draws: int) -> None:
        """Chi-square over all members, for a fixed seed: within five standard deviations either way."""
        space = open_space(name, depth)
        order = {tuple(row): number for number, row in enumerate(space.rows().tolist())}
        rows = space.sample_rows(draws, np.random.default_rng(2019))
        counts = np.bincount([order[tuple(row)] for row in rows.tolist()], minlength=len(order))
        expected = draws / len(order)
        statistic = float(((counts - expected) ** 2 / expected).sum())
        freedom = len(order) - 1
        assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)

    def test_depends_on_the_generator_only(self) -> None:
        space = open_space("df", 4)
        one = space.sample(5, np.random.default_rng(1))
        assert one == space.sample(5, np.random.default_rng(1))
        assert one != space.sample(5, np.random.default_rng(2))
        assert space.sample(0, np.random.default_rng(1)) == []

    @settings(max_examples=20)
    @given(st.integers(1, 24), st.integers(0, 2**32 - 1))
    def test_draws_members_of_spaces_of_any_size(self, depth: int, seed: int) -> None:
        space = open_space("df", min(depth, 12))
        assert all(architecture in space for architecture in space.sample(5, np.random.default_rng(seed)))


class TestOrder:
    @pytest.mark.parametrize(("name", "depth"), [("df", 1), ("df-mini", 2), ("df-mini", 4)])
    def test_stage_orders_together_are_the_order(self, name: str, depth: int) -> None:
        space = open_space(name, depth)
        orders = [space.stage_order(stage) for stage in range(3)]
        rows = space.sample_rows(120, np.random.default_rng(3))
        members = [space.architecture(row) for row in rows]
        for (a, left), (b, right) in itertools.product(zip(rows, members, strict=True), repeat=2):
            expected = all(bool(order[i, j]) for order, i, j in zip(orders, a, b, strict=True))
            assert space.precedes(left, right) == precedes(left, right) == expected


class TestBlocks:
    def test_the_full_df_space_has_86_keys_at_640x384(self) -> None:
        blocks = open_space("df").blocks(640, 384)
        kinds = [block.kind for block in blocks]
        assert (kinds.count("basic"), kinds.count("stem"), kinds.count("classifier_head")) == (80, 1, 5)
        assert len(blocks) == len({block.key for block in blocks}) == 86

    def test_80_residual_keys_are_5_first_blocks_of_stage_3_and_15_of_each_kind_else(self) -> None:
        """Stage 3: 5 first, 15 next. Stages 4 and 5: 15 first each, 15 next each."""
        blocks = [block for block in open_space("df", 2).blocks(640, 384) if block.kind == "basic"]
        maps = {48: 3, 24: 4, 12: 5}
        found = {(stage, kind): 0 for stage in (3, 4, 5) for kind in ("first", "next")}
        for block in blocks:
            stage = maps[block.output_shape[2]]
            same = block.input_shapes[0][2:] == block.output_shape[2:]
            found[stage, "next" if same else "first"] += 1
        assert found == {
            (3, "first"): 5,
            (3, "next"): 15,
            (4, "first"): 15,
            (4, "next"): 15,
            (5, "first"): 15,
            (5, "next"): 15,
        }

    @pytest.mark.parametrize(("name", "depth"), SPACES[:-1])
    def test_keys_are_exactly_those_of_the_members(self, name: str, depth: int) -> None:
        space = open_space(name, depth)
        width, height = small_input(space)
        found = {block.key for row in space.rows() for block in build(space.architecture(row), width, height).blocks}
        assert found == set(space.key_index(width, height))
        assert len(space.key_index(width, height)) == len(found)

    @pytest.mark.parametrize("depth", [3, 11])
    def test_deep_members_need_no_other_keys(self, depth: int) -> None:
        space = open_space("df", depth)
        keys = set(space.key_index(640, 384))
        assert len(keys) == 86
        for architecture in space.sample(20, np.random.default_rng(4)):
            assert {block.key for block in build(architecture, 640, 384).blocks} <= keys

    def test_a_depth_of_one_has_no_next_blocks(self) -> None:
        assert len(open_space("df", 1).blocks(640, 384)) == 1 + 5 + 15 + 15 + 5

    def test_other_input_sizes_are_refused(self) -> None:
        with pytest.raises(InputError, match="is not a multiple of 32"):
            open_space("df", 2).blocks(640, 360)

    def test_a_bottleneck_space_works_too(self) -> None:
        space = ChainSpace("mine", Architecture.parse("dfb/8/8/8"), (8, 16, 300), 2, (32, 32))
        found = {block.key for row in space.rows() for block in build(space.architecture(row), 32, 32).blocks}
        assert found == set(space.key_index(32, 32))


class TestSums:
    @pytest.mark.parametrize(("name", "depth"), [*SPACES, ("df", 11)])
    @pytest.mark.parametrize("count", [1, 3])
    def test_equal_the_sum_over_the_blocks_of_the_built_network(self, name: str, depth: int, count: int) -> None:
        space = open_space(name, depth)
        width, height = small_input(space)
        generator = np.random.default_rng(5)
        features = {key: generator.random(count).tolist() for key in space.key_index(width, height)}
        rows = space.sample_rows(40, generator)
        sums = space.sums(rows, width, height, features)
        assert sums.shape == (40, count)
        for row, found in zip(rows, sums, strict=True):
            blocks = build(space.architecture(row), width, height).blocks
            assert found == pytest.approx(np.sum([features[block.key] for block in blocks], axis=0))

    def test_macs_of_every_member(self) -> None:
        space = open_space("df-mini", 2)
        features = {block.key: [float(block.macs)] for block in space.blocks(32, 32)}
        sums = space.sums(space.rows(), 32, 32, features)[:, 0]
        expected = [build(space.architecture(row), 32, 32).cost.macs for row in space.rows()]
        assert sums.tolist() == expected

    def test_a_missing_block_is_named(self) -> None:
        space = open_space("df", 2)
        features = {key: [1.0] for key in space.key_index(64, 32)}
        stem = space.blocks(64, 32)[0]
        del features[stem.key]
        with pytest.raises(MissingBlocksError, match="1 of 86 blocks are not in the table: stem 3x32x64 ->") as caught:
            space.sums(space.rows(), 64, 32, features)
        assert caught.value.keys == (stem.key,)

    def test_no_rows_have_no_sums(self) -> None:
        space = open_space("df", 2)
        features = {key: [1.0, 2.0] for key in space.key_index(64, 32)}
        assert space.sums(np.empty((0, 3), np.int32), 64, 32, features).shape == (0, 2)

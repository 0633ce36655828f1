"""What every search space must do; inherit it in your own tests.

Example:
    >>> class TestMySpace(SpaceContract):
    ...     @pytest.fixture
    ...     def space(self):
    ...         return my_space(max_depth=2)

Give a space small enough to list (some thousand architectures).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.base import Rows
from dfmobile.errors import InputError, MissingBlocksError


class SpaceContract:
    """Inherit, and define a fixture ``space`` that returns a small space."""

    @pytest.fixture
    def size(self, space: SearchSpace) -> tuple[int, int]:
        """Input (width, height) of the tests that build networks: two by one of the smallest."""
        return 2 * space.total_stride, space.total_stride

    def test_describes_itself(self, space: SearchSpace) -> None:
        """Name, stages, widths and default input are there and make sense."""
        assert space.name
        assert space.formula
        assert space.max_depth >= 1
        assert list(space.widths) == sorted(set(space.widths))
        assert list(space.stages) == sorted(set(space.stages))
        assert len(space.columns) == len(set(space.columns)) == len(space.stages) + len(space.options)
        assert all(extent > 0 and extent % space.total_stride == 0 for extent in space.default_input)

    def test_lists_as_many_members_as_it_counts(self, space: SearchSpace) -> None:
        """``rows`` holds each member once."""
        rows = space.rows()
        assert rows.dtype == np.int32
        assert rows.shape == (space.count(), len(space.columns))
        assert len({tuple(row) for row in rows.tolist()}) == len(rows)

    def test_rows_and_architectures_are_the_same_thing(self, space: SearchSpace) -> None:
        """Each row has an architecture of its own and is found again by it."""
        rows = _some(space, 200)
        members = [space.architecture(row) for row in rows]
        assert len(set(members)) == len(members)
        for row, member in zip(rows, members, strict=True):
            assert member in space
            assert np.array_equal(space.row(member), row)

    def test_refuses_what_is_no_member(self, space: SearchSpace) -> None:
        """By an ``InputError``; ``in`` says False."""
        other = Architecture.parse("df,stem=7s2,classes=77/7/7/7")
        assert other not in space
        assert "df/7/7/7" not in space
        with pytest.raises(InputError):
            space.row(other)
        with pytest.raises(InputError):
            space.architecture([-1] * len(space.columns))

    def test_samples_members_uniformly(self, space: SearchSpace) -> None:
        """Chi-square over all members for a fixed seed; and the generator alone decides."""
        count = space.count()
        number = {tuple(row): index for index, row in enumerate(space.rows().tolist())}
        draws = 30 * count
        rows = space.sample_rows(draws, np.random.default_rng(0))
        seen = np.bincount([number[tuple(row)] for row in rows.tolist()], minlength=count)
        statistic = float(((seen - 30.0) ** 2 / 30.0).sum())
        assert abs(statistic - (count - 1)) < 6 * np.sqrt(2 * max(1, count - 1))
        assert np.array_equal(rows, space.sample_rows(draws, np.random.default_rng(0)))

    def test_spread_rows_are_members_by_the_generator_alone(self, space: SearchSpace) -> None:
        """Whatever their frequencies."""
        rows = space.spread_rows(50, np.random.default_rng(0))
        assert rows.shape == (50, len(space.columns))
        assert all(space.architecture(row) in space for row in rows)
        assert np.array_equal(rows, space.spread_rows(50, np.random.default_rng(0)))

    def test_order_is_the_and_of_the_columns_orders(self, space: SearchSpace) -> None:
        """And it is reflexive, antisymmetric and transitive."""
        orders = [space.stage_order(stage) for stage in range(len(space.columns))]
        rows = _some(space, 40)
        members = [space.architecture(row) for row in rows]
        relation = np.array([[space.precedes(a, b) for b in members] for a in members])
        for (i, left), (j, right) in itertools.product(enumerate(rows), repeat=2):
            expected = all(bool(order[a, b]) for order, a, b in zip(orders, left, right, strict=True))
            assert relation[i, j] == expected
        assert relation.diagonal().all()
        assert not (relation & relation.T & ~np.eye(len(rows), dtype=bool)).any()
        for order in orders:
            steps = order.astype(np.float32) @ order.astype(np.float32) > 0
            assert not (steps & ~order).any()

    def test_its_keys_are_those_of_its_members(self, space: SearchSpace, size: tuple[int, int]) -> None:
        """No block of a member is missing, and each key is listed once."""
        keys = space.key_index(*size)
        assert keys == [block.key for block in space.blocks(*size)]
        assert len(keys) == len(set(keys))
        for row in _some(space, 200):
            assert {block.key for block in build(space.architecture(row), *size).blocks} <= set(keys)

    def test_sums_are_those_of_the_built_networks(self, space: SearchSpace, size: tuple[int, int]) -> None:
        """The vectorised sum over blocks equals the sum over ``build(...).blocks``."""
        generator = np.random.default_rng(1)
        features = {key: generator.random(2).tolist() for key in space.key_index(*size)}
        rows = _some(space, 100)
        sums = space.sums(rows, *size, features)
        assert sums.shape == (len(rows), 2)
        for row, found in zip(rows, sums, strict=True):
            blocks = build(space.architecture(row), *size).blocks
            assert found == pytest.approx(np.sum([features[block.key] for block in blocks], axis=0))

    def test_sums_name_a_missing_block(self, space: SearchSpace, size: tuple[int, int]) -> None:
        """Nothing is skipped and nothing substituted."""
        features = {key: [1.0] for key in space.key_index(*size)}
        missing = space.key_index(*size)[-1]
        del features[missing]
        with pytest.raises(MissingBlocksError) as caught:
            space.sums(space.rows(), *size, features)
        assert missing in caught.value.keys

    def test_refuses_other_input_sizes(self, space: SearchSpace) -> None:
        """Sizes are multiples of the total stride."""
        if space.total_stride > 1:
            with pytest.raises(InputError):
                space.blocks(space.total_stride + 1, space.total_stride)


def _some(space: SearchSpace, most: int) -> Rows:
    """Return up to ``most`` rows, spread over the space."""
    rows = space.rows()
    return rows[:: max(1, len(rows) // most)]

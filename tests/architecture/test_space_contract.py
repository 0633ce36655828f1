"""The built-in spaces, and a bottleneck space, keep the contract that third parties' spaces keep."""

from __future__ import annotations

import pytest

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.testing.space_contract import SpaceContract


class TestDf(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return open_space("df", 2)


class TestDfOfDepthOne(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return open_space("df", 1)


class TestDfMini(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return open_space("df-mini", 3)


class TestBottleneckSpace(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return ChainSpace("bottleneck", Architecture.parse("dfb/8/8/8"), (8, 16, 300), 2, (32, 32))

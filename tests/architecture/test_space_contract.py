"""The built-in spaces, and small ones of every kind, keep the contract that third parties' spaces keep."""

from __future__ import annotations

import pytest

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.decoders import DecoderChoices
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


class TestDfBottleneck(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return open_space("df-bottleneck", 2)


class TestShuffle(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return open_space("shuffle", 3)


class TestShuffleOfDepthOne(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return open_space("shuffle", 1)


class TestDfSegmentation(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        template = Architecture.parse("df/8/8/8+seg:4,4,4")
        return ChainSpace("seg", template, (8, 16), 2, (64, 32), DecoderChoices((4, 6), (1, 8)))


class TestBottleneckSegmentation(SpaceContract):
    """Not among the built-in ones; any combination works."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        template = Architecture.parse("dfb,stem=8s1-8s2,classes=3/8/8/8+seg:4,4,4:d2")
        return ChainSpace("seg", template, (8, 300), 1, (64, 32), DecoderChoices((4, 6, 9), (1, 2, 4)))


class TestShuffleSegmentation(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        template = Architecture.parse("shuffle/1x8/1x8/1x8+seg:4,4,4:d8")
        return ChainSpace("seg", template, (8, 16), 2, (64, 32), DecoderChoices((4, 6), (4, 8)))

"""Spaces of listed members: a part of a space, with its columns and its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.base import reopen_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.space_file import parse_space, space_document
from dfmobile.errors import FileFormatError, InputError
from dfmobile.testing.space_contract import SpaceContract

DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "name": "few",
    "family": "shuffle",
    "widths": [8, 16],
    "max_depth": 2,
    "default_input": {"width": 64, "height": 32},
    "decoders": {"controllers": [8, 16], "output_strides": [4, 8]},
}
BACKBONE = "shuffle/1x8/2x8/1x16"
WHOLE = "shuffle/2x8/2x8/2x16+seg:8,8,16:d8"


def space_of(**fields: Any) -> SearchSpace:
    return parse_space({**DOCUMENT, **fields}, None, "the test")


class TestMemberSpace(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return space_of(members=[BACKBONE, WHOLE])


class TestSpaceWithControllersByStage(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return space_of(decoders={"controllers": [[8], [8, 16], [16, 24, 32]], "output_strides": [4, 8]}, max_depth=1)


class TestClassifierMemberSpace(SpaceContract):
    @pytest.fixture
    def space(self) -> SearchSpace:
        members = ["shuffle/1x8/1x8/1x8", "shuffle/2x8/1x8/1x16", "shuffle/2x8/2x16/2x16"]
        return space_of(decoders=None, members=members)


def test_a_backbone_stands_for_itself_with_every_decoder() -> None:
    space = space_of(members=[BACKBONE, WHOLE, WHOLE])
    decoders = 2**3 * 2
    assert space.count() == decoders + 1
    texts = {space.architecture(row).text.partition("+")[0] for row in space.rows()}
    assert texts == {BACKBONE, WHOLE.partition("+")[0]}


def test_only_the_members_blocks_are_needed() -> None:
    space, whole = space_of(members=[WHOLE]), space_of()
    assert set(space.key_index(64, 32)) == set(build(Architecture.parse(WHOLE), 64, 32).keys)
    assert set(space.key_index(64, 32)) < set(whole.key_index(64, 32))
    macs = {block.key: [float(block.macs)] for block in space.blocks(64, 32)}
    total = space.sums(space.rows(), 64, 32, macs)[0, 0]
    assert total == sum(block.macs for block in build(Architecture.parse(WHOLE), 64, 32).blocks)


def test_what_is_not_listed_is_no_member() -> None:
    space, other = space_of(members=[WHOLE]), Architecture.parse(WHOLE.replace("8,8,16", "8,8,8"))
    assert other in space_of()
    assert other not in space
    with pytest.raises(InputError, match="not listed"):
        space.architecture(space_of().row(other))
    assert isinstance(space, ChainSpace)
    with pytest.raises(InputError, match="lists its members"):
        space.stage_tables(64, 32, {})


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["shuffle/1x8/1x8/1x24"], "is not a member"),
        (["df/8/8/8"], "another kind of network"),
        (["nonsense"], "nonsense"),
        ([BACKBONE + "+seg:8,8,99"], "no such decoder"),
        ([], "members"),
        (["x" * 3000], "members"),
        ([7], "members"),
    ],
)
def test_wrong_members_are_refused_by_name(tmp_path: Path, members: list[Any], said: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({**DOCUMENT, "members": members}))
    with pytest.raises(FileFormatError, match=said):
        open_space(str(path))


@pytest.mark.parametrize(
    ("controllers", "said"),
    [
        ([[8], [16, 8], [8]], "not ascending"),
        ([[8], [8]], "one list of widths, or three lists"),
        ([8, [8]], "one list of widths, or three lists"),
        ([[8], [], [8]], "controllers"),
        ([], "controllers"),
    ],
)
def test_wrong_controllers_by_stage_are_refused(controllers: list[Any], said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        space_of(decoders={"controllers": controllers, "output_strides": [8]})


def test_a_campaign_can_reopen_it_from_its_document() -> None:
    space = space_of(members=[BACKBONE])
    again = reopen_space(space.name, space.max_depth, space.document)
    assert np.array_equal(again.rows(), space.rows())


@pytest.mark.parametrize("name", ["shuffle-seg", "df-seg", "df-mini", "df-bottleneck"])
def test_a_registered_space_has_a_document(name: str) -> None:
    space = open_space(name, 2)
    assert isinstance(space, ChainSpace)
    again = parse_space(space_document(space, "copy"), None, "the copy")
    width, height = 2 * space.total_stride, space.total_stride
    assert again.count() == space.count()
    assert again.key_index(width, height) == space.key_index(width, height)
    assert again.default_input == space.default_input

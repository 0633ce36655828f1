"""Search spaces from YAML files: the same as a registered one, and nothing odd gets in."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.base import reopen_space
from dfmobile.architecture.spaces.df import DF_WIDTHS
from dfmobile.errors import FileFormatError, InputError, StorageError
from dfmobile.testing.space_contract import SpaceContract

BASE: dict[str, Any] = {
    "schema_version": 1,
    "name": "mine",
    "family": "df",
    "widths": [8, 16, 24],
    "max_depth": 2,
    "default_input": {"width": 64, "height": 32},
}
SEGMENTATION = {**BASE, "classes": 4, "decoders": {"controllers": [4, 8], "output_strides": [1, 8]}}


def write(folder: Path, document: Any) -> str:
    path = folder / "space.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return str(path)


class TestFileSpace(SpaceContract):
    @pytest.fixture
    def space(self, tmp_path: Path) -> SearchSpace:
        return open_space(write(tmp_path, {**BASE, "stem": [{"width": 8, "stride": 2}], "channels": 1}))


class TestSegmentationFileSpace(SpaceContract):
    @pytest.fixture
    def space(self, tmp_path: Path) -> SearchSpace:
        return open_space(write(tmp_path, {**SEGMENTATION, "max_depth": 1}))


class TestShuffleFileSpace(SpaceContract):
    @pytest.fixture
    def space(self, tmp_path: Path) -> SearchSpace:
        return open_space(write(tmp_path, {**BASE, "family": "shuffle"}))


def test_a_file_can_say_what_df_is(tmp_path: Path) -> None:
    document = {**BASE, "widths": list(DF_WIDTHS), "max_depth": 11, "default_input": {"width": 224, "height": 224}}
    space, df = open_space(write(tmp_path, document)), open_space("df")
    assert space.count() == df.count()
    assert space.key_index(224, 224) == df.key_index(224, 224)
    assert space.default_input == df.default_input
    assert open_space(write(tmp_path, document), 3).count() == 6_651


def test_the_name_holds_a_digest_of_the_content(tmp_path: Path) -> None:
    name = open_space(write(tmp_path, BASE)).name
    assert name.startswith("mine@")
    assert open_space(write(tmp_path, "# a comment\n" + yaml.safe_dump(BASE, sort_keys=False))).name == name
    assert open_space(write(tmp_path, BASE), 1).name == name
    assert open_space(write(tmp_path, {**BASE, "widths": [8, 16, 32]})).name != name


def test_a_recorded_space_opens_without_its_file(tmp_path: Path) -> None:
    space = open_space(write(tmp_path, SEGMENTATION), 1)
    again = reopen_space(space.name, 1, space.document)
    assert (again.name, again.count()) == (space.name, space.count())
    assert reopen_space("df", 2).count() == 833
    with pytest.raises(FileFormatError, match="in fact mine@"):
        reopen_space("mine@000000000000", 1, space.document)
    with pytest.raises(FileFormatError):
        reopen_space(space.name, 1, [1, 2])
    with pytest.raises(InputError) as caught:
        open_space(space.name)
    assert "--space FILE.yaml" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"widths": [16, 8]}, "widths"),
        ({"widths": [8, 8]}, "widths"),
        ({"widths": []}, "widths"),
        ({"widths": [0]}, "widths.0"),
        ({"widths": [8, 9000]}, "widths.1"),
        ({"widths": ["8"]}, "widths.0"),
        ({"widths": [True]}, "widths.0"),
        ({"widths": list(range(1, 40))}, "widths"),
        ({"family": "vit"}, "family"),
        ({"family": "resnet"}, "family"),
        ({"family": "shuffle", "widths": [8, 15]}, "even"),
        ({"name": "My Space"}, "name"),
        ({"name": "x" * 50}, "name"),
        ({"max_depth": 0}, "max_depth"),
        ({"max_depth": 25}, "max_depth"),
        ({"default_input": {"width": 65, "height": 32}}, "multiple of the total stride, 32"),
        ({"default_input": {"width": 64}}, "default_input.height"),
        ({"default_input": "64x32"}, "default_input"),
        ({"stem": [{"width": 8, "stride": 3}]}, "stem.0.stride"),
        ({"stem": []}, "stem"),
        ({"classes": 0}, "classes"),
        ({"channels": 65}, "channels"),
        ({"decoders": {"controllers": [8, 4], "output_strides": [1]}}, "controller widths"),
        ({"decoders": {"controllers": [4], "output_strides": [3]}}, "decoders.output_strides.0"),
        ({"decoders": {"controllers": [4], "output_strides": [8, 1]}}, "output strides"),
        ({"color": "red"}, "color"),
        ({"schema_version": 2}, "schema_version is 2"),
        ({"schema_version": True}, "schema_version is True"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    path = write(tmp_path, {**BASE, **change})
    with pytest.raises(FileFormatError) as caught:
        open_space(path)
    assert str(caught.value).startswith(path)
    assert names in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no fields"),
        ("- 1", "no fields"),
        ("a: 1\nb: [1\n", "line"),
        ("name: x\nname: y\n", "line 2"),
        ("a: &a [1]\nb: *a\n", "line 2"),
        ("a: !!python/object/apply:os.system [true]\n", "line 1"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_no_space_file_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FileFormatError, match=says) as caught:
        open_space(path)
    assert path in str(caught.value)


def test_a_missing_or_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        open_space(str(tmp_path / "none.yaml"))
    (tmp_path / "huge.yml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises((FileFormatError, StorageError)):
        open_space(str(tmp_path / "huge.yml"))


@given(st.binary(max_size=200))
def test_bytes_never_crash_the_reader(data: bytes) -> None:
    from dfmobile.architecture.spaces.space_file import parse_space
    from dfmobile.careful_yaml import parse_yaml

    try:
        parse_space(parse_yaml(data, "f", "a search space", "h"), None, "f")
    except FileFormatError as error:
        assert str(error).startswith("f")  # noqa: PT017


@given(
    st.sampled_from(sorted(BASE)),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists),
)
def test_values_never_crash_the_reader(field: str, value: Any) -> None:
    from dfmobile.architecture.spaces.space_file import parse_space

    try:
        parse_space({**SEGMENTATION, field: value}, None, "f")
    except FileFormatError as error:
        assert str(error).startswith("f")  # noqa: PT017

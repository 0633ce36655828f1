"""What a user may write for an architecture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfmobile.architecture import resolve, zoo
from dfmobile.errors import EncodingError, FileFormatError, InputError, StorageError
from dfmobile.files import atomic_write_json


def test_zoo_names_in_any_case() -> None:
    for name in zoo.names():
        assert resolve(name) == resolve(name.lower()) == resolve(name.upper()) == zoo.get(name).architecture


def test_encoding_texts() -> None:
    assert resolve("df/64x3/128x3/256x3,512") == zoo.get("DF1").architecture


def test_json_files(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "net.json", zoo.get("PL1A-Seg").architecture.to_json())
    assert resolve(str(tmp_path / "net.json")) == zoo.get("PL1A-Seg").architecture


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(InputError, match="unknown network 'DF1Seg'") as caught:
        resolve("DF1Seg")
    assert caught.value.hint.startswith("did you mean DF1-Seg? known: DF1, DF2,")


@pytest.mark.parametrize("text", ["", "nothing like it", "x" * 1_000_000, "DF1\0", "\udcff"])
def test_unknown_names_are_one_short_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["df", "df,classes=10", "df/64/64", "vgg/64/64", "shuffle"])
def test_what_looks_like_an_encoding_is_read_as_one(text: str) -> None:
    with pytest.raises(EncodingError, match="malformed encoding"):
        resolve(text)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", FileFormatError, "is not valid JSON"),
        (b'{"encoding": "df/64', FileFormatError, "is not valid JSON"),
        (b"\xff\xfe\x00", FileFormatError, "is not valid JSON"),
        (b"[" * 200_000, FileFormatError, "is not valid JSON"),
        (b'{"encoding": ' + b"9" * 10_000 + b"}", FileFormatError, "is not valid JSON"),
        (b" " * 2**21, FileFormatError, "is larger than"),
        (b"[]", EncodingError, "a text field 'encoding' is expected"),
        (json.dumps({"encoding": "df/64/64"}).encode(), EncodingError, "has 3 stages, got 2"),
        (json.dumps({"encoding": "df/64/64/64", "classes": 10}).encode(), EncodingError, "'classes' contradicts"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, error: type[Exception], says: str) -> None:
    file = tmp_path / "net.json"
    file.write_bytes(content)
    with pytest.raises(error) as caught:
        resolve(str(file))
    assert says in str(caught.value)
    assert "net.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.json: no such file"):
        resolve(str(tmp_path / "none.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        resolve(str(tmp_path / "folder.json"))

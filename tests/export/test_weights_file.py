"""Weights files: round trip, no pickle, bounded, clear errors."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.errors import FileFormatError, InputError, StorageError
from dfmobile.export.weights import load_weights_file, save_weights
from dfmobile.graph import initialise
from dfmobile.testing.op_graphs import residual_block

METADATA = {"architecture": "df/64,64", "note": "größer"}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    return path


def test_round_trip(tmp_path: Path) -> None:
    weights = initialise(residual_block())
    save_weights(tmp_path / "w.npz", weights, METADATA)
    loaded, metadata = load_weights_file(tmp_path / "w.npz")
    assert metadata == METADATA
    assert list(loaded) == list(weights)
    for name, values in weights.items():
        np.testing.assert_array_equal(loaded[name], values)
        assert loaded[name].flags.writeable


def test_equal_weights_make_equal_files_that_numpy_reads(tmp_path: Path) -> None:
    weights = initialise(residual_block())
    for name in ("a.npz", "b.npz"):
        save_weights(tmp_path / name, weights, METADATA)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        np.testing.assert_array_equal(loaded["block.conv1.weight"], weights["block.conv1.weight"])


def test_files_of_numpy_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", **{"a.weight": np.asfortranarray(np.arange(6.0).reshape(2, 3))})
    loaded, metadata = load_weights_file(tmp_path / "w.npz")
    assert metadata == {}
    assert loaded["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(loaded["a.weight"], np.arange(6.0).reshape(2, 3))


def test_other_types_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float64"):
        save_weights(tmp_path / "w.npz", {"a": np.zeros(2)}, {})  # type: ignore[dict-item]
    assert not (tmp_path / "w.npz").exists()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        load_weights_file(tmp_path / "w.npz")


@settings(deadline=None, max_examples=60)
@given(keep=st.floats(0.0, 0.999))
def test_truncated_files_are_refused(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    save_weights(path, initialise(residual_block()), METADATA)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(FileFormatError, match="not a readable weights file"):
        load_weights_file(path)


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    save_weights(path, {"a": np.arange(4, dtype=np.float32)}, METADATA)
    generator = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for position in generator.integers(0, len(data), 3):
        data[position] = generator.integers(256)
    path.write_bytes(bytes(data))
    with contextlib.suppress(FileFormatError):  # anything else that escapes fails the test
        load_weights_file(path)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"a.npy": npy(np.array([{}], dtype=object))}, "not floating point"),
        ({"a.npy": npy(np.arange(3))}, "not floating point"),
        ({"a.npy": b"no header"}, "no readable header"),
        ({"a.npy": npy(np.zeros((1000, 1000), np.float32))[:200]}, "cut off"),
        ({"a.txt": b"text"}, "not an array"),
        ({"dfmobile.json": b"{"}, "not JSON"),
        ({"dfmobile.json": b"[1]"}, "not texts by name"),
    ],
)
def test_wrong_content_is_refused(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        load_weights_file(archive(tmp_path / "w.npz", members))


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(1_000_000, np.float32))
    with pytest.raises(FileFormatError, match="more than is read"):
        load_weights_file(tmp_path / "bomb.npz", limit_bytes=1_000_000)

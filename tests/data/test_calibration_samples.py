"""Calibration samples: images are normalised as in training, arrays are taken as they are, the rest is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfmobile.data.calibration import read_samples
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.errors import FileFormatError, InputError

SHAPE = (1, 3, 4, 6)
PLAIN = Preprocessing.normalised((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "the test's")


def test_images_are_resized_and_normalised(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (60, 40), (255, 0, 127)).save(tmp_path / "deep" / "a.png")
    Image.new("L", (6, 4), 255).save(tmp_path / "b.png")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not an image")
    grey, colour = (sample[0] for sample in read_samples(tmp_path, SHAPE, PLAIN))
    assert grey.shape == colour.shape == SHAPE
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, 2.0)
    np.testing.assert_allclose(colour[0, :, 0, 0], [2.0, -2.0, (127 / 255 - 0.5) * 4], atol=1e-6)


def test_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((9, *SHAPE[1:]), np.float32)
    for number, value in enumerate(values):
        np.save(tmp_path / f"{number}.npy", value if number % 2 else value[None])
    found = read_samples(tmp_path, SHAPE, PLAIN)
    np.testing.assert_array_equal(np.concatenate([sample[0] for sample in found]), values)
    few = read_samples(tmp_path, SHAPE, PLAIN, limit=3)
    np.testing.assert_array_equal(np.concatenate([sample[0] for sample in few]), values[[0, 4, 8]])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(SHAPE), "float64"),
        (np.zeros((1, 3, 4, 5), np.float32), "takes float32"),
        (np.full(SHAPE, np.nan, np.float32), "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        read_samples(tmp_path, SHAPE, PLAIN)


def test_damaged_files_and_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FileFormatError, match=r"a\.npy cannot be read"):
        read_samples(tmp_path, SHAPE, PLAIN)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(FileFormatError, match=r"a\.npy cannot be read"):
        read_samples(tmp_path, SHAPE, PLAIN)
    path.unlink()
    (tmp_path / "a.png").write_bytes(b"\x89PNG....")
    with pytest.raises(FileFormatError, match=r"a\.png"):
        read_samples(tmp_path, SHAPE, PLAIN)


def test_nothing_to_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither images nor"):
        read_samples(tmp_path, SHAPE, PLAIN)
    with pytest.raises(InputError, match="no such folder"):
        read_samples(tmp_path / "nowhere", SHAPE, PLAIN)
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="1 input channels, the preprocessing 3"):
        read_samples(tmp_path, (1, 1, 4, 6), PLAIN)

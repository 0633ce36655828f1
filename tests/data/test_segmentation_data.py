"""Trees as data of a training, statistics, and augmentation that keeps image and labels together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dfmobile.data.augment_labels import CropAugmentation
from dfmobile.data.cityscapes import CLASS_NAMES, IGNORED
from dfmobile.data.scenes import render_scene
from dfmobile.data.segmentation import LabelledArrays, SegmentationData, open_segmentation_data
from dfmobile.errors import FileFormatError, InputError
from dfmobile.testing.street_tree import write_masks, write_tree

SIZE = (64, 32)


def test_a_tree_gives_images_and_labels(tmp_path: Path) -> None:
    data = open_segmentation_data(str(write_tree(tmp_path / "streets")))
    images, labels = data.train.read(np.array([2, 0]))
    expected_image, expected_labels = render_scene(1, 2, *SIZE)
    assert np.array_equal(images[0], expected_image)
    assert np.array_equal(labels[0, 0, 2:], expected_labels[2:])
    assert (labels[0, 0, :2] == IGNORED).all()
    described = data.describe()
    assert (described["data"], described["input"]) == ("streets", "64x32")
    assert (described["train_images"], described["validation_images"]) == (4, 3)
    assert data.train.read(np.array([0]))[0].tobytes() == images[1].tobytes()  # from memory now


def test_trees_are_resized(tmp_path: Path) -> None:
    data = open_segmentation_data(str(write_tree(tmp_path)), image_size=(32, 32), validation_images=2)
    images, labels = data.validation.read(np.array([0, 1]))
    assert images.shape == (2, 3, 32, 32)
    assert set(np.unique(labels)) <= {*range(19), IGNORED}
    assert len(data.validation) == 2


def test_images_of_several_sizes_need_image_size(tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    path = sorted((tree / "leftImg8bit" / "train").glob("*/*.png"))[1]
    Image.new("RGB", (96, 32)).save(path)
    with pytest.raises(InputError, match="is 96x32, others are 64x32"):
        open_segmentation_data(str(tree))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    tree = write_tree(tmp_path)
    path = sorted((tree / "leftImg8bit" / "train").glob("*/*.png"))[1]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match=path.name):
        open_segmentation_data(str(tree))


def test_teacher_masks_are_a_second_plane(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "streets")
    masks = write_masks(tree, tmp_path / "masks")
    data = open_segmentation_data(str(tree), masks=masks)
    _, labels = data.train.read(np.array([1]))
    assert labels.shape == (1, 2, 32, 64)
    assert (labels[0, 1] == 3).all()
    assert data.validation.planes == 1
    next(iter(sorted(masks.iterdir()))).unlink()
    with pytest.raises(InputError, match="has no teacher mask"):
        open_segmentation_data(str(tree), masks=masks)


@pytest.mark.parametrize("data", ["nowhere", "scene", "mnist-5k"])
def test_what_is_no_data_is_refused(data: str) -> None:
    with pytest.raises(InputError, match="neither 'scenes' nor a folder"):
        open_segmentation_data(data)


def test_masks_need_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belongs to images in files"):
        open_segmentation_data("scenes", masks=tmp_path)


def test_statistics_are_of_labelled_pixels() -> None:
    images = np.zeros((2, 3, 2, 4), np.uint8)
    images[1] = 255
    labels = np.zeros((2, 1, 2, 4), np.uint8)
    labels[0, 0, 0] = IGNORED
    labels[1, 0, 1] = 5
    both = LabelledArrays(images, labels, CLASS_NAMES)
    data = SegmentationData.make(both, both, {})
    assert data.pixels[[0, 5]].tolist() == [8, 4]
    assert data.pixels_where_present[[0, 5]].tolist() == [12, 8]
    assert np.allclose(data.mean, 0.5)
    assert np.allclose(data.std, 0.5)


def test_labels_that_are_no_classes_are_refused() -> None:
    with pytest.raises(InputError, match="outside the 19 classes"):
        LabelledArrays(np.zeros((1, 3, 2, 2), np.uint8), np.full((1, 1, 2, 2), 19, np.uint8), CLASS_NAMES)
    with pytest.raises(InputError, match="do not fit together"):
        LabelledArrays(np.zeros((1, 3, 2, 2), np.uint8), np.zeros((2, 1, 2, 2), np.uint8), CLASS_NAMES)


IMAGE = np.random.default_rng(0).integers(0, 256, (3, 12, 20), np.uint8)
LABELS = (IMAGE[:1] % 19).astype(np.uint8)
share = st.floats(0, 0.999)


@given(share, share, share, st.booleans())
def test_without_scale_a_crop_is_a_part_of_the_image(row: float, column: float, mirror: float, flip: bool) -> None:
    image, labels = CropAugmentation((8, 4), (1.0, 1.0), flip).apply(IMAGE, LABELS, (0.3, row, column, mirror))
    assert (labels[0] == image[0] % 19).all(), "labels stay with their pixels"
    if flip and mirror < 0.5:
        image = image[:, :, ::-1]
    places = [
        (top, left) for top in range(9) for left in range(13)
        if np.array_equal(IMAGE[:, top : top + 4, left : left + 8], image)
    ]  # fmt: skip
    assert places


@settings(deadline=None)
@given(share, share, share, share, st.floats(0.3, 1.0), st.floats(1.0, 3.0))
def test_scaled_crops_have_known_labels_and_bounded_pixels(
    scale: float, row: float, column: float, mirror: float, low: float, high: float
) -> None:
    flat = np.full((3, 12, 20), 77, np.uint8)
    image, labels = CropAugmentation((16, 8), (low, high), True).apply(
        flat, np.full((2, 12, 20), 7, np.uint8), (scale, row, column, mirror)
    )
    assert image.shape == (3, 8, 16)
    assert labels.shape == (2, 8, 16)
    assert (image == 77).all()
    assert set(np.unique(labels)) <= {7, IGNORED}
    enlarged = low + (high - low) * scale
    if enlarged >= 1:
        assert (labels == 7).all()
    assert (labels == 7).any()


def test_enlarging_by_two_repeats_labels() -> None:
    augmentation = CropAugmentation((40, 24), (2.0, 2.0), False)
    _, labels = augmentation.apply(IMAGE, LABELS, (0.0, 0.0, 0.0, 0.9))
    assert np.array_equal(labels, np.repeat(np.repeat(LABELS, 2, 1), 2, 2))


def test_draws_are_a_function_of_the_generator() -> None:
    augmentation: Any = CropAugmentation((8, 4), (1.0, 1.5), True)
    assert augmentation.draw(5, np.random.default_rng(3)) == augmentation.draw(5, np.random.default_rng(3))

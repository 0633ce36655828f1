"""Trees in Cityscapes' layout: found whole or refused with what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfmobile.data.cityscapes import CLASS_NAMES, PALETTE, CityscapesTree, read_labels, to_train_ids
from dfmobile.errors import FileFormatError, InputError, StorageError


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b", "a"):
        write(tmp_path / f"leftImg8bit/val/ulm/{name}_leftImg8bit.png", np.zeros((4, 6, 3), np.uint8))
        write(tmp_path / f"gtFine/val/ulm/{name}_gtFine_labelIds.png", np.full((4, 6), 26, np.uint8))
    return tmp_path


def test_images_come_with_their_labels_in_order(tree: Path) -> None:
    found = CityscapesTree(tree, "val")
    assert [item.image.name for item in found] == ["a_leftImg8bit.png", "b_leftImg8bit.png"]
    assert len(found) == 2
    assert (found.items[0].read_labels() == CLASS_NAMES.index("car")).all()


def test_train_ids_are_preferred(tree: Path) -> None:
    write(tree / "gtFine/val/ulm/a_gtFine_labelTrainIds.png", np.full((4, 6), 255, np.uint8))
    assert (CityscapesTree(tree, "val").items[0].read_labels() == 255).all()


def test_the_label_table() -> None:
    assert len(CLASS_NAMES) == len(PALETTE) == 19
    assert to_train_ids(np.array([[0, 7, 33, 29, 255]], np.uint8)).tolist() == [[255, 0, 18, 255, 255]]


def test_an_image_without_labels_is_named(tree: Path) -> None:
    (tree / "gtFine/val/ulm/b_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match=r"b_leftImg8bit\.png has no labels"):
        CityscapesTree(tree, "val")


@pytest.mark.parametrize("split", ["", "..", "a/b", "train"])
def test_what_is_no_split_is_refused(tree: Path, split: str) -> None:
    with pytest.raises(InputError):
        CityscapesTree(tree, split)


def test_damaged_label_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_labels(tmp_path / "none.png")
    (tmp_path / "x_labelIds.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(FileFormatError, match="cannot be read as a label map"):
        read_labels(tmp_path / "x_labelIds.png")
    with pytest.raises(FileFormatError, match="colours"):
        read_labels(write(tmp_path / "colours.png", np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(FileFormatError, match="label 19, which is no trainId"):
        read_labels(write(tmp_path / "ids.png", np.full((2, 2), 19, np.uint8)))

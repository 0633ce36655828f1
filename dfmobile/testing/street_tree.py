"""Small trees in Cityscapes' layout, of procedural scenes, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.data.cityscapes import IGNORED
from dfmobile.data.scenes import render_scene

SEED, FIRST_VALIDATION = 1, 100


def write_tree(root: Path, train: int = 4, validation: int = 3, size: tuple[int, int] = (64, 32)) -> Path:
    """Write scenes of seed 1 (``train`` from 0, ``val`` from 100) under a folder; their first two rows are ignored.

    Returns:
        The folder.
    """
    for split, count, first in (("train", train, 0), ("val", validation, FIRST_VALIDATION)):
        for number in range(count):
            image, labels = render_scene(SEED, first + number, *size)
            labels[:2] = IGNORED
            for folder, end, array in (
                ("leftImg8bit", "leftImg8bit", np.moveaxis(image, 0, 2)),
                ("gtFine", "gtFine_labelTrainIds", labels),
            ):
                path = root / folder / split / "town" / f"town_{number:03}_{end}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.ascontiguousarray(array)).save(path)
    return root


def write_masks(tree: Path, folder: Path, label: int = 3) -> Path:
    """Write a teacher's label maps of a tree's training images, one class everywhere, and return their folder."""
    folder.mkdir()
    for path in sorted((tree / "leftImg8bit" / "train").glob("*/*.png")):
        Image.fromarray(np.full((8, 16), label, np.uint8)).save(folder / f"{path.stem}_labels.png")
    return folder

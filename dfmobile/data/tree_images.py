"""A tree in Cityscapes' layout as data of a training: decoded when asked for, kept while there is room."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dfmobile.data.cityscapes import CLASS_NAMES, CityscapesTree, LabelledImage, read_labels
from dfmobile.data.dataset import Int64Array, UInt8Array
from dfmobile.data.preprocessing import read_image, to_array
from dfmobile.data.segmentation import LabelledImages, SegmentationData
from dfmobile.errors import InputError

TRAIN, VALIDATION = "train", "val"
KEPT_BYTES = 2 * 2**30
"""Decoded images of one split that are kept in memory."""

MASK_END = "_labels.png"


class TreeImages(LabelledImages):
    """One split of a tree.

    Args:
        tree: the split.
        items: those of its images that are taken.
        size: width and height that images (bilinear with antialiasing) and labels (nearest) are resized to; None: the
            first image's size, which all must have.
        masks: folder with a teacher's label maps; they become the second plane.

    Raises:
        InputError: if an image has no mask; the message names it.
        StorageError, FileFormatError: if the first image cannot be read.
    """

    slow = True
    class_names = CLASS_NAMES

    def __init__(
        self,
        tree: CityscapesTree,
        items: tuple[LabelledImage, ...],
        size: tuple[int, int] | None,
        masks: Path | None = None,
    ) -> None:
        self._items = items
        self._masks = None if masks is None else [_mask(item, masks) for item in items]
        self.planes = 1 if masks is None else 2
        self._resized = size is not None
        self.size = size if size is not None else read_image(items[0].image).size
        self._kept: dict[int, tuple[UInt8Array, UInt8Array]] = {}
        self._room = KEPT_BYTES // (self.size[0] * self.size[1] * (3 + self.planes))
        names = "\n".join(item.image.relative_to(tree.root).as_posix() for item in items)
        self.fingerprint = hashlib.sha256(names.encode()).hexdigest()[:12]

    def __len__(self) -> int:
        """See base class."""
        return len(self._items)

    def read(self, indices: Int64Array) -> tuple[UInt8Array, UInt8Array]:
        """See base class."""
        read = [self._one(int(index)) for index in indices]
        return np.stack([image for image, _ in read]), np.stack([labels for _, labels in read])

    def _one(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        if index in self._kept:
            return self._kept[index]
        item = self._items[index]
        picture = read_image(item.image)
        if not self._resized and picture.size != self.size:
            raise InputError(
                f"{item.image} is {picture.width}x{picture.height}, others are {self.size[0]}x{self.size[1]}",
                hint="give image_size, to which all are resized",
            )
        paths = [item.labels] if self._masks is None else [item.labels, self._masks[index]]
        maps = [_fitted(read_labels(path), self.size) for path in paths]
        found = to_array(picture, 3, self.size), np.stack(maps)
        if len(self._kept) < self._room:
            self._kept[index] = found
        return found


def _fitted(labels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize a label map by the nearest pixel."""
    if labels.shape == (size[1], size[0]):
        return labels
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST), np.uint8)


def _mask(item: LabelledImage, folder: Path) -> Path:
    path = folder / f"{item.image.stem}{MASK_END}"
    if not path.is_file():
        raise InputError(
            f"{item.image} has no teacher mask: {path} is not there",
            hint="dfmobile segment writes such files: run it with the teacher over the training images",
        )
    return path


def open_tree(
    root: Path, size: tuple[int, int] | None, validation_images: int | None, masks: Path | None
) -> SegmentationData:
    """Open the splits ``train`` and ``val`` of a tree.

    Raises:
        InputError: if a split is missing, or an image has no labels or no mask.
        StorageError, FileFormatError: if a file cannot be read or is damaged.
    """
    train, validation = CityscapesTree(root, TRAIN), CityscapesTree(root, VALIDATION)
    held_out = validation.items
    if validation_images is not None and validation_images < len(held_out):
        held_out = tuple(held_out[number * len(held_out) // validation_images] for number in range(validation_images))
    training = TreeImages(train, train.items, size, masks)
    judged = TreeImages(validation, held_out, size)
    source: dict[str, Any] = {
        "data": root.name,
        "origin": "tree in Cityscapes' layout",
        # Times of change are no part of it: it is the same on every machine.
        "fingerprint": f"{training.fingerprint}-{judged.fingerprint}",
        "split": f"folders {TRAIN} and {VALIDATION}",
        "preprocessing": "none" if size is None else f"images bilinear, labels nearest to {size[0]}x{size[1]}",
    }
    return SegmentationData.make(training, judged, source)

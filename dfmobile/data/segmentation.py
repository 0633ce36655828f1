"""Images with label maps, what is known about them before a training, and ``--data`` of a segmentation training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.data.cityscapes import IGNORED
from dfmobile.data.dataset import Int64Array, UInt8Array
from dfmobile.errors import InputError

STATISTICS_IMAGES = 256
"""Mean, deviation and shares of classes are of at most this many training images, evenly spaced."""


class LabelledImages(ABC):
    """Images of one size, each with a label map, read by number.

    Attributes:
        size: width and height.
        class_names: one name a class.
        planes: label maps an image has: 1, or 2 where a teacher's masks come second.
        slow: whether reading takes long enough to do it ahead, in a thread.
    """

    size: tuple[int, int]
    class_names: tuple[str, ...]
    planes: int = 1
    slow: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def read(self, indices: Int64Array) -> tuple[UInt8Array, UInt8Array]:
        """Read images.

        Args:
            indices: int64 ``[N]``.

        Returns:
            Images, uint8 ``[N, 3, H, W]`` RGB, and labels, uint8 ``[N, planes, H, W]``, 255: ignored.

        Raises:
            StorageError, FileFormatError: if a file cannot be read or is damaged.
        """


class LabelledArrays(LabelledImages):
    """Images in memory.

    Args:
        images: uint8 ``[N, 3, H, W]``.
        labels: uint8 ``[N, planes, H, W]``.
        class_names: one name a class.

    Raises:
        InputError: if the arrays do not fit together or a label is no class.
    """

    def __init__(self, images: UInt8Array, labels: UInt8Array, class_names: tuple[str, ...]) -> None:
        if images.ndim != 4 or images.dtype != np.uint8 or labels.ndim != 4 or labels.dtype != np.uint8:
            raise InputError(f"images and labels are uint8 with 4 axes, not {list(images.shape)}, {list(labels.shape)}")
        if images.shape[0] != labels.shape[0] or images.shape[2:] != labels.shape[2:]:
            raise InputError(f"images {list(images.shape)} and labels {list(labels.shape)} do not fit together")
        if labels.size and int(np.where(labels == IGNORED, 0, labels).max()) >= len(class_names):
            raise InputError(f"a label is outside the {len(class_names)} classes")
        self._images, self._labels = images, labels
        self.class_names = class_names
        self.size = (images.shape[3], images.shape[2])
        self.planes = labels.shape[1]

    def __len__(self) -> int:
        """See base class."""
        return len(self._images)

    def read(self, indices: Int64Array) -> tuple[UInt8Array, UInt8Array]:
        """See base class."""
        return self._images[indices], self._labels[indices]


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Images to train on, images to validate on, and what is known of them.

    A network's input is ``(pixel / 255 - mean) / std`` for each channel.

    Attributes:
        train: images to train on.
        validation: images that give the accuracy.
        mean: float32 ``[3]``, of training images scaled to [0, 1].
        std: float32 ``[3]``, likewise; at least 1/255.
        pixels: int64 ``[classes]``: training pixels of each class.
        pixels_where_present: int64 ``[classes]``: labelled pixels of the training images that have the class.
        source: where the images come from and what was done to them; JSON-able.
    """

    train: LabelledImages
    validation: LabelledImages
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    pixels: Int64Array
    pixels_where_present: Int64Array
    source: dict[str, Any]

    @classmethod
    def make(cls, train: LabelledImages, validation: LabelledImages, source: dict[str, Any]) -> SegmentationData:
        """Measure the training images; at most ``STATISTICS_IMAGES`` of them, evenly spaced.

        Raises:
            InputError: if a side is empty, the two differ in classes, or nothing is labelled.
            StorageError, FileFormatError: if a file cannot be read or is damaged.
        """
        if not len(train) or not len(validation):
            raise InputError(f"{len(train)} images to train on and {len(validation)} to validate on: both are needed")
        if train.class_names != validation.class_names:
            raise InputError("training and validation images differ in classes")
        classes = len(train.class_names)
        chosen = np.unique(np.arange(min(len(train), STATISTICS_IMAGES), dtype=np.int64) * len(train)
                           // min(len(train), STATISTICS_IMAGES))  # fmt: skip
        # Exact integer sums: the same on every machine, whatever its vector width.
        totals, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
        pixels, present = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        for index in chosen:
            images, labels = train.read(np.array([index]))
            values = images[0].reshape(3, -1).astype(np.int64)
            totals += values.sum(1)
            squares += (values * values).sum(1)
            counts = np.bincount(labels[0, 0].ravel(), minlength=256)[:classes].astype(np.int64)
            pixels += counts
            present += (counts > 0) * counts.sum()
        if not pixels.any():
            raise InputError("no training image has a labelled pixel", hint="labels are trainIds; 255 is ignored")
        count = len(chosen) * train.size[0] * train.size[1]
        mean = totals / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
        return cls(
            train, validation, (mean / 255).astype(np.float32), (std / 255).astype(np.float32), pixels, present, source
        )

    def describe(self) -> dict[str, Any]:
        """Return what a record of a training needs to know about its data; JSON-able."""
        width, height = self.validation.size
        return {
            **self.source,
            "train_images": len(self.train),
            "validation_images": len(self.validation),
            "classes": list(self.train.class_names),
            "channels": 3,
            "input": f"{width}x{height}",
            "teacher_masks": self.train.planes > 1,
            "normalisation": {
                "formula": "(pixel / 255 - mean) / std",
                "mean": [round(float(value), 6) for value in self.mean],
                "std": [round(float(value), 6) for value in self.std],
            },
        }


def open_segmentation_data(
    data: str,
    *,
    image_size: tuple[int, int] | None = None,
    validation_images: int | None = None,
    scene_seed: int = 0,
    cache: Path | None = None,
    masks: Path | None = None,
) -> SegmentationData:
    """Open data by name or path.

    Args:
        data: ``"scenes"``, ``"scenes:N"`` (N procedural scenes to train on), or the path of a tree in Cityscapes'
            layout with the splits ``train`` and ``val``.
        image_size: width and height; scenes are painted in it (default 256x128), trees are resized to it (default:
            the images' own size).
        validation_images: of scenes: how many are held out (default 100); of trees: only so many of ``val``, evenly
            spaced.
        scene_seed: seed of the series of scenes.
        cache: folder for painted scenes; None: they are painted anew in every process.
        masks: folder with a teacher's label maps of a tree's training images, named ``<image>_labels.png``.

    Raises:
        InputError: if the data do not exist or cannot be trained on.
        StorageError, FileFormatError: if a file cannot be read or is damaged.
    """
    from dfmobile.data import scene_series, tree_images

    if scene_series.is_scenes(data):
        if masks is not None:
            raise InputError(
                "a folder of teacher masks belongs to images in files, not to procedural scenes",
                hint="give the teacher's weights: --option teacher=FILE",
            )
        return scene_series.open_scenes(data, image_size, validation_images, scene_seed, cache)
    path = Path(data).expanduser()
    if not path.is_dir():
        raise InputError(
            f"data {data!r} is neither 'scenes' nor a folder",
            hint="give scenes, scenes:N, or a folder with leftImg8bit and gtFine",
        )
    return tree_images.open_tree(path, image_size, validation_images, masks)

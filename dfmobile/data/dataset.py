"""Labelled images in memory, their split into training and validation, and their normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images of one size with one class each.

    Attributes:
        images: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``, index into ``class_names``.
        class_names: one name a class.

    Raises:
        InputError: if the arrays do not fit together.
    """

    images: UInt8Array
    labels: Int64Array
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise InputError(f"images are uint8 [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int64:
            raise InputError(f"{len(self.images)} images need as many int64 labels, not {list(self.labels.shape)}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise InputError(f"a label is outside the {len(self.class_names)} classes")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Int64Array) -> ImageDataset:
        """Return a copy of some images, in the order of ``indices``."""
        return ImageDataset(self.images[indices], self.labels[indices], self.class_names)

    def class_counts(self) -> Int64Array:
        """Return the number of images of each class, int64 ``[classes]``."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)


def stratified_split(labels: Int64Array, train_fraction: float, seed: int) -> tuple[Int64Array, Int64Array]:
    """Split indices so that each class has the same share of training images.

    Args:
        labels: int64 ``[N]``.
        train_fraction: share of each class that is for training, in (0, 1); rounded, and at least one image of
            each class is on each side.
        seed: equal seeds make equal splits.

    Returns:
        Sorted indices for training and for validation.

    Raises:
        InputError: if the fraction is out of range or a class has a single image.
    """
    if not 0.0 < train_fraction < 1.0:
        raise InputError(f"train_fraction is {train_fraction}", hint="a number between 0 and 1, for example 0.8")
    generator = np.random.default_rng(seed)
    train: list[Int64Array] = []
    validation: list[Int64Array] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise InputError(f"class {label} has a single image: it cannot be both trained on and validated on")
        count = min(max(round(train_fraction * len(members)), 1), len(members) - 1)
        train.append(members[:count])
        validation.append(members[count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Images to train on, images to validate on, and how pixels become network inputs.

    A network's input is ``(pixel / 255 - mean) / std`` for each channel.

    Attributes:
        train: images to train on.
        validation: images that give the accuracy.
        mean: float32 ``[C]``, of the training images scaled to [0, 1].
        std: float32 ``[C]``, likewise; at least 1/255.
        source: where the images come from and what was done to them; JSON-able.
    """

    train: ImageDataset
    validation: ImageDataset
    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]
    source: dict[str, Any]

    @classmethod
    def make(cls, train: ImageDataset, validation: ImageDataset, source: dict[str, Any]) -> TrainingData:
        """Measure mean and deviation of the training images.

        Raises:
            InputError: if a side is empty, or the two differ in size, channels or classes.
        """
        if not len(train) or not len(validation):
            raise InputError(f"{len(train)} images to train on and {len(validation)} to validate on: both are needed")
        if train.images.shape[1:] != validation.images.shape[1:] or train.class_names != validation.class_names:
            raise InputError("training and validation images differ in size, channels or classes")
        count = train.images.size / train.images.shape[1]
        # Exact integer sums: the same on every machine, whatever its vector width.
        totals = [
            (int(np.sum(channel, dtype=np.int64)), int(np.sum(np.square(channel, dtype=np.int64))))
            for channel in np.moveaxis(train.images, 1, 0)
        ]
        mean = np.array([total / count for total, _ in totals])
        variance = np.array([squares / count for _, squares in totals]) - mean**2
        std = np.sqrt(np.maximum(variance, 1.0))
        return cls(train, validation, (mean / 255).astype(np.float32), (std / 255).astype(np.float32), source)

    @property
    def channels(self) -> int:
        """Channels of each image."""
        return int(self.train.images.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of each image."""
        return int(self.train.images.shape[3]), int(self.train.images.shape[2])

    def describe(self) -> dict[str, Any]:
        """Return what a record of a training needs to know about its data; JSON-able."""
        width, height = self.size
        return {
            **self.source,
            "train_images": len(self.train),
            "validation_images": len(self.validation),
            "classes": list(self.train.class_names),
            "channels": self.channels,
            "input": f"{width}x{height}",
            "normalisation": {
                "formula": "(pixel / 255 - mean) / std",
                "mean": [round(float(value), 6) for value in self.mean],
                "std": [round(float(value), 6) for value in self.std],
            },
        }

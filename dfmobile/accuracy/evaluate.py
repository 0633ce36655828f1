"""How good a network with weights is: mIoU on street scenes, accuracy on folders of images by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.accuracy.inference import InferenceModel
from dfmobile.accuracy.metrics import ConfusionMatrix
from dfmobile.accuracy.segment import RunnerPool, labels_at, labels_of, nearest_labels_at, scores_of
from dfmobile.data.cityscapes import CLASS_NAMES, CityscapesTree, LabelledImage
from dfmobile.data.dataset import Int64Array, UInt8Array
from dfmobile.data.folder import index_folder
from dfmobile.data.preprocessing import read_image
from dfmobile.errors import InputError
from dfmobile.runtimes.base import ModelRunner

UPSAMPLING = {
    "scores": "scores resized to the label map bilinearly with half-pixel centres, then the highest",
    "labels": "labels at the network's output size, resized to the label map by nearest neighbour",
}
"""How predictions get the label map's size."""
Progress = Callable[[int, int], None]


def chosen(count: int, limit: int | None) -> list[int]:
    """Return which of ``count`` items are taken: all, or ``limit`` evenly spaced ones."""
    if limit is None or limit >= count:
        return list(range(count))
    return [int(index) for index in np.unique(np.linspace(0, count - 1, limit).round().astype(int))]


def evaluate_segmentation(
    model: InferenceModel,
    tree: CityscapesTree,
    *,
    upsampling: str = "scores",
    limit: int | None = None,
    threads: int = 1,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare label maps with a tree's, at the size of the tree's.

    Args:
        model: segmentation into the 19 classes of Cityscapes.
        tree: one split.
        upsampling: a key of ``UPSAMPLING``.
        limit: of images, evenly spaced over the split; None: all.
        threads: of each runner.
        jobs: runners at once; None: as many as there are cores for.
        progress: called with the number of images done and in all.

    Returns:
        JSON-able: the model, ``miou``, ``iou`` by class, ``pixel_accuracy``, ``pixels``, ``images``, the rules.

    Raises:
        InputError: if the network does not have these classes, or there is no such upsampling.
        FileFormatError, StorageError: if an image or label map cannot be read: a mean over others would be another.
        BackendError: if the runtime fails.
    """
    if upsampling not in UPSAMPLING:
        raise InputError(f"upsampling {upsampling!r} is unknown", hint=f"one of {', '.join(UPSAMPLING)}")
    if not model.is_segmentation:
        raise InputError("the network classifies whole images", hint="give a folder with one subfolder a class")
    if len(model.classes) != len(CLASS_NAMES):
        raise InputError(
            f"the network has {len(model.classes)} classes, trees in Cityscapes' layout have {len(CLASS_NAMES)}"
        )
    items = [tree.items[index] for index in chosen(len(tree), limit)]
    matrix = ConfusionMatrix(len(model.classes))

    def one(runner: ModelRunner, item: LabelledImage) -> npt.NDArray[np.int64]:
        image = read_image(item.image)
        labels = item.read_labels()
        scores = scores_of(model, runner, model.pixels(image))
        size = (labels.shape[1], labels.shape[0])
        mine = ConfusionMatrix(len(model.classes))
        mine.add(labels, labels_at(scores, size) if upsampling == "scores" else _nearest(scores, size))
        return mine.counts

    with RunnerPool(model, threads, jobs) as pool:
        for number, counts in enumerate(pool.map(one, items), 1):
            matrix.counts += counts
            if progress is not None:
                progress(number, len(items))
    return {
        **model.describe(),
        "data": str(tree.root),
        "split": tree.split,
        "images": len(items),
        "of_images": len(tree),
        "upsampling": upsampling,
        "rule": UPSAMPLING[upsampling],
        **matrix.describe(CLASS_NAMES),
    }


def _nearest(scores: npt.NDArray[np.float32], size: tuple[int, int]) -> UInt8Array:
    return nearest_labels_at(labels_of(scores), size)


def find_class_folders(root: Path, split: str) -> Path:
    """Return the folder whose subfolders are the classes: ``root/SPLIT``, or ``root`` itself.

    Raises:
        InputError: if there is no ``root``.
    """
    if not root.is_dir():
        raise InputError(f"data {root}: no such folder", hint="a folder with one subfolder a class")
    return root / split if (root / split).is_dir() else root


def evaluate_classification(
    model: InferenceModel,
    folder: Path,
    *,
    limit: int | None = None,
    threads: int = 1,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Count how often the right class has the highest score, and is among the five highest.

    Args:
        model: classification.
        folder: one subfolder a class, named as the model's classes, or, where the model has no names for them, as
            many in the order of their names.
        limit: of images, evenly spaced over all; None: all.
        threads: of each runner.
        jobs: runners at once; None: as many as there are cores for.
        progress: called with the number of images done and in all.

    Returns:
        JSON-able: the model, ``accuracy``, ``top5`` (null below six classes), ``by_class``, ``images``.

    Raises:
        InputError: if the network labels pixels, or the folder has other classes.
        FileFormatError, StorageError: if an image cannot be read.
        BackendError: if the runtime fails.
    """
    if model.is_segmentation:
        raise InputError("the network labels pixels", hint="give a tree in Cityscapes' layout")
    index = index_folder(folder)
    labels = _model_labels(model.classes, index.class_names, folder)
    files = [index.files[number] for number in chosen(len(index.files), limit)]

    def one(runner: ModelRunner, item: tuple[Path, int]) -> int:
        path, label = item
        scores = scores_of(model, runner, model.pixels(read_image(path))).reshape(-1)
        # Rank of the right class; of equal scores the first is taken for the highest, as argmax does.
        right = labels[label]
        return int((scores > scores[right]).sum() + (scores[:right] == scores[right]).sum())

    ranks = np.empty(len(files), np.int64)
    with RunnerPool(model, threads, jobs) as pool:
        for number, rank in enumerate(pool.map(one, files)):
            ranks[number] = rank
            if progress is not None:
                progress(number + 1, len(files))
    return {
        **model.describe(),
        "data": str(folder),
        "images": len(files),
        "of_images": len(index.files),
        "accuracy": float(np.mean(ranks == 0)),
        "top5": float(np.mean(ranks < 5)) if len(model.classes) > 5 else None,
        "by_class": _by_class(ranks, np.array([label for _, label in files], np.int64), index.class_names),
    }


def _model_labels(names: Sequence[str], found: Sequence[str], folder: Path) -> list[int]:
    """Return the model's class of each class folder."""
    if len(found) != len(names):
        raise InputError(f"{folder} has {len(found)} class folders, the network {len(names)} classes")
    if set(found) == set(names):
        return [list(names).index(name) for name in found]
    if any(name != f"class {number}" for number, name in enumerate(names)):
        strange = sorted(set(found) - set(names))[0]
        raise InputError(
            f"class folder {strange!r} of {folder} is none of the network's classes",
            hint=f"they are {', '.join(list(names)[:5])}{', …' if len(names) > 5 else ''}",
        )
    return list(range(len(found)))


def _by_class(ranks: Int64Array, labels: Int64Array, names: Sequence[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for number, name in enumerate(names):
        mine = ranks[labels == number]
        found[name] = float(np.mean(mine == 0)) if mine.size else None
    return found

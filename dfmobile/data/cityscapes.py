"""Street scenes in Cityscapes' layout: the folders, the 19 trained classes and their colours.

Source: Cordts et al., The Cityscapes Dataset, CVPR 2016, and the label table of its scripts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.data.dataset import UInt8Array
from dfmobile.data.preprocessing import MAX_FILE_BYTES, MAX_PIXELS
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import read_bytes

IGNORED = 255
# Name, id in *_labelIds.png files, colour (RGB); in the order of the trainIds, 0 to 18.
_CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
CLASS_NAMES = tuple(name for name, _, _ in _CLASSES)
PALETTE: UInt8Array = np.array([colour for _, _, colour in _CLASSES], np.uint8)
"""Colour of each trainId, RGB, uint8 ``[19, 3]``."""

_TRAIN_IDS: UInt8Array = np.full(256, IGNORED, np.uint8)
_TRAIN_IDS[[label_id for _, label_id, _ in _CLASSES]] = range(len(_CLASSES))
_IMAGE_END, _TRAIN_END, _LABEL_END = "_leftImg8bit.png", "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"


def to_train_ids(label_ids: UInt8Array) -> UInt8Array:
    """Return the trainIds (255: ignored) of the ids that ``*_labelIds.png`` files have; any shape."""
    return _TRAIN_IDS[label_ids]


@dataclass(frozen=True)
class LabelledImage:
    """An image and its label map.

    Attributes:
        image: ``leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png``.
        labels: ``gtFine/SPLIT/CITY/NAME_gtFine_labelTrainIds.png`` or ``…_labelIds.png``.
    """

    image: Path
    labels: Path

    def read_labels(self) -> UInt8Array:
        """Return the trainIds, uint8 ``[H, W]``, 255: ignored.

        Raises:
            StorageError, FileFormatError: see ``read_labels``.
        """
        return read_labels(self.labels)


class CityscapesTree:
    """One split of a tree in Cityscapes' layout.

    Args:
        root: the folder that has ``leftImg8bit`` and ``gtFine``.
        split: e.g. ``val``.

    Raises:
        InputError: if there is no such split or it has no images, or an image has no labels; the message names it.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root, self.split = root, split
        if not split or split in (".", "..") or "/" in split or "\\" in split or "\0" in split:
            raise InputError(f"split {split!r} is not the name of a folder", hint="train, val or test")
        images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
        for folder in (images, labels):
            if not folder.is_dir():
                there = sorted(item.name for item in folder.parent.iterdir()) if folder.parent.is_dir() else []
                raise InputError(
                    f"{root} is no Cityscapes tree with split {split!r}: {folder} is not a folder",
                    hint=f"there are: {', '.join(there[:5])}"
                    if there
                    else "it needs leftImg8bit/SPLIT and gtFine/SPLIT",
                )
        found = sorted(images.glob(f"*/*{_IMAGE_END}"))
        if not found:
            raise InputError(f"{images} has no images", hint=f"they are named CITY/…{_IMAGE_END}")
        self.items = tuple(LabelledImage(path, _partner(path, labels)) for path in found)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[LabelledImage]:
        return iter(self.items)


def _partner(image: Path, labels: Path) -> Path:
    stem = image.name.removesuffix(_IMAGE_END)
    for end in (_TRAIN_END, _LABEL_END):
        path = labels / image.parent.name / f"{stem}{end}"
        if path.is_file():
            return path
    raise InputError(
        f"{image} has no labels: {labels / image.parent.name / (stem + _LABEL_END)} is not there",
        hint=f"files {_TRAIN_END} are taken as well",
    )


def _check(image: Image.Image, path: Path) -> None:
    """Refuse, from the header alone, what must not be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise FileFormatError(f"{path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS}")
    if image.mode not in ("L", "P"):
        raise FileFormatError(
            f"{path} has no labels but colours (mode {image.mode})", hint="take the *_labelIds.png files"
        )


def read_labels(path: Path) -> UInt8Array:
    """Read a label map.

    Args:
        path: a PNG of 8-bit labels; ids where its name ends in ``_labelIds.png``, else trainIds.

    Returns:
        trainIds, uint8 ``[H, W]``, 255: ignored.

    Raises:
        StorageError: if the file cannot be read.
        FileFormatError: if it is no such image, too large, or has labels that are no trainIds.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=("PNG",))
        _check(image, path)
        # Of a palette image the numbers are meant, not the colours.
        values = np.array(image, np.uint8)
    except FileFormatError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise FileFormatError(
            f"{path} cannot be read as a label map: {error or type(error).__name__}",
            hint="is it truncated? replace or remove it",
        ) from error
    if path.name.endswith("_labelIds.png"):
        return to_train_ids(values)
    known = (values < len(CLASS_NAMES)) | (values == IGNORED)
    if not known.all():
        raise FileFormatError(
            f"{path} has label {values[~known][0]}, which is no trainId (0 to {len(CLASS_NAMES) - 1}, or {IGNORED})",
            hint="files of label ids end in _labelIds.png",
        )
    return values

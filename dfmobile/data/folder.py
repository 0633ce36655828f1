"""ImageFolder trees: one folder a class, images below it; with or without train and validation folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfmobile.data.dataset import Int64Array, UInt8Array
from dfmobile.data.preprocessing import IMAGE_SUFFIXES, read_image, to_array
from dfmobile.errors import InputError
from dfmobile.files import storage_error

VALIDATION_FOLDERS = ("val", "valid", "validation", "test")
MAX_DECODED_BYTES = 4 * 2**30


@dataclass(frozen=True)
class FolderIndex:
    """The files of one side of a tree, before decoding.

    Attributes:
        folder: the folder whose subfolders are the classes.
        class_names: sorted names of those subfolders.
        files: (path, label), sorted by path within each class.
        ignored: number of files that are not images by their suffix.
    """

    folder: Path
    class_names: tuple[str, ...]
    files: tuple[tuple[Path, int], ...]
    ignored: int

    @property
    def paths(self) -> list[Path]:
        """The files, without their labels."""
        return [path for path, _ in self.files]

    @property
    def labels(self) -> Int64Array:
        """The files' labels, int64 ``[N]``."""
        return np.array([label for _, label in self.files], np.int64)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when a file is added, removed, renamed or resized."""
        digest = hashlib.sha256()
        for path, _ in self.files:
            digest.update(f"{path.relative_to(self.folder).as_posix()}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()[:16]


def find_sides(root: Path) -> tuple[Path, Path | None]:
    """Return the training folder and the validation folder of a tree.

    ``root/train`` with ``root/val``, ``valid``, ``validation`` or ``test`` (the first that exists); a tree
    without ``train`` is one side, still to be split.

    Raises:
        InputError: if there is ``train`` and nothing to validate on.
        StorageError: if it is not a folder.
    """
    try:
        names = {entry.name for entry in os.scandir(root) if entry.is_dir()}
    except OSError as error:
        raise storage_error(error, root, "read") from error
    if "train" not in names:
        return root, None
    for name in VALIDATION_FOLDERS:
        if name in names:
            return root / "train", root / name
    raise InputError(
        f"{root} has a folder 'train' and none of {', '.join(VALIDATION_FOLDERS)}",
        hint="add one, or give the 'train' folder itself to have it split",
    )


def index_folder(folder: Path, class_names: tuple[str, ...] | None = None) -> FolderIndex:
    """List the images of a folder whose subfolders are classes.

    Args:
        folder: hidden files and folders in it are skipped, and links to folders are not followed below it.
        class_names: classes that it must have exactly; None: those that it has.

    Raises:
        InputError: if there are no classes, a class is empty, or the classes differ from ``class_names``.
        StorageError: if it cannot be read.
    """
    try:
        found = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."))
    except OSError as error:
        raise storage_error(error, folder, "read") from error
    if len(found) < 2:
        raise InputError(f"{folder} has {len(found)} class folders", hint="one folder a class, images in each")
    if class_names is not None and found != class_names:
        name = sorted(set(found) ^ set(class_names))[0]
        where = "only to train on" if name in class_names else "only to validate on"
        raise InputError(f"class {name!r} is there {where} ({folder})", hint="both sides need the same class folders")
    files: list[tuple[Path, int]] = []
    ignored = 0
    for label, name in enumerate(found):
        before = len(files)
        paths = [
            Path(parent) / file for parent, _, entries in os.walk(folder / name) for file in entries if file[0] != "."
        ]
        images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
        files.extend((path, label) for path in images)
        ignored += len(paths) - len(images)
        if len(files) == before:
            raise InputError(
                f"class folder {folder / name} has no images",
                hint=f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}; remove the folder if the class is not used",
            )
    return FolderIndex(folder, found, tuple(files), ignored)


def decode(files: Sequence[Path], channels: int | None, size: tuple[int, int] | None) -> UInt8Array:
    """Decode images of one size.

    Args:
        files: at least one.
        channels: 1, 3, or None: 1 if every image is grey, else 3.
        size: width and height to resize to; None: the first image's size, which all must have.

    Returns:
        uint8 ``[N, C, H, W]``, in the order of ``files``.

    Raises:
        FileFormatError: if a file is not a sound image; the message has its path.
        InputError: if sizes differ and none is given, or all images together exceed 4 GiB.
    """
    images: list[UInt8Array] = []
    for path in files:
        image = read_image(path)
        if size is None and images and image.size != images[0].shape[:0:-1]:
            height, width = images[0].shape[1:]
            raise InputError(
                f"{path} is {image.width}x{image.height}, the images before it are {width}x{height}",
                hint="give an image_size to resize all of them to",
            )
        array = to_array(image, channels or (1 if image.mode == "L" else 3), size)
        if array.nbytes * len(files) > MAX_DECODED_BYTES:
            raise InputError(
                f"{len(files)} images of {array.shape[2]}x{array.shape[1]} need more than "
                f"{MAX_DECODED_BYTES >> 30} GiB of memory",
                hint="give a smaller image_size",
            )
        images.append(array)
    depth = max(len(array) for array in images)
    return np.stack([array if len(array) == depth else np.repeat(array, depth, axis=0) for array in images])

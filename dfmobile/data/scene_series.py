"""Series of procedural scenes as data: some to train on, others, never seen in training, to validate on."""

from __future__ import annotations

import io
import re
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from dfmobile.data.cityscapes import CLASS_NAMES
from dfmobile.data.dataset import UInt8Array
from dfmobile.data.scenes import VERSION, render_scene
from dfmobile.data.scenes.scene import check_size
from dfmobile.data.segmentation import LabelledArrays, SegmentationData
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import atomic_write, read_bytes

NAME = "scenes"
DEFAULT_SIZE = (256, 128)
DEFAULT_COUNT, DEFAULT_VALIDATION = 600, 100
FIRST_VALIDATION = 10_000_000
"""Index of the first held-out scene: far beyond any that is trained on."""

MAX_COUNT = 100_000
_MAX_BYTES = 16 * 2**30


def is_scenes(data: str) -> bool:
    """Return whether ``--data`` means procedural scenes."""
    return data == NAME or data.startswith(f"{NAME}:")


def scene_count(data: str) -> int:
    """Return how many scenes ``scenes`` or ``scenes:N`` trains on.

    Raises:
        InputError: if N is no number from 2 to ``MAX_COUNT``.
    """
    text = data.partition(":")[2]
    if data == NAME:
        return DEFAULT_COUNT
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 2 <= int(text) <= MAX_COUNT:
        raise InputError(f"data {data!r} has no number of scenes", hint=f"scenes:N with N from 2 to {MAX_COUNT}")
    return int(text)


def open_scenes(
    data: str, size: tuple[int, int] | None, validation: int | None, seed: int, cache: Path | None
) -> SegmentationData:
    """Paint the scenes, or read them from the cache; the last series is kept in memory.

    Raises:
        InputError: if size or number are out of range.
        StorageError: if the cache cannot be read or written.
        FileFormatError: if it is damaged.
    """
    width, height = size or DEFAULT_SIZE
    check_size(width, height)
    held_out = DEFAULT_VALIDATION if validation is None else validation
    count = scene_count(data)
    if 4 * (count + held_out) * width * height > _MAX_BYTES:
        raise InputError(
            f"{count + held_out} scenes of {width}x{height} do not fit into memory",
            hint="fewer scenes, or a smaller image_size",
        )
    return _open(count, held_out, width, height, seed, cache)


@lru_cache(maxsize=1)
def _open(count: int, held_out: int, width: int, height: int, seed: int, cache: Path | None) -> SegmentationData:
    train, validation = (
        LabelledArrays(*_series(seed, first, number, width, height, cache), CLASS_NAMES)
        for first, number in ((0, count), (FIRST_VALIDATION, held_out))
    )
    source = {
        "data": NAME,
        "origin": "procedural street scenes of dfmobile: synthetic, no photographs",
        "generator_version": VERSION,
        "scene_seed": seed,
        "split": f"scenes from 0, and held-out ones from {FIRST_VALIDATION}",
    }
    return SegmentationData.make(train, validation, source)


def paint_series(seed: int, first: int, count: int, width: int, height: int) -> tuple[UInt8Array, UInt8Array]:
    """Paint ``count`` scenes from number ``first`` on: images ``[N, 3, H, W]`` and labels ``[N, 1, H, W]``, uint8.

    Raises:
        InputError: if the size is out of range.
    """
    images: UInt8Array = np.empty((count, 3, height, width), np.uint8)
    labels: UInt8Array = np.empty((count, 1, height, width), np.uint8)
    for number in range(count):
        images[number], labels[number, 0] = render_scene(seed, first + number, width, height)
    return images, labels


def _series(
    seed: int, first: int, count: int, width: int, height: int, cache: Path | None
) -> tuple[UInt8Array, UInt8Array]:
    if cache is None:
        return paint_series(seed, first, count, width, height)
    path = cache / f"scenes-v{VERSION}-seed{seed}-{first}-{count}-{width}x{height}.npz"
    if path.exists():
        return _read(path, count, width, height)
    images, labels = paint_series(seed, first, count, width, height)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, images=images, labels=labels)
    atomic_write(path, buffer.getvalue())
    return images, labels


def _read(path: Path, count: int, width: int, height: int) -> tuple[UInt8Array, UInt8Array]:
    content = io.BytesIO(read_bytes(path, 4 * count * width * height + 2**16))
    found = []
    try:
        # Stored, not compressed: an array is no larger than the file.
        with zipfile.ZipFile(content) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise FileFormatError(f"{path} is no cache of scenes", hint="remove it")
        content.seek(0)
        with np.load(content, allow_pickle=False) as arrays:
            for name, channels in (("images", 3), ("labels", 1)):
                array = arrays[name]
                if array.dtype != np.uint8 or array.shape != (count, channels, height, width):
                    raise FileFormatError(f"{path} has {name} of shape {list(array.shape)}", hint="remove it")
                found.append(array)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise FileFormatError(f"{path} is damaged: {error}", hint="remove it; it is painted again") from error
    return found[0], found[1]

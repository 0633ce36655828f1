"""Pictures of label maps: laid over the image, and a legend of the colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dfmobile.data.dataset import UInt8Array
from dfmobile.errors import InputError

OPACITY = 0.5
_ROW, _SWATCH, _MARGIN, _WIDTH = 20, 28, 6, 220


def overlay(image: Image.Image, labels: UInt8Array, colours: UInt8Array, opacity: float = OPACITY) -> Image.Image:
    """Return an image with each pixel's class laid over it as a colour.

    Args:
        image: mode ``L`` or ``RGB``.
        labels: uint8 ``[H, W]`` of the image's size; labels without a colour leave the image as it is.
        colours: uint8 ``[classes, 3]``, RGB.
        opacity: of the colours, 0 to 1.

    Raises:
        InputError: if the sizes differ.
    """
    if labels.shape != (image.height, image.width):
        raise InputError(f"labels are {labels.shape[1]}x{labels.shape[0]}, the image {image.width}x{image.height}")
    pixels = np.asarray(image.convert("RGB"))
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    painted = Image.blend(Image.fromarray(pixels), Image.fromarray(table[labels]), opacity)
    unknown = labels >= len(colours)
    if unknown.any():
        kept = np.array(painted)
        kept[unknown] = pixels[unknown]
        return Image.fromarray(kept)
    return painted


def legend(names: Sequence[str], colours: UInt8Array) -> Image.Image:
    """Return a picture with one row a class: its colour, its number, its name."""
    image = Image.new("RGB", (_WIDTH, _ROW * len(names) + 2 * _MARGIN), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        top = _MARGIN + number * _ROW
        fill = (int(colour[0]), int(colour[1]), int(colour[2]))
        draw.rectangle((_MARGIN, top + 2, _MARGIN + _SWATCH, top + _ROW - 3), fill=fill)
        # Pillow's own small font has Latin letters only.
        text = name.encode("latin-1", "replace").decode("latin-1")
        draw.text((2 * _MARGIN + _SWATCH, top + 4), f"{number:3d}  {text}", fill="black")
    return image

"""What a network's classes are called, and the colours that pictures give them."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping

import numpy as np

from dfmobile.data.cityscapes import CLASS_NAMES, PALETTE
from dfmobile.data.dataset import UInt8Array
from dfmobile.errors import FileFormatError, InputError

METADATA_KEY = "classes"
_LONGEST_NAME = 100
# Steps of the golden ratio around the circle of hues: neighbours in number are far apart in colour.
_HUE_STEP = 0.6180339887498949


def class_names(metadata: Mapping[str, str], count: int, *, segmentation: bool) -> tuple[str, ...]:
    """Return the names that a weights file or model file gives its classes.

    Where it gives none: Cityscapes' for segmentation into 19 classes, else ``class 0``, ``class 1``, ….

    Args:
        metadata: of the file.
        count: classes that the network has.
        segmentation: whether it labels pixels.

    Raises:
        FileFormatError: if the names are damaged, or of another number.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        cityscapes = segmentation and count == len(CLASS_NAMES)
        return CLASS_NAMES if cityscapes else tuple(f"class {number}" for number in range(count))
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"the file's names of classes are damaged: {text[:80]!r}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise FileFormatError(f"the file's names of classes are no list of texts: {text[:80]!r}")
    if len(names) != count or len(set(names)) != count:
        raise FileFormatError(f"the file names {len(set(names))} different classes, the network has {count}")
    return tuple("".join(c if c.isprintable() else " " for c in name)[:_LONGEST_NAME] for name in names)


def class_colours(count: int) -> UInt8Array:
    """Return a colour a class, RGB, uint8 ``[count, 3]``: Cityscapes' for 19, else spread over the hues.

    Raises:
        InputError: if there are more classes than 8-bit label maps hold.
    """
    if not 1 <= count <= 255:
        raise InputError(f"{count} classes do not fit into 8-bit label maps", hint="1 to 255 classes")
    if count == len(CLASS_NAMES):
        return np.array(PALETTE, np.uint8)
    hues = [(number * _HUE_STEP) % 1.0 for number in range(count)]
    colours = [colorsys.hsv_to_rgb(hue, 0.65 + 0.3 * (number % 2), 0.9) for number, hue in enumerate(hues)]
    return np.asarray((np.array(colours) * 255).round(), np.uint8)

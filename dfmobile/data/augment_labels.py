"""Random scale, crop and mirroring of images together with their labels: a function of a generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfmobile.data.cityscapes import IGNORED
from dfmobile.data.dataset import UInt8Array

_UNIT = 256


@dataclass(frozen=True)
class CropAugmentation:
    """What is done to training images.

    Attributes:
        crop: width and height of the result.
        scales: least and greatest factor by which an image is enlarged before the crop.
        flip: whether half of the images are mirrored left to right.
    """

    crop: tuple[int, int]
    scales: tuple[float, float]
    flip: bool

    def draw(self, count: int, generator: np.random.Generator) -> list[tuple[float, float, float, float]]:
        """Draw what happens to ``count`` images: numbers in [0, 1) for scale, row, column and mirroring."""
        drawn = generator.random((count, 4))
        return [(float(scale), float(row), float(column), float(mirror)) for scale, row, column, mirror in drawn]

    def apply(
        self, image: UInt8Array, labels: UInt8Array, drawn: tuple[float, float, float, float]
    ) -> tuple[UInt8Array, UInt8Array]:
        """Change one image: bilinear; its labels: the nearest pixel. What comes in from outside is ignored.

        Args:
            image: uint8 ``[3, H, W]``.
            labels: uint8 ``[planes, H, W]``.
            drawn: see ``draw``.

        Returns:
            uint8 ``[3, h, w]`` and ``[planes, h, w]`` of the crop's size.
        """
        low, high = self.scales
        scale = low + (high - low) * drawn[0]
        width, height = self.crop
        rows = _places(height, image.shape[1], scale, drawn[1])
        columns = _places(width, image.shape[2], scale, drawn[2])
        if self.flip and drawn[3] < 0.5:
            columns = columns[::-1]
        inside = ((rows >= -0.5) & (rows < image.shape[1] - 0.5))[:, None]
        inside = inside & ((columns >= -0.5) & (columns < image.shape[2] - 0.5))[None, :]
        nearest = [
            np.clip(np.floor(places + 0.5).astype(np.int64), 0, extent - 1)
            for places, extent in ((rows, image.shape[1]), (columns, image.shape[2]))
        ]
        taken = labels[:, nearest[0][:, None], nearest[1][None, :]]
        return _bilinear(_bilinear(image, rows, 1), columns, 2), np.where(inside, taken, np.uint8(IGNORED))


def _places(extent: int, source: int, scale: float, share: float) -> npt.NDArray[np.float64]:
    """Return where the pixels of a crop are in the source, float64 ``[extent]``: pixel centres are whole numbers."""
    if scale == 1.0 and source >= extent:
        # Whole pixels: nothing is blurred.
        return np.arange(extent, dtype=np.float64) + int(share * (source - extent + 1))
    room = source - extent / scale
    first = room * share if room >= 0 else room / 2
    places: npt.NDArray[np.float64] = first + (np.arange(extent, dtype=np.float64) + 0.5) / scale - 0.5
    return places


def _bilinear(image: UInt8Array, places: npt.NDArray[np.float64], axis: int) -> UInt8Array:
    """Sample along one axis in fixed point, places outside as the border."""
    extent = image.shape[axis]
    clipped = np.clip(places, 0, extent - 1)
    lower = np.floor(clipped).astype(np.int64)
    share = np.round((clipped - lower) * _UNIT).astype(np.uint16)
    if not share.any():
        return np.ascontiguousarray(np.take(image, lower, axis))
    upper = np.minimum(lower + 1, extent - 1)
    weight = share.reshape((-1, 1) if axis == 1 else (1, -1))
    # At most 255 · 256 + 128: fits into 16 bits.
    total = np.take(image, lower, axis) * (np.uint16(_UNIT) - weight) + np.take(image, upper, axis) * weight
    sampled: UInt8Array = ((total + np.uint16(_UNIT // 2)) >> 8).astype(np.uint8)
    return sampled

"""The canvas that scenes are painted on: colours and labels together, back to front.

Only additions, multiplications, divisions and comparisons: they round the same on every machine, so that a scene has
the same bits everywhere. No sine, no exponential, no sums over arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.data.dataset import UInt8Array

Colour = tuple[float, float, float]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MAX_WIDTH, MAX_HEIGHT = 1024, 512
_DRAWS = 4096
_STEPS = 1 << 24


def _noise_tile(coarse: int, generator: np.random.Generator) -> Float32Array:
    """Make noise in [-1, 1] with soft patches of ``coarse`` pixels, float32 ``[MAX_HEIGHT, MAX_WIDTH]``."""
    steps = generator.integers(-1000, 1001, (MAX_HEIGHT // coarse + 1, MAX_WIDTH // coarse + 1))
    tile = steps.astype(np.float32) / np.float32(1000)
    if coarse > 1:
        share = (np.arange(coarse, dtype=np.float32) / np.float32(coarse))[None, :, None]
        tile = (tile[:-1, None] * (1 - share) + tile[1:, None] * share).reshape(-1, tile.shape[1])
        share = share[:, None, :, 0]
        tile = (tile[:, :-1, None] * (1 - share) + tile[:, 1:, None] * share).reshape(len(tile), -1)
    return np.ascontiguousarray(tile[:MAX_HEIGHT, :MAX_WIDTH])


_GENERATOR = np.random.default_rng(19)
FINE, MIDDLE, COARSE = (_noise_tile(extent, _GENERATOR) for extent in (1, 4, 16))
"""Textures: grain, leaves or stones, clouds or stains."""


class Draws:
    """Random numbers of one scene, the same on every machine: integers, scaled.

    Args:
        seed: of the generator, any number of integers.
    """

    def __init__(self, *seed: int) -> None:
        self._values = np.random.default_rng(seed).integers(0, _STEPS, _DRAWS).tolist()
        self._next = 0

    def unit(self) -> float:
        """Return a number in [0, 1)."""
        value = self._values[self._next % _DRAWS] / _STEPS
        self._next += 1
        return float(value)

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return low + int((high + 1 - low) * self.unit())

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.unit() < probability

    def side(self) -> int:
        """Return -1 or 1."""
        return -1 if self.unit() < 0.5 else 1

    def colour(self, base: Colour, spread: float) -> Colour:
        """Return a colour near another one: each channel, and all together, up to ``spread`` away."""
        common = self.between(-spread, spread)
        red, green, blue = (channel + common + self.between(-spread, spread) / 3 for channel in base)
        return red, green, blue

    def pick(self, colours: tuple[Colour, ...], spread: float = 12.0) -> Colour:
        """Return a colour near one of several."""
        return self.colour(colours[self.whole(0, len(colours) - 1)], spread)


class Canvas:
    """Image and labels in the making.

    Args:
        width: pixels, at most ``MAX_WIDTH``.
        height: pixels, at most ``MAX_HEIGHT``.
        shift: rows and columns, each in [0, 1), by which the textures are moved: no two scenes have the same.

    Attributes:
        image: float32 ``[H, W, 3]``, 0 to 255 (and a little beyond until it is finished).
        labels: uint8 ``[H, W]``.
        rows: float32 ``[H, 1]``, heights of the pixels' centres.
        columns: float32 ``[1, W]``.
    """

    def __init__(self, width: int, height: int, shift: tuple[float, float]) -> None:
        self.width, self.height = width, height
        self._top = int(shift[0] * (MAX_HEIGHT - height))
        self._left = int(shift[1] * (MAX_WIDTH - width))
        self.image: Float32Array = np.zeros((height, width, 3), np.float32)
        self.labels: UInt8Array = np.zeros((height, width), np.uint8)
        self.rows: Float32Array = (np.arange(height, dtype=np.float32) + np.float32(0.5))[:, None]
        self.columns: Float32Array = (np.arange(width, dtype=np.float32) + np.float32(0.5))[None, :]

    def texture(self, tile: Float32Array, window: tuple[slice, slice] | None = None) -> Float32Array:
        """Return the part of a noise tile that lies under a window (None: under all), float32 ``[rows, columns]``."""
        rows, columns = (slice(0, self.height), slice(0, self.width)) if window is None else window
        below = tile[self._top + rows.start : self._top + rows.stop]
        return below[:, self._left + columns.start : self._left + columns.stop]

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
        """Return the pixels whose centres are in a rectangle, None if there are none.

        Where it is thinner than a pixel it still covers one: thin things do not vanish.
        """
        first_row, first_column = int(max(0.0, top + 0.5)), int(max(0.0, left + 0.5))
        last_row = min(self.height, max(int(bottom + 0.5), first_row + 1))
        last_column = min(self.width, max(int(right + 0.5), first_column + 1))
        if first_row >= last_row or first_column >= last_column or bottom <= 0 or right <= 0:
            return None
        return slice(first_row, last_row), slice(first_column, last_column)

    def paint(
        self,
        window: tuple[slice, slice],
        mask: BoolArray | None,
        colour: Any,
        label: int | None,
        texture: tuple[Float32Array, float] | None = None,
    ) -> None:
        """Paint the pixels of a window.

        Args:
            window: rows and columns.
            mask: which of them; None: all.
            colour: one colour, or an array that broadcasts to ``[rows, columns, 3]``.
            label: trainId that they get; None: they keep theirs.
            texture: a noise tile and its strength in grey levels.
        """
        values: Any = np.asarray(colour, np.float32)
        if texture is not None:
            tile, strength = texture
            values = values + self.texture(tile, window)[..., None] * np.float32(strength)
        if mask is None:
            self.image[window] = values
            if label is not None:
                self.labels[window] = label
            return
        if values.ndim == 3:
            np.copyto(self.image[window], values, where=mask[..., None])
        else:
            self.image[window][mask] = values
        if label is not None:
            self.labels[window][mask] = label

    def rectangle(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        colour: Any,
        label: int | None,
        texture: tuple[Float32Array, float] | None = None,
    ) -> None:
        """Paint an upright rectangle."""
        window = self.window(left, top, right, bottom)
        if window is not None:
            self.paint(window, None, colour, label, texture)

    def ellipse(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        colour: Any,
        label: int | None,
        texture: tuple[Float32Array, float] | None = None,
        ragged: float = 0.0,
    ) -> None:
        """Paint an ellipse that fills a rectangle; ``ragged`` (0 to 1) frays its edge like leaves."""
        window = self.window(left, top, right, bottom)
        if window is None:
            return
        distance = self._distance(window, left, top, right, bottom)
        if ragged:
            distance = distance + self.texture(MIDDLE, window) * np.float32(ragged)
        self.paint(window, distance <= 1, colour, label, texture)

    def ring(
        self, left: float, top: float, right: float, bottom: float, width: float, colour: Colour, label: int
    ) -> None:
        """Paint the rim of an ellipse, ``width`` of its radius wide; all of the ellipse gets the label."""
        window = self.window(left, top, right, bottom)
        if window is None:
            return
        distance = self._distance(window, left, top, right, bottom)
        inner = np.float32(max(0.0, 1.0 - width))
        self.labels[window][distance <= 1] = label
        self.paint(window, (distance <= 1) & (distance >= inner * inner), colour, label)

    def _distance(
        self, window: tuple[slice, slice], left: float, top: float, right: float, bottom: float
    ) -> Float32Array:
        """Return the squared distance of a window's pixels from an ellipse's centre; 1 on its rim."""
        rows, columns = window
        down = (self.rows[rows] - np.float32((top + bottom) / 2)) / np.float32(max(bottom - top, 1.0) / 2)
        across = (self.columns[:, columns] - np.float32((left + right) / 2)) / np.float32(max(right - left, 1.0) / 2)
        return np.asarray(down * down + across * across, np.float32)

    def trapezoid(
        self,
        top: tuple[float, float, float],
        bottom: tuple[float, float, float],
        colour: Any,
        label: int | None,
        texture: tuple[Float32Array, float] | None = None,
    ) -> None:
        """Paint a trapezoid with level upper and lower edges, each ``(row, left, right)``."""
        window = self.window(min(top[1], bottom[1]), top[0], max(top[2], bottom[2]), bottom[0])
        if window is None:
            return
        rows, columns = window
        share = (self.rows[rows] - np.float32(top[0])) / np.float32(max(bottom[0] - top[0], 1.0))
        left = np.float32(top[1]) + share * np.float32(bottom[1] - top[1])
        right = np.float32(top[2]) + share * np.float32(bottom[2] - top[2])
        across = self.columns[:, columns]
        self.paint(window, (across >= left) & (across <= right), colour, label, texture)

"""Paints parts of an object that stands somewhere: coordinates in metres from its foot, colours as they look there."""

from __future__ import annotations

from dfmobile.data.scenes.camera import Camera
from dfmobile.data.scenes.canvas import Canvas, Colour, Draws, Float32Array

Texture = tuple[Float32Array, float]


class Painter:
    """Paints at one place of the world, on an upright plane that faces the camera.

    Args:
        canvas: what is painted on.
        camera: how it is seen.
        across: metres from the road's middle.
        ahead: metres.
        draws: random numbers for the object.
        up: metres that its foot is over the ground.
    """

    def __init__(
        self, canvas: Canvas, camera: Camera, across: float, ahead: float, draws: Draws, up: float = 0.0
    ) -> None:
        self._canvas, self._camera, self._ahead = canvas, camera, ahead
        self.draws = draws
        self._scale = camera.scale(ahead)
        self._column, self._row = camera.column(across, ahead), camera.row(up, ahead)

    def _box(self, left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
        if left > right:  # mirrored
            left, right = right, left
        return (
            self._column + left * self._scale,
            self._row - top * self._scale,
            self._column + right * self._scale,
            self._row - bottom * self._scale,
        )

    def box(
        self,
        left: float,
        bottom: float,
        right: float,
        top: float,
        colour: Colour,
        label: int | None,
        texture: Texture | None = None,
    ) -> None:
        """Paint a rectangle; metres to the right and up from the foot."""
        tinted = self._camera.tint(colour, self._ahead)
        self._canvas.rectangle(*self._box(left, bottom, right, top), tinted, label, texture)

    def oval(
        self,
        left: float,
        bottom: float,
        right: float,
        top: float,
        colour: Colour,
        label: int | None,
        texture: Texture | None = None,
        ragged: float = 0.0,
    ) -> None:
        """Paint an ellipse that fills such a rectangle."""
        tinted = self._camera.tint(colour, self._ahead)
        self._canvas.ellipse(*self._box(left, bottom, right, top), tinted, label, texture, ragged)

    def ring(self, centre: float, radius: float, width: float, colour: Colour, label: int) -> None:
        """Paint a wheel that stands on the ground: what is seen through it has the label, but keeps its colours."""
        tinted = self._camera.tint(colour, self._ahead)
        self._canvas.ring(*self._box(centre - radius, 0.0, centre + radius, 2 * radius), width / radius, tinted, label)

    def taper(
        self,
        bottom: tuple[float, float, float],
        top: tuple[float, float, float],
        colour: Colour,
        label: int | None,
        texture: Texture | None = None,
    ) -> None:
        """Paint a trapezoid; lower and upper edge as ``(up, left, right)``."""
        if bottom[1] > bottom[2]:  # mirrored
            bottom, top = (bottom[0], bottom[2], bottom[1]), (top[0], top[2], top[1])
        low, high = (
            (self._row - up * self._scale, self._column + left * self._scale, self._column + right * self._scale)
            for up, left, right in (bottom, top)
        )
        self._canvas.trapezoid(high, low, self._camera.tint(colour, self._ahead), label, texture)

    def shadow(self, left: float, right: float) -> None:
        """Darken the ground below; labels stay."""
        window = self._canvas.window(*self._box(left, -0.16, right, 0.1))
        if window is not None:
            self._canvas.image[window] *= 0.6

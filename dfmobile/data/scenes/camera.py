"""Where things of the world are in the picture: a camera above a flat road that may bend, and haze with distance."""

from __future__ import annotations

from dataclasses import dataclass

from dfmobile.data.scenes.canvas import Colour, Draws


@dataclass(frozen=True)
class Camera:
    """A camera that looks along the road.

    The world is in metres: X to the right of the road's middle, Y up from the ground, Z ahead.

    Attributes:
        middle: column of the vanishing point, pixels.
        horizon: row of it.
        focal: pixels.
        above: height over the ground, metres.
        bend: the road's middle is at ``bend · Z²``.
        haze_colour: what distance turns into.
        haze: per metre; the share that is left of a colour is ``1 / (1 + haze · Z)``.
        light: factor on all colours.
    """

    middle: float
    horizon: float
    focal: float
    above: float
    bend: float
    haze_colour: Colour
    haze: float
    light: Colour

    @classmethod
    def draw(cls, draws: Draws, width: int, height: int) -> Camera:
        """Draw a camera, a bend and the weather."""
        bright = draws.between(0.65, 1.1)
        warm = draws.between(-0.08, 0.08)
        grey = draws.between(165, 225)
        return cls(
            middle=width * draws.between(0.42, 0.58),
            horizon=height * draws.between(0.38, 0.5),
            focal=height * draws.between(1.0, 1.3),
            above=draws.between(1.2, 1.7),
            bend=draws.between(-0.0012, 0.0012),
            haze_colour=(grey, grey, grey + 8),
            haze=draws.between(0.001, 0.012),
            light=(bright * (1 + warm), bright, bright * (1 - warm)),
        )

    def scale(self, ahead: float) -> float:
        """Return pixels a metre at a distance."""
        return self.focal / ahead

    def column(self, across: float, ahead: float) -> float:
        """Return the column of a point."""
        return self.middle + self.focal * (across / ahead + self.bend * ahead)

    def row(self, up: float, ahead: float) -> float:
        """Return the row of a point."""
        return self.horizon + self.focal * (self.above - up) / ahead

    def tint(self, colour: Colour, ahead: float) -> Colour:
        """Return a colour in this light, seen through this much haze."""
        left = 1.0 / (1.0 + self.haze * ahead)
        red, green, blue = (
            channel * light * left + haze * (1.0 - left)
            for channel, light, haze in zip(colour, self.light, self.haze_colour, strict=True)
        )
        return red, green, blue

"""What stands along the kerb: poles with lights and signs on them, and trees."""

from __future__ import annotations

from dfmobile.data.scenes import labels
from dfmobile.data.scenes.canvas import FINE, MIDDLE, Colour
from dfmobile.data.scenes.painter import Painter
from dfmobile.data.scenes.planes import LEAVES

METAL: tuple[Colour, ...] = ((120, 122, 124), (96, 100, 98), (150, 150, 148), (84, 76, 66))
SIGNS: tuple[Colour, ...] = ((206, 30, 36), (36, 84, 176), (240, 210, 40))
LIGHTS: tuple[Colour, ...] = ((232, 40, 30), (250, 190, 40), (60, 224, 110))


def pole(painter: Painter) -> None:
    """A lamp post of 5 to 8 m."""
    draws = painter.draws
    half, tall = draws.between(0.09, 0.15), draws.between(5.0, 8.0)
    colour = draws.pick(METAL)
    painter.box(-half, 0.0, half, tall, colour, labels.POLE)
    painter.box(-half * 1.6, 0.0, half * 1.6, 0.8, colour, labels.POLE)
    reach = draws.side() * draws.between(0.8, 1.6)
    painter.box(0.0, tall - 0.16, reach, tall, colour, labels.POLE)


def traffic_light(painter: Painter) -> None:
    """A traffic light on its pole: a dark case with three lamps, one of them on."""
    draws = painter.draws
    foot = draws.between(2.2, 3.0)
    painter.box(-0.09, 0.0, 0.09, foot + 0.2, draws.pick(METAL), labels.POLE)
    painter.box(-0.32, foot, 0.32, foot + 1.45, (26, 28, 30), labels.TRAFFIC_LIGHT)
    burning = draws.whole(0, 2)
    for number, colour in enumerate(LIGHTS):
        shown = colour if number == burning else (colour[0] * 0.25, colour[1] * 0.25, colour[2] * 0.25)
        low = foot + 0.98 - 0.45 * number
        painter.oval(-0.19, low, 0.19, low + 0.38, shown, labels.TRAFFIC_LIGHT)


def traffic_sign(painter: Painter) -> None:
    """A sign on its pole: round, square or on its tip."""
    draws = painter.draws
    foot = draws.between(1.9, 2.6)
    half = draws.between(0.42, 0.62)
    colour = draws.pick(SIGNS)
    centre = foot + half
    inner: Colour = (240, 240, 236) if draws.chance(0.6) else colour
    painter.box(-0.07, 0.0, 0.07, foot + 0.1, draws.pick(METAL), labels.POLE)
    form = draws.whole(0, 2)
    if form == 0:
        painter.oval(-half, foot, half, foot + 2 * half, colour, labels.TRAFFIC_SIGN)
        painter.oval(-0.6 * half, centre - 0.6 * half, 0.6 * half, centre + 0.6 * half, inner, labels.TRAFFIC_SIGN)
    elif form == 1:
        painter.box(-half, foot, half, foot + 2 * half, colour, labels.TRAFFIC_SIGN)
        painter.box(-0.7 * half, centre, 0.7 * half, centre + 0.4 * half, inner, labels.TRAFFIC_SIGN)
    else:
        top = foot + 1.8 * half
        painter.taper((foot, -half, half), (top, -0.04, 0.04), colour, labels.TRAFFIC_SIGN)
        painter.taper((foot + 0.2 * half, -0.6 * half, 0.6 * half), (top - 0.5 * half, -0.04, 0.04), inner,
                      labels.TRAFFIC_SIGN)  # fmt: skip


def tree(painter: Painter) -> None:
    """A tree; its trunk is vegetation too, as in Cityscapes."""
    draws = painter.draws
    tall, half = draws.between(4.5, 9.0), draws.between(1.3, 2.6)
    crown = draws.between(1.4, 2.4)
    colour = draws.pick(LEAVES, 14)
    painter.box(-0.16, 0.0, 0.16, crown + 1.0, (84, 66, 50), labels.VEGETATION, (FINE, 8))
    painter.oval(-half, crown, half, tall, colour, labels.VEGETATION, (FINE, 18), ragged=0.35)
    lit: Colour = (colour[0] + 16, colour[1] + 18, colour[2] + 8)
    painter.oval(
        -0.6 * half, crown + 0.4 * (tall - crown), 0.7 * half, tall - 0.3, lit, labels.VEGETATION, (MIDDLE, 14), 0.5
    )

"""Persons, riders, motorcycles and bicycles."""

from __future__ import annotations

from dfmobile.data.scenes import labels
from dfmobile.data.scenes.canvas import Colour
from dfmobile.data.scenes.painter import Painter
from dfmobile.data.scenes.vehicles import LAMP, TYRE

SKIN: tuple[Colour, ...] = ((226, 180, 150), (180, 130, 98), (112, 76, 56))
CLOTHES: tuple[Colour, ...] = (
    (176, 40, 44), (44, 72, 140), (216, 208, 196), (54, 54, 60), (70, 116, 72), (200, 150, 60), (124, 70, 130),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((40, 46, 66), (34, 34, 36), (116, 100, 78))
HELMETS: tuple[Colour, ...] = ((232, 232, 230), (216, 60, 40), (244, 200, 40))
FRAMES: tuple[Colour, ...] = ((60, 110, 160), (150, 40, 40), (60, 130, 90), (190, 190, 190))
TANKS: tuple[Colour, ...] = ((130, 20, 22), (24, 30, 80), (20, 22, 24))


def person(painter: Painter) -> None:
    """Somebody who stands or walks, about 1.7 m tall."""
    draws = painter.draws
    tall = draws.between(1.45, 1.9)
    coat, skin = draws.pick(CLOTHES), draws.pick(SKIN, 8)
    stride = draws.between(0.06, 0.24)
    painter.shadow(-0.3, 0.3)
    legs = draws.pick(TROUSERS, 8)
    for side in (-1, 1):
        painter.taper(
            (0.0, side * stride - 0.09, side * stride + 0.09), (0.5 * tall, side * 0.08 - 0.1, side * 0.08 + 0.1),
            legs, labels.PERSON,
        )  # fmt: skip
    painter.taper((0.45 * tall, -0.21, 0.21), (0.83 * tall, -0.25, 0.25), coat, labels.PERSON)
    swing = draws.between(0.0, 0.14)
    for side in (-1, 1):
        painter.taper(
            (0.48 * tall, side * (0.26 + swing) - 0.06, side * (0.26 + swing) + 0.06),
            (0.82 * tall, side * 0.24 - 0.07, side * 0.24 + 0.07),
            coat, labels.PERSON,
        )  # fmt: skip
    painter.oval(-0.12, 0.84 * tall, 0.12, tall, skin, labels.PERSON)
    hair = draws.pick(TROUSERS, 8)
    painter.oval(-0.13, 0.93 * tall, 0.13, 1.02 * tall, hair, labels.PERSON)


def _rider(painter: Painter, facing: int, seat: float) -> None:
    """Somebody who leans forward on a saddle, with a helmet."""
    draws = painter.draws
    coat = draws.pick(CLOTHES)
    painter.taper(
        (0.3, -0.02 * facing, 0.2 * facing), (seat, -0.28 * facing, 0.05 * facing), draws.pick(TROUSERS, 8),
        labels.RIDER,
    )  # fmt: skip
    painter.taper(
        (seat - 0.05, -0.36 * facing, 0.02 * facing), (seat + 0.62, -0.06 * facing, 0.34 * facing), coat, labels.RIDER
    )
    painter.taper(
        (seat + 0.2, 0.34 * facing, 0.56 * facing), (seat + 0.55, 0.1 * facing, 0.32 * facing), coat, labels.RIDER
    )
    painter.oval(0.04 * facing, seat + 0.56, 0.32 * facing, seat + 0.84, draws.pick(SKIN, 8), labels.RIDER)
    painter.oval(0.0, seat + 0.68, 0.34 * facing, seat + 0.94, draws.pick(HELMETS), labels.RIDER)


def bicycle(painter: Painter) -> None:
    """A bicycle from the side, 1.75 m long; mostly with a rider."""
    draws = painter.draws
    facing = draws.side()
    frame = draws.pick(FRAMES)
    painter.shadow(-0.85, 0.85)
    painter.taper((0.36, -0.5 * facing, 0.2 * facing), (0.86, -0.2 * facing, 0.42 * facing), frame, labels.BICYCLE)
    for place in (-0.52, 0.52):
        painter.ring(place, 0.35, 0.08, TYRE, labels.BICYCLE)
    painter.box(0.34 * facing, 0.9, 0.6 * facing, 1.02, TYRE, labels.BICYCLE)
    painter.box(-0.34 * facing, 0.88, -0.08 * facing, 0.96, TYRE, labels.BICYCLE)
    if draws.chance(0.7):
        _rider(painter, facing, 0.92)


def motorcycle(painter: Painter) -> None:
    """A motorcycle from the side, 2.1 m long; sometimes with a rider."""
    draws = painter.draws
    facing = draws.side()
    tank = draws.pick(TANKS, 10)
    painter.shadow(-1.1, 1.1)
    for place in (-0.68, 0.68):
        painter.oval(place - 0.33, 0.0, place + 0.33, 0.66, TYRE, labels.MOTORCYCLE)
        painter.oval(place - 0.17, 0.16, place + 0.17, 0.5, (130, 130, 134), labels.MOTORCYCLE)
    painter.taper((0.25, -0.55 * facing, 0.5 * facing), (0.85, -0.75 * facing, 0.4 * facing), tank, labels.MOTORCYCLE)
    painter.oval(-0.15 * facing, 0.62, 0.5 * facing, 1.0, tank, labels.MOTORCYCLE)
    painter.box(-0.85 * facing, 0.78, -0.1 * facing, 0.9, (30, 28, 28), labels.MOTORCYCLE)
    painter.box(0.45 * facing, 0.85, 0.62 * facing, 1.14, (176, 178, 180), labels.MOTORCYCLE)
    painter.oval(0.55 * facing, 0.78, 0.76 * facing, 1.0, LAMP, labels.MOTORCYCLE)
    if draws.chance(0.45):
        _rider(painter, facing, 0.86)

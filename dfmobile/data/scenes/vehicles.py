"""Cars, trucks, buses, trains: seen from behind or from the side."""

from __future__ import annotations

from dfmobile.data.scenes import labels
from dfmobile.data.scenes.canvas import FINE, Colour
from dfmobile.data.scenes.painter import Painter

PAINTS: tuple[Colour, ...] = (
    (196, 196, 200), (40, 42, 46), (150, 24, 26), (34, 58, 118), (112, 116, 120), (226, 226, 224), (40, 90, 70),
)  # fmt: skip
CARGO: tuple[Colour, ...] = ((214, 212, 204), (170, 150, 110), (92, 112, 140), (190, 120, 60))
BUSES: tuple[Colour, ...] = ((226, 176, 26), (206, 44, 40), (236, 150, 40))
TRAMS: tuple[Colour, ...] = ((222, 226, 226), (190, 214, 200), (204, 204, 214))
GLASS: Colour = (46, 56, 68)
TYRE: Colour = (24, 24, 26)
TAIL: Colour = (214, 30, 26)
LAMP: Colour = (250, 246, 214)


def wheels(painter: Painter, places: tuple[float, ...], radius: float, label: int) -> None:
    """Paint wheels seen from the side."""
    for place in places:
        painter.oval(place - radius, 0.0, place + radius, 2 * radius, TYRE, label)
        painter.oval(place - radius / 2, radius / 2, place + radius / 2, 1.5 * radius, (150, 150, 152), label)


def car(painter: Painter) -> None:
    """A car: 1.8 m wide, 4.3 m long, 1.5 m high."""
    colour = painter.draws.pick(PAINTS, 14)
    if painter.draws.chance(0.3):
        facing = painter.draws.side()
        painter.shadow(-2.2, 2.2)
        painter.taper((0.8, -1.5 * facing, 1.7 * facing), (1.45, -1.1 * facing, 0.8 * facing), colour, labels.CAR)
        painter.taper((0.86, -1.3 * facing, 1.4 * facing), (1.36, -1.0 * facing, 0.7 * facing), GLASS, labels.CAR)
        painter.box(-0.1, 0.8, 0.0, 1.4, colour, labels.CAR)
        painter.box(-2.1, 0.3, 2.1, 0.88, colour, labels.CAR)
        wheels(painter, (-1.3, 1.3), 0.33, labels.CAR)
        return
    lights = TAIL if painter.draws.chance(0.6) else LAMP
    painter.shadow(-1.0, 1.0)
    for side in (-0.85, 0.6):
        painter.box(side, 0.0, side + 0.25, 0.4, TYRE, labels.CAR)
    painter.taper((0.85, -0.85, 0.85), (1.5, -0.62, 0.62), colour, labels.CAR)
    painter.taper((0.9, -0.72, 0.72), (1.4, -0.55, 0.55), GLASS, labels.CAR)
    painter.box(-0.9, 0.22, 0.9, 0.92, colour, labels.CAR)
    painter.box(-0.9, 0.22, 0.9, 0.38, (52, 52, 54), labels.CAR)
    for side in (-0.85, 0.6):
        painter.box(side, 0.6, side + 0.25, 0.8, lights, labels.CAR)
    painter.box(-0.25, 0.42, 0.25, 0.56, (220, 220, 210), labels.CAR)


def truck(painter: Painter) -> None:
    """A lorry with a cargo box: 2.5 m wide, 7 m long, 3.6 m high."""
    cargo = painter.draws.pick(CARGO, 12)
    if painter.draws.chance(0.4):
        facing = painter.draws.side()
        cabin = painter.draws.pick(PAINTS, 12)
        painter.shadow(-3.6, 3.6)
        painter.box(-3.5, 0.45, 3.5, 0.8, (50, 50, 52), labels.TRUCK)
        painter.box(-3.5 * facing, 0.8, 1.5 * facing, 3.6, cargo, labels.TRUCK, (FINE, 4))
        for seam in (-2.3, -1.0, 0.3):
            painter.box(seam * facing, 0.8, (seam + 0.08) * facing, 3.6, (96, 92, 86), labels.TRUCK)
        painter.box(1.65 * facing, 0.55, 3.5 * facing, 2.8, cabin, labels.TRUCK)
        painter.box(2.2 * facing, 1.65, 3.4 * facing, 2.55, GLASS, labels.TRUCK)
        wheels(painter, (-2.4, -1.4, 2.5), 0.48, labels.TRUCK)
        return
    painter.shadow(-1.3, 1.3)
    for side in (-1.15, 0.7):
        painter.box(side, 0.0, side + 0.45, 0.9, TYRE, labels.TRUCK)
    painter.box(-1.2, 0.5, 1.2, 0.95, (60, 58, 58), labels.TRUCK)
    painter.box(-1.25, 0.95, 1.25, 3.6, cargo, labels.TRUCK, (FINE, 4))
    painter.box(-1.25, 3.45, 1.25, 3.6, (80, 78, 74), labels.TRUCK)
    painter.box(-0.04, 0.95, 0.04, 3.45, (80, 78, 74), labels.TRUCK)
    for side in (-0.5, 0.42):
        painter.box(side, 1.1, side + 0.08, 3.2, (150, 148, 142), labels.TRUCK)
    for side in (-1.2, 0.9):
        painter.box(side, 0.6, side + 0.3, 0.85, TAIL, labels.TRUCK)


def bus(painter: Painter) -> None:
    """A city bus: 2.6 m wide, 9 m long, 3.1 m high, in a loud colour."""
    colour = painter.draws.pick(BUSES, 12)
    if painter.draws.chance(0.45):
        painter.shadow(-4.6, 4.6)
        painter.box(-4.5, 0.35, 4.5, 3.1, colour, labels.BUS)
        for number in range(6):
            painter.box(-4.2 + 1.45 * number, 1.4, -3.0 + 1.45 * number, 2.6, GLASS, labels.BUS)
        for place in (-3.6, 1.6):
            painter.box(place, 0.4, place + 1.0, 2.6, (70, 80, 92), labels.BUS)
        wheels(painter, (-2.0, 2.9), 0.48, labels.BUS)
        return
    painter.shadow(-1.4, 1.4)
    for side in (-1.1, 0.8):
        painter.box(side, 0.0, side + 0.3, 0.5, TYRE, labels.BUS)
    painter.box(-1.3, 0.3, 1.3, 3.1, colour, labels.BUS)
    painter.box(-1.1, 1.3, 1.1, 2.5, GLASS, labels.BUS)
    painter.box(-0.8, 2.65, 0.8, 2.95, (250, 210, 90), labels.BUS)
    for side in (-1.2, 0.95):
        painter.box(side, 0.6, side + 0.25, 0.9, LAMP, labels.BUS)


def train(painter: Painter) -> None:
    """A tram (in Cityscapes: train): pale, with a dark band of windows, a red stripe and a pantograph."""
    colour = painter.draws.pick(TRAMS, 8)
    half = 6.5 if painter.draws.chance(0.5) else 1.35
    painter.shadow(-half, half)
    painter.box(-0.5, 3.4, -0.42, 4.2, (60, 60, 62), labels.TRAIN)
    painter.box(-0.9, 4.15, 0.9, 4.25, (60, 60, 62), labels.TRAIN)
    painter.box(-half, 0.15, half, 3.4, colour, labels.TRAIN)
    painter.box(-half, 0.15, half, 0.5, (70, 70, 74), labels.TRAIN)
    painter.box(-half, 0.85, half, 1.25, (196, 32, 48), labels.TRAIN)
    painter.box(-half + 0.12, 1.5, half - 0.12, 2.75, (34, 40, 50), labels.TRAIN)
    painter.box(-half, 3.1, half, 3.4, (150, 154, 158), labels.TRAIN)
    if half > 2:
        for number in range(4):
            place = -5.2 + 3.1 * number
            painter.box(place, 0.5, place + 1.1, 2.8, (120, 160, 170), labels.TRAIN)
    else:
        painter.box(-0.5, 2.8, 0.5, 3.05, (250, 200, 60), labels.TRAIN)
        for side in (-1.0, 0.75):
            painter.oval(side, 0.55, side + 0.25, 0.8, LAMP, labels.TRAIN)

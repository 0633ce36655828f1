"""One street scene: what stands where, painted back to front, then noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dfmobile.data.dataset import UInt8Array
from dfmobile.data.scenes import people, roadside, vehicles
from dfmobile.data.scenes.camera import Camera
from dfmobile.data.scenes.canvas import MAX_HEIGHT, MAX_WIDTH, Canvas, Draws
from dfmobile.data.scenes.ground import Street, paint_ground, paint_sky
from dfmobile.data.scenes.painter import Painter
from dfmobile.data.scenes.planes import draw_planes, paint_plane
from dfmobile.errors import InputError

VERSION = 1
"""Of the generator: scenes of another version are other scenes."""

MIN_EXTENT = 32
Thing = Callable[[Painter], None]
Placed = tuple[float, float, Thing]


def _place_traffic(street: Street, draws: Draws) -> list[Placed]:
    """Place vehicles: metres ahead, metres across, what."""
    left, right = street.road
    placed: list[Placed] = []
    for thing, probability, nearest, farthest in (
        (vehicles.truck, 0.42, 9.0, 30.0),
        (vehicles.bus, 0.46, 9.0, 30.0),
        (vehicles.train, 0.36, 10.0, 32.0),
        (people.motorcycle, 0.8, 4.5, 12.0),
        (people.motorcycle, 0.4, 4.5, 12.0),
        (people.bicycle, 0.8, 4.5, 12.0),
        (people.bicycle, 0.6, 4.5, 12.0),
    ):
        if draws.chance(probability):
            placed.append((draws.between(nearest, farthest), draws.between(left + 0.8, right - 0.8), thing))
    placed += [
        (draws.between(5.0, 34.0), draws.between(left + 0.9, right - 0.9), vehicles.car)
        for _ in range(draws.whole(1, 5))
    ]
    return placed


def _place_roadside(street: Street, draws: Draws) -> list[Placed]:
    """Place what stands on the sidewalks and beyond."""
    placed: list[Placed] = []
    for number, side in enumerate((-1, 1)):
        kerb, edge, line = street.road[number], street.sidewalk[number], street.front[number]
        for thing, most, nearest, farthest in (
            (roadside.pole, 2, 6.0, 22.0),
            (roadside.traffic_light, 2, 5.5, 15.0),
            (roadside.traffic_sign, 2, 5.0, 15.0),
        ):
            placed += [
                (draws.between(nearest, farthest), kerb + side * draws.between(0.2, 0.8), thing)
                for _ in range(draws.whole(0, most))
            ]
        placed += [
            (draws.between(5.0, 18.0), draws.between(kerb + side * 0.4, edge - side * 0.3), people.person)
            for _ in range(draws.whole(0, 3))
        ]
        placed += [
            (draws.between(8.0, 45.0), draws.between(edge, max(line, edge + 0.5) if side > 0 else line), roadside.tree)
            for _ in range(draws.whole(0, 3))
        ]
    if draws.chance(0.4):
        placed.append((draws.between(6.0, 16.0), draws.between(*street.road), people.person))
    return placed


def check_size(width: int, height: int) -> None:
    """Refuse sizes that scenes are not painted in.

    Raises:
        InputError: naming the range.
    """
    if not (MIN_EXTENT <= width <= MAX_WIDTH and MIN_EXTENT <= height <= MAX_HEIGHT):
        raise InputError(
            f"scenes of {width}x{height} are not painted",
            hint=f"from {MIN_EXTENT}x{MIN_EXTENT} to {MAX_WIDTH}x{MAX_HEIGHT}",
        )


def render_scene(seed: int, index: int, width: int, height: int) -> tuple[UInt8Array, UInt8Array]:
    """Paint a scene: the same bits for the same arguments, on every machine.

    At another size it is the same street, seen through another texture and noise.

    Args:
        seed: of the series, from 0.
        index: in the series, from 0.
        width: pixels.
        height: pixels.

    Returns:
        Image, uint8 ``[3, H, W]`` RGB, and trainIds, uint8 ``[H, W]``; every pixel has a class.

    Raises:
        InputError: if the size is out of range.
    """
    check_size(width, height)
    draws = Draws(seed, index, 0)
    camera = Camera.draw(draws, width, height)
    street = Street.draw(draws)
    canvas = Canvas(width, height, (draws.unit(), draws.unit()))
    paint_sky(canvas, camera, draws)
    paint_ground(canvas, camera, street, draws)
    # The farthest from the road first; along one line the farthest ahead first.
    for plane in sorted(draw_planes(street, draws), key=lambda item: (-abs(item.across), -item.begin)):
        paint_plane(canvas, camera, plane, draws)
    placed = _place_traffic(street, draws) + _place_roadside(street, draws)
    for ahead, across, thing in sorted(placed, key=lambda item: -item[0]):
        thing(Painter(canvas, camera, across, ahead, draws))
    return _exposed(canvas, draws, seed, index), canvas.labels


def _exposed(canvas: Canvas, draws: Draws, seed: int, index: int) -> UInt8Array:
    """Return the image as a camera gives it: with noise, uint8 ``[3, H, W]``."""
    strength = draws.whole(3, 12)
    noise = np.frombuffer(np.random.default_rng((seed, index, 1)).bytes(2 * canvas.image.size), np.uint8)
    # The sum of two uniform numbers: a triangle, near enough to a sensor's noise, and exact.
    pair = noise.astype(np.int16).reshape(2, *canvas.image.shape)
    levels = ((pair[0] + pair[1] - 255) * np.int16(strength)) >> 8
    pixels = np.clip(canvas.image, 0, 255).astype(np.int16) + levels
    return np.ascontiguousarray(np.moveaxis(np.clip(pixels, 0, 255).astype(np.uint8), 2, 0))

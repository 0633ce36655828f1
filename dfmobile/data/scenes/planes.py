"""The planes along the street: facades, walls, fences and hedges, each from somewhere to somewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfmobile.data.dataset import UInt8Array
from dfmobile.data.scenes import labels
from dfmobile.data.scenes.camera import Camera
from dfmobile.data.scenes.canvas import COARSE, FINE, MIDDLE, Canvas, Colour, Draws, Float32Array
from dfmobile.data.scenes.ground import FAR, Street, repeated

FACADES: tuple[Colour, ...] = ((172, 150, 122), (150, 106, 90), (126, 128, 136), (196, 184, 158), (112, 98, 96))
MASONRY: tuple[Colour, ...] = ((118, 108, 104), (140, 136, 130), (110, 88, 78))
LEAVES: tuple[Colour, ...] = ((44, 78, 34), (58, 92, 40), (72, 88, 38))
RAILS: tuple[Colour, ...] = ((92, 70, 52), (62, 92, 84), (168, 168, 162))
PANES: tuple[Colour, ...] = ((52, 60, 74), (88, 102, 120), (160, 160, 148))


@dataclass(frozen=True)
class Plane:
    """An upright plane along the street.

    Attributes:
        label: BUILDING, WALL, FENCE or VEGETATION.
        across: metres from the road's middle.
        begin: metres ahead.
        end: metres ahead, beyond ``begin``.
        top: metres over the ground.
        colour: of its material.
        windows: storey height and window spacing in metres (a building), or bar spacing twice (a fence).
    """

    label: int
    across: float
    begin: float
    end: float
    top: float
    colour: Colour
    windows: tuple[float, float] = (3.0, 2.5)


def draw_planes(street: Street, draws: Draws) -> list[Plane]:
    """Draw the planes of both sides; farther from the road first."""
    planes: list[Plane] = []
    for number, side in enumerate((-1, 1)):
        line = street.front[number]
        ahead = draws.between(1, 6)
        while ahead < FAR:
            length = draws.between(8, 26)
            windows = (draws.between(2.8, 3.8), draws.between(1.8, 3.4))
            top = draws.between(6, 20)
            if draws.chance(0.85):
                planes.append(Plane(labels.BUILDING, line, ahead, ahead + length, top, draws.pick(FACADES), windows))
            ahead += length + (draws.between(3, 12) if draws.chance(0.35) else 0.0)
        planes += _barriers(street.sidewalk[number] + side * 0.15, draws)
    return planes


def _barriers(across: float, draws: Draws) -> list[Plane]:
    """Draw what separates sidewalk and ground: at most two pieces of wall, fence or hedge."""
    found = []
    ahead = draws.between(3, 9)
    for _ in range(2):
        length = draws.between(6, 22)
        what = draws.unit()
        if what < 0.34:
            found.append(
                Plane(labels.WALL, across, ahead, ahead + length, draws.between(1.2, 2.8), draws.pick(MASONRY))
            )
        elif what < 0.7:
            spacing = draws.between(0.35, 0.8)
            rail = draws.pick(RAILS)
            top = draws.between(1.1, 2.2)
            found.append(Plane(labels.FENCE, across, ahead, ahead + length, top, rail, (spacing, spacing)))
        elif what < 0.82:
            top = draws.between(1.0, 2.6)
            found.append(Plane(labels.VEGETATION, across, ahead, ahead + length, top, draws.pick(LEAVES)))
        ahead += length + draws.between(0, 8)
    return found


def paint_plane(canvas: Canvas, camera: Camera, plane: Plane, draws: Draws) -> None:
    """Paint a plane along the street where the camera sees it."""
    if plane.label == labels.BUILDING:
        _paint_end_wall(canvas, camera, plane)
    near = max(plane.begin, camera.focal * abs(plane.across) / (3.0 * canvas.width))
    if near >= plane.end:
        return
    ends = sorted((camera.column(plane.across, near), camera.column(plane.across, plane.end)))
    top, bottom = camera.row(plane.top, near), camera.row(0.0, near)
    if plane.top < camera.above:
        top = min(top, camera.row(plane.top, plane.end))
    window = canvas.window(ends[0], top, ends[1], bottom)
    if window is None:
        return
    rows, columns = window
    # How far ahead each column's ray meets the plane; the bend is small against the plane's distance.
    offset = canvas.columns[:, columns] - np.float32(camera.middle)
    ahead = np.float32(camera.focal * plane.across) / np.where(np.abs(offset) < 0.5, np.float32(0.5), offset)
    ahead = np.float32(camera.focal * plane.across) / _away(
        offset - np.float32(camera.focal * camera.bend) * np.clip(ahead, np.float32(near), np.float32(plane.end)),
        plane.across,
    )
    up = np.float32(camera.above) - (canvas.rows[rows] - np.float32(camera.horizon)) * (
        ahead / np.float32(camera.focal)
    )
    mask = (ahead >= np.float32(plane.begin)) & (ahead < np.float32(plane.end)) & (up >= 0)
    if plane.label == labels.VEGETATION:
        mask &= up < np.float32(plane.top) + canvas.texture(MIDDLE, window) * np.float32(0.25)
    else:
        mask &= up < np.float32(plane.top)
    material, texture, colours = _material(canvas, window, plane, ahead, up, draws)
    seen = (1 / (1 + np.float32(camera.haze) * ahead))[:, :, None]
    painted = (np.array(colours, np.float32) * np.array(camera.light, np.float32))[material]
    painted += texture[:, :, None]
    painted *= seen
    painted += np.array(camera.haze_colour, np.float32) * (1 - seen)
    if plane.label == labels.FENCE:
        # What is seen between the bars is fence too, as in Cityscapes.
        canvas.paint(window, mask, canvas.image[window] * np.float32(0.85), plane.label)
        mask = mask & (material > 0)
    canvas.paint(window, mask, painted, plane.label)


def _paint_end_wall(canvas: Canvas, camera: Camera, plane: Plane) -> None:
    """Paint the wall of a building that faces the camera, where a gap lets it be seen."""
    if plane.begin < 4.0:
        return
    outer = plane.across + (9.0 if plane.across > 0 else -9.0)
    ends = sorted((camera.column(plane.across, plane.begin), camera.column(outer, plane.begin)))
    shaded: Colour = (plane.colour[0] * 0.8, plane.colour[1] * 0.8, plane.colour[2] * 0.8)
    canvas.rectangle(
        ends[0], camera.row(plane.top, plane.begin), ends[1], camera.row(0.0, plane.begin),
        camera.tint(shaded, plane.begin), labels.BUILDING, (FINE, 5),
    )  # fmt: skip


def _away(offset: Float32Array, across: float) -> Float32Array:
    """Return column offsets of the plane's sign: rays to the other side never meet it (they end up far ahead)."""
    least = np.float32(0.01)
    kept: Float32Array = np.maximum(offset, least) if across > 0 else np.minimum(offset, -least)
    return kept


def _material(
    canvas: Canvas, window: tuple[slice, slice], plane: Plane, ahead: Float32Array, up: Float32Array, draws: Draws
) -> tuple[UInt8Array, Float32Array, list[Colour]]:
    """Return each pixel's material (a number), its texture in grey levels, and the materials' colours."""
    material: UInt8Array = np.zeros(up.shape, np.uint8)
    grain = canvas.texture(FINE, window)
    red, green, blue = plane.colour
    if plane.label == labels.VEGETATION:
        return material, grain * np.float32(14) + canvas.texture(MIDDLE, window) * np.float32(18), [plane.colour]
    texture = (grain + canvas.texture(COARSE, window)) * np.float32(5)
    if plane.label == labels.WALL:
        material[repeated(up, 0.45, 0.14) | repeated(ahead, 0.9, 0.08)] = 1
        return material, texture, [plane.colour, (red - 24, green - 24, blue - 24)]
    if plane.label == labels.FENCE:
        material[repeated(ahead, plane.windows[0], 0.3) | repeated(up, max(plane.top / 2, 0.3), 0.16)] = 1
        return material, texture, [plane.colour, plane.colour]
    storey, spacing = plane.windows
    material[repeated(up - np.float32(1.0), storey, 0.5) & repeated(ahead, spacing, 0.5)] = 1
    material[(up < 0.5) | (up > np.float32(plane.top - 0.5))] = 2
    return material, texture, [plane.colour, draws.pick(PANES), (red - 28, green - 28, blue - 28)]

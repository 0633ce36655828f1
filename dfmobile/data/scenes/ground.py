"""Sky and ground: the road in perspective with its marks, sidewalks, and terrain beyond them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfmobile.data.dataset import UInt8Array
from dfmobile.data.scenes import labels
from dfmobile.data.scenes.camera import Camera
from dfmobile.data.scenes.canvas import COARSE, FINE, BoolArray, Canvas, Colour, Draws, Float32Array

SKIES: tuple[Colour, ...] = ((140, 180, 228), (205, 210, 218), (170, 178, 188), (225, 205, 190))
ASPHALT: tuple[Colour, ...] = ((88, 88, 92), (104, 100, 100), (74, 76, 82))
PAVING: tuple[Colour, ...] = ((152, 140, 136), (136, 130, 134), (162, 138, 128))
SOIL: tuple[Colour, ...] = ((104, 134, 60), (126, 130, 70), (142, 118, 80))
MARK: Colour = (226, 224, 214)
KERB: Colour = (176, 172, 168)
FAR = 150.0
_SOIL, _PAVING, _JOINT, _KERB, _ASPHALT, _MARK = range(6)
# A kerb is sidewalk and a mark is road, as in Cityscapes.
_LABELS: UInt8Array = np.array(
    [labels.TERRAIN, labels.SIDEWALK, labels.SIDEWALK, labels.SIDEWALK, labels.ROAD, labels.ROAD], np.uint8
)


@dataclass(frozen=True)
class Street:
    """The street's cross section, metres from the road's middle; negative is left.

    Attributes:
        road: left and right kerb.
        sidewalk: left and right outer edge of the sidewalks.
        front: left and right line of the buildings; between sidewalk and it is terrain.
    """

    road: tuple[float, float]
    sidewalk: tuple[float, float]
    front: tuple[float, float]

    @classmethod
    def draw(cls, draws: Draws) -> Street:
        """Draw a street; the camera drives near its middle."""
        road: list[float] = []
        sidewalk: list[float] = []
        front: list[float] = []
        for side in (-1, 1):
            kerb = draws.between(2.8, 5.6)
            edge = kerb + draws.between(1.4, 3.4)
            line = edge + (draws.between(0.8, 5.0) if draws.chance(0.6) else 0.2)
            for values, value in ((road, kerb), (sidewalk, edge), (front, line)):
                values.append(side * value)
        return cls((road[0], road[1]), (sidewalk[0], sidewalk[1]), (front[0], front[1]))


def repeated(values: Float32Array, period: float, share: float) -> BoolArray:
    """Return where a coordinate is in the first ``share`` of each ``period``."""
    cycles = values / np.float32(period)
    inside: BoolArray = (cycles - np.floor(cycles)) < np.float32(share)
    return inside


def paint_sky(canvas: Canvas, camera: Camera, draws: Draws) -> None:
    """Paint the sky over the whole canvas: a gradient and clouds."""
    base = np.array(draws.pick(SKIES, 14), np.float32)
    # Towards the horizon the sky fades to the haze's colour.
    share = (canvas.rows / np.float32(max(camera.horizon, 1.0)))[:, :, None]
    share = np.minimum(share, 1) * np.float32(0.85)
    haze = np.array(camera.haze_colour, np.float32)
    canvas.image[:] = base * (1 - share) + haze * share
    cloudy = draws.between(0, 14)
    canvas.image += canvas.texture(COARSE)[:, :, None] * np.float32(cloudy)
    canvas.labels[:] = labels.SKY


def paint_ground(canvas: Canvas, camera: Camera, street: Street, draws: Draws) -> None:
    """Paint everything below the horizon."""
    first = min(max(int(camera.horizon + 1), 0), canvas.height - 1)
    rows = canvas.rows[first:]
    ahead = np.float32(camera.focal * camera.above) / np.maximum(rows - np.float32(camera.horizon), np.float32(0.25))
    across = (canvas.columns - np.float32(camera.middle)) * (ahead / np.float32(camera.focal))
    across -= np.float32(camera.bend) * ahead * ahead

    # Each pixel's material is a number: colours and strengths of texture are then looked up in one go.
    material = np.full(across.shape, _SOIL, np.uint8)
    walk = (across > np.float32(street.sidewalk[0])) & (across < np.float32(street.sidewalk[1]))
    material[walk] = _PAVING
    material[walk & (repeated(ahead, 1.2, 0.08) | repeated(across, 1.2, 0.08))] = _JOINT
    left, right = street.road
    material[(across > np.float32(left - 0.12)) & (across < np.float32(right + 0.12))] = _KERB
    material[(across > np.float32(left)) & (across < np.float32(right))] = _ASPHALT
    material[_marks(across, ahead, street, draws)] = _MARK

    paving = draws.pick(PAVING)
    joint: Colour = (paving[0] - 16, paving[1] - 16, paving[2] - 16)
    colours = np.array([draws.pick(SOIL), paving, joint, KERB, draws.pick(ASPHALT), MARK], np.float32)
    colours *= np.array(camera.light, np.float32)
    texture = canvas.texture(FINE)[first:] + canvas.texture(COARSE)[first:] * np.float32(0.7)
    texture *= np.array((16, 6, 5, 4, 8, 4), np.float32)[material]
    seen = 1 / (1 + np.float32(camera.haze) * ahead)[:, :, None]
    painted = colours[material]
    painted += texture[:, :, None]
    painted *= seen
    painted += np.array(camera.haze_colour, np.float32) * (1 - seen)
    canvas.image[first:] = painted
    canvas.labels[first:] = _LABELS[material]


def _marks(across: Float32Array, ahead: Float32Array, street: Street, draws: Draws) -> BoolArray:
    left, right = street.road
    dashed = repeated(ahead + np.float32(draws.between(0, 6)), 6.0, 0.55)
    lane = draws.between(left / 3, right / 3)
    marks: BoolArray = (np.abs(across - np.float32(lane)) < 0.09) & dashed
    if draws.chance(0.5):
        for edge in (left + 0.5, right - 0.5):
            marks |= np.abs(across - np.float32(edge)) < 0.07
    if draws.chance(0.3):
        start = draws.between(6, 16)
        zebra = (ahead > start) & (ahead < start + 3) & repeated(across, 1.0, 0.5)
        marks |= zebra & (across > np.float32(left + 0.2)) & (across < np.float32(right - 0.2))
    return marks

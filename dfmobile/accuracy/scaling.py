"""From an architecture to the network that is trained: small inputs get a scaled network, and the record says so.

A network for 224x224 images cannot be trained on 32x32 ones: its stride of 32 leaves a single pixel. For inputs
under 64 pixels it is replaced by a scaled one that keeps its depth, its stages and the order of its widths.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

from dfmobile.architecture import Architecture, Stage
from dfmobile.errors import InputError

SMALL_INPUT = 64
"""Inputs whose shorter side is below this many pixels get scaled networks."""

DEFAULT_TABLE: Mapping[int, int] = {64: 8, 128: 16, 256: 24, 512: 40, 1024: 64}
DEFAULT_CLASSES, DEFAULT_CHANNELS = 1000, 3

WidthScale = Literal["auto", "none"] | Mapping[int, int]


def parse_width_scale(value: Any) -> WidthScale:
    """Check the option ``width_scale``.

    Args:
        value: ``"auto"``, ``"none"``, or a table of old width to new width (JSON: keys are texts of digits).

    Raises:
        InputError: if it is none of these, or a table's new widths do not grow with the old ones.
    """
    if value in ("auto", "none"):
        chosen: WidthScale = value
        return chosen
    try:
        table = {int(old): int(new) for old, new in sorted(value.items(), key=lambda item: int(item[0]))}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"width_scale {value!r} is not a table", hint='"auto", "none", or for example {"64": 8, "128": 16}'
        ) from error
    widths = [0, *table.values()]
    if not table or min(table) < 1 or any(after <= before for before, after in itertools.pairwise(widths)):
        raise InputError(
            f"width_scale {value!r} does not keep the order of widths", hint="larger widths need larger new widths"
        )
    return table


def describe_scaling(scale: WidthScale) -> str:
    """Return the rule in words."""
    if scale == "none":
        return "none: networks are trained as encoded"
    table = DEFAULT_TABLE if scale == "auto" else scale
    assert not isinstance(table, str)  # noqa: S101  (narrows the type)
    widths = ", ".join(f"{old} to {new}" for old, new in table.items())
    return (
        f"for inputs under {SMALL_INPUT} px, networks with a stem stride above 1: one stride-1 stem conv of width "
        f"{next(iter(table.values()))}, stage strides 2, widths {widths}; networks with a stride-1 stem as encoded"
    )


def trained_architecture(
    architecture: Architecture, *, size: tuple[int, int], classes: int, channels: int, scale: WidthScale
) -> tuple[Architecture, str]:
    """Return the network to train for an architecture.

    Where an encoding names no classes (1000) or channels (3), those of the data are taken; named ones must be the
    data's.

    Args:
        architecture: what was asked for.
        size: width and height of the images.
        classes: of the data.
        channels: of the images.
        scale: ``"auto"`` (the rule above), ``"none"``, or a table of widths that replaces the rule's.

    Returns:
        The network to train, and one line that says how it came from ``architecture``.

    Raises:
        InputError: if it cannot be trained on such images.
    """
    if architecture.decoder is not None:
        raise InputError(
            f"{architecture} is a segmentation network, and this training is of classifiers",
            hint=f"train its backbone: {architecture.text.partition('+')[0]}",
        )
    for what, wanted, given, default in (
        ("classes", architecture.classes, classes, DEFAULT_CLASSES),
        ("channels", architecture.in_channels, channels, DEFAULT_CHANNELS),
    ):
        if wanted not in (given, default):
            raise InputError(
                f"{architecture} has {wanted} {what}, the data have {given}",
                hint=f"write {what}={given} in the encoding",
            )
    fitted = dataclasses.replace(architecture, classes=classes, in_channels=channels)
    lines = []
    if fitted != architecture:
        lines.append(f"{classes} classes and {channels} channels as the data")
    stem_stride = fitted.total_stride >> len(fitted.stages)
    if scale != "none" and min(size) < SMALL_INPUT and stem_stride > 1:
        table = DEFAULT_TABLE if scale == "auto" else scale
        assert not isinstance(table, str)  # noqa: S101  (narrows the type)
        fitted = _scaled(fitted, table)
        lines.append(
            f"scaled for {size[0]}x{size[1]} images: stem {fitted.stem[0][0]} at stride 1, widths "
            + ", ".join(f"{old} to {new}" for old, new in table.items())
        )
    stride = fitted.total_stride
    if any(extent % stride or extent < stride for extent in size):
        nearest = "x".join(str(max(1, round(extent / stride)) * stride) for extent in size)
        raise InputError(
            f"images of {size[0]}x{size[1]} are not a multiple of the network's stride {stride}",
            hint=f"give image_size {nearest}",
        )
    return fitted, "; ".join(lines) or "none: trained as encoded"


def _scaled(architecture: Architecture, table: Mapping[int, int]) -> Architecture:
    if architecture.family not in ("df", "dfb"):
        raise InputError(
            f"there is no scaled form of family {architecture.family!r} for images under {SMALL_INPUT} px",
            hint="give a larger image_size, or width_scale none",
        )
    missing = sorted({width for stage in architecture.stages for width in stage.widths} - set(table))
    if missing:
        raise InputError(
            f"width {missing[0]} of {architecture} is not in the scaling table ({', '.join(map(str, table))})",
            hint="give a width_scale table that has it",
        )
    stages = tuple(Stage(stage.kind, tuple(table[width] for width in stage.widths)) for stage in architecture.stages)
    stem = ((next(iter(table.values())), 1),)
    return dataclasses.replace(architecture, stages=stages, stem=stem)

"""Preprocessing of published weights by name, and of anyone's by a short text."""

from __future__ import annotations

from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.errors import InputError, quoted

_SCALE = (0.008, 0.008, 0.008)
KNOWN: dict[str, Preprocessing] = {
    "pl1a": Preprocessing("BGR", (103.94, 116.78, 123.68), _SCALE, "PL1A-Seg's phone demo"),
    # The prototxt files name no order of channels: Caffe reads images as BGR.
    "caffe-imagenet": Preprocessing("BGR", (104.0, 117.0, 123.0), _SCALE, "the authors' Caffe files, ImageNet"),
    "caffe-cityscapes": Preprocessing("BGR", (72.0, 83.0, 73.0), _SCALE, "the authors' Caffe files, Cityscapes"),
    "imagenet": Preprocessing.normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's mean and deviation"),
}


def parse_preprocessing(text: str) -> Preprocessing:
    """Return the preprocessing that a user means: a name of ``KNOWN``, or ``ORDER:means:scales``.

    Args:
        text: e.g. ``pl1a``, or ``BGR:104,117,123:0.008`` (one scale for all channels, or one each).

    Raises:
        InputError: if it is neither.
    """
    if text in KNOWN:
        return KNOWN[text]
    parts = text.split(":")
    try:
        order, means, scales = parts
        mean = tuple(float(value) for value in means.split(","))
        scale = tuple(float(value) for value in scales.split(","))
    except ValueError as error:
        raise InputError(
            f"{quoted(text)} is no preprocessing",
            hint=f"known: {', '.join(KNOWN)}; or ORDER:means:scales, e.g. BGR:104,117,123:0.008",
        ) from error
    return Preprocessing(order, mean, scale * len(mean) if len(scale) == 1 else scale, "given at import")  # type: ignore[arg-type]

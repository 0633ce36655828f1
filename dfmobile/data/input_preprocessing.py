"""How the pixels of an image become a network's input: kept with the weights, since they are worthless without it.

A weights file carries it as JSON under ``preprocessing``; files of earlier versions have ``normalisation`` (mean and
deviation of pixels in [0, 1]), which reads as the same thing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dfmobile.data.dataset import UInt8Array
from dfmobile.errors import FileFormatError, InputError

METADATA_KEY, LEGACY_KEY = "preprocessing", "normalisation"
ChannelOrder = Literal["RGB", "BGR", "L"]
# Of ImageNet's training images: what most published weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """``(pixel - mean) * scale`` for each channel, pixels from 0 to 255.

    Attributes:
        channels: order in which the network takes colours; ``L`` is grey.
        mean: one value a channel, in that order, 0 to 255.
        scale: likewise.
        source: where the values are from, for people.
    """

    channels: ChannelOrder
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        count = len(self.channels)
        if self.channels not in get_args(ChannelOrder):
            raise InputError(f"channel order {self.channels!r} is unknown", hint="RGB, BGR or L")
        if len(self.mean) != count or len(self.scale) != count:
            raise InputError(
                f"preprocessing of {self.channels} needs {count} means and scales, "
                f"not {len(self.mean)} and {len(self.scale)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.scale))) or min(self.scale) <= 0:
            raise InputError("preprocessing: means and scales must be finite, and scales above 0")

    @classmethod
    def normalised(cls, mean: tuple[float, ...], std: tuple[float, ...], source: str) -> Preprocessing:
        """Return ``(pixel / 255 - mean) / std``, RGB, or grey for one channel.

        Raises:
            InputError: if the values cannot be.
        """
        if not std or not all(math.isfinite(value) and value > 0 for value in std):
            raise InputError("normalisation: deviations must be finite and above 0")
        channels: ChannelOrder = "L" if len(mean) == 1 else "RGB"
        return cls(
            channels, tuple(255.0 * value for value in mean), tuple(1.0 / (255.0 * value) for value in std), source
        )

    @classmethod
    def imagenet(cls) -> Preprocessing:
        """Return ImageNet's: what most published weights were trained with."""
        return cls.normalised(IMAGENET_MEAN, IMAGENET_STD, "ImageNet's, as the weights file names none")

    @classmethod
    def of_weights(cls, metadata: Mapping[str, str]) -> Preprocessing:
        """Return what a weights file says that its network takes; ImageNet's where it says nothing.

        Raises:
            FileFormatError: if what it says is damaged or cannot be.
        """
        key = METADATA_KEY if METADATA_KEY in metadata else LEGACY_KEY
        text = metadata.get(key)
        if text is None:
            return cls.imagenet()
        try:
            document = json.loads(text)
            if key == LEGACY_KEY:
                return cls.normalised(_numbers(document["mean"]), _numbers(document["std"]), "the weights file's")
            return cls(
                document["channels"],
                _numbers(document["mean"]),
                _numbers(document["scale"]),
                str(document.get("source", "the weights file's"))[:200],
            )
        except InputError as error:
            raise FileFormatError(f"the weights file's {key} cannot be: {error}") from error
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise FileFormatError(f"the weights file's {key} is damaged: {text[:80]}") from error

    def metadata(self) -> dict[str, str]:
        """Return it as metadata of a weights file or a model file."""
        return {METADATA_KEY: json.dumps(asdict(self))}

    def apply(self, pixels: UInt8Array) -> npt.NDArray[np.float32]:
        """Return the network's input of decoded images.

        Args:
            pixels: uint8 ``[..., C, H, W]``, RGB or grey as ``to_array`` gives them.

        Returns:
            float32 of the same shape, channels in the network's order.

        Raises:
            InputError: if the number of channels is another.
        """
        if pixels.ndim < 3 or pixels.shape[-3] != len(self.channels):
            raise InputError(f"preprocessing takes {len(self.channels)} channels, the image is {list(pixels.shape)}")
        ordered = pixels[..., ::-1, :, :] if self.channels == "BGR" else pixels
        mean = np.array(self.mean, np.float32)[:, None, None]
        scale = np.array(self.scale, np.float32)[:, None, None]
        values: npt.NDArray[np.float32] = np.ascontiguousarray((ordered.astype(np.float32) - mean) * scale)
        return values


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise TypeError("not a list")
    return tuple(float(value) for value in values)

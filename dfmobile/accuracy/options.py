"""Options of a training, checked before anything is read or built."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dfmobile.accuracy.scaling import WidthScale, describe_scaling, parse_width_scale
from dfmobile.data import mnist
from dfmobile.data.augment import AUGMENTATIONS
from dfmobile.errors import InputError

# MNIST-5k: 2,000 validation images rather than 1,000 halve the variance of the accuracy, and training takes less time.
_TRAIN_FRACTION, _MNIST_TRAIN_FRACTION = 0.8, 0.6


@dataclass(frozen=True)
class TrainingOptions:
    """How networks are trained: SGD with Nesterov momentum, one cycle of the learning rate.

    The defaults are for a search that ends in minutes. Measured with them on ``df-mini`` networks (CPU seconds a
    training, one thread, two seeds): 8/8/8 90.8 % 3.7 s, 8/16/24 95.0 % 3.5 s, 16/24/40 95.7 % 4.7 s, 16,24/40/64
    96.7 % 8.2 s, 24,40/40,64/64,64 96.7 % 16.5 s.

    Attributes:
        data: ``"mnist-5k"`` or the path of an ImageFolder tree.
        epochs: passes over the training images.
        image_size: pixels a side, or (width, height); None: MNIST-5k 32, folders as they are.
        batch_size: images a step; the last, smaller batch of an epoch is left out.
        learning_rate: at the top of the cycle.
        momentum: Nesterov's.
        weight_decay: of conv and fully connected weights; not of biases and BN.
        label_smoothing: share of the target that is spread over all classes.
        warm_up: share of the steps in which the learning rate rises, linearly; it then falls as a cosine to 0.
        augment: ``"auto"`` (MNIST-5k: none, folders: shift-flip), ``"none"``, ``"shift"``, ``"shift-flip"``.
        width_scale: ``"auto"``, ``"none"`` or a table, see ``dfmobile.accuracy.scaling``.
        train_fraction: share of training images where the data are not split; None: 0.6 of MNIST-5k, 0.8 of folders.
        split_seed: of that split; not the seed of the trainings.
        channels: 1 or 3; None: as the images.
        threads: of torch; results are repeatable for equal numbers of threads.

    Raises:
        InputError: naming the option that is out of range.
    """

    data: str = mnist.NAME
    epochs: int = 3
    image_size: tuple[int, int] | None = None
    batch_size: int = 48
    learning_rate: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warm_up: float = 0.3
    augment: str = "auto"
    width_scale: WidthScale = field(default="auto")
    train_fraction: float | None = None
    split_seed: int = 0
    channels: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not self.data:
            raise InputError(f"data {self.data!r} is neither a name nor a path")
        for name, least, most in (("epochs", 1, 100_000), ("batch_size", 2, 65536), ("threads", 1, 1024)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"{name} is {value!r}", hint=f"a whole number from {least} to {most}")
        if isinstance(self.split_seed, bool) or not isinstance(self.split_seed, int) or self.split_seed < 0:
            raise InputError(f"split_seed is {self.split_seed!r}", hint="a whole number from 0")
        for name, below in (
            ("learning_rate", math.inf),
            ("momentum", 1.0),
            ("weight_decay", math.inf),
            ("label_smoothing", 1.0),
            ("warm_up", 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < below:
                raise InputError(f"{name} is {value!r}", hint=f"a number from 0, below {below}")
        if self.augment != "auto" and self.augment not in AUGMENTATIONS:
            raise InputError(f"augment is {self.augment!r}", hint=f"one of: auto, {', '.join(AUGMENTATIONS)}")
        if not isinstance(self.fraction, float) or not 0.0 < self.fraction < 1.0:
            raise InputError(f"train_fraction is {self.train_fraction!r}", hint="between 0 and 1, for example 0.8")
        object.__setattr__(self, "image_size", _parse_size(self.image_size))
        object.__setattr__(self, "width_scale", parse_width_scale(self.width_scale))

    @property
    def augmentation(self) -> str:
        """The augmentation that ``"auto"`` stands for, or the one chosen."""
        if self.augment != "auto":
            return self.augment
        return "none" if self.data == mnist.NAME else "shift-flip"

    @property
    def fraction(self) -> float:
        """The share of training images that None stands for, or the one chosen."""
        if self.train_fraction is not None:
            return self.train_fraction
        return _MNIST_TRAIN_FRACTION if self.data == mnist.NAME else _TRAIN_FRACTION

    def describe(self) -> dict[str, Any]:
        """Return the options for a record; JSON-able. The data describe themselves."""
        document = asdict(self)
        for name in ("data", "image_size", "channels", "train_fraction", "split_seed", "width_scale"):
            del document[name]
        return {
            **document,
            "augment": self.augmentation,
            "scaling": describe_scaling(self.width_scale),
            "optimiser": "SGD with Nesterov momentum, one cycle: linear rise, cosine fall",
        }


def option_names() -> list[str]:
    """Return the names of all options."""
    return [item.name for item in fields(TrainingOptions)]


def _parse_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = (value, value) if isinstance(value, int) else value
    if (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(type(extent) is int and extent > 0 for extent in pair)
    ):
        return int(pair[0]), int(pair[1])
    raise InputError(f"image_size is {value!r}", hint="pixels a side, or a list of width and height")

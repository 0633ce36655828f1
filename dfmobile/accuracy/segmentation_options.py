"""Options of a segmentation training, checked before anything is read or built."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dfmobile.errors import InputError

CLASS_WEIGHTS = ("none", "enet", "median")
LOSS_AT = ("output", "image")
MIXED_PRECISION = ("auto", "none", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
STAGES = (3, 4, 5)

PRESETS: dict[str, dict[str, Any]] = {
    # For searches that end in minutes. At 128x64 deeper networks fell far behind: docs/benchmarks/scene-training.md.
    "quick": {
        "data": "scenes:300",
        "image_size": (192, 96),
        "validation_images": 60,
        "epochs": 12,
        "batch_size": 8,
        "learning_rate": 0.3,
        "scales": (1.0, 1.25),
    },
}
"""Options that differ from the defaults, by the name of the preset."""


@dataclass(frozen=True)
class SegmentationOptions:
    """How segmentation networks are trained: SGD with Nesterov momentum, poly schedule.

    Attributes:
        data: ``"scenes"``, ``"scenes:N"``, or a tree in Cityscapes' layout.
        preset: ``"quick"`` or None; sets other options, which may be given besides.
        epochs: passes over the training images.
        image_size: width and height; None: scenes 256x128, trees as they are.
        crop_size: width and height that are trained on; None: ``image_size``. Validation is of whole images.
        batch_size: images a step, of all processes together; the last, smaller batch of an epoch is left out.
        learning_rate: after the warm-up.
        momentum: Nesterov's.
        weight_decay: of conv weights; not of biases and BN.
        warm_up: share of the steps in which the learning rate rises, linearly.
        power: of the poly schedule: the rate is ``learning_rate · (1 - share) ^ power``.
        scales: least and greatest random enlargement before the crop.
        flip: whether half of the images are mirrored.
        class_weights: ``"none"``; ``"enet"``: 1 / ln(1.02 + share); ``"median"``: median frequency balancing.
        loss_at: ``"output"``: labels are taken at the scores' resolution (the pixel in the middle of each cell);
            ``"image"``: scores are upsampled bilinearly to the labels' resolution. Validation is always of the latter.
        ohem: None, or a probability: pixels whose class has a higher one are left out, but for the hardest
            ``ohem_keep`` of all.
        ohem_keep: share of pixels that are kept in any case.
        auxiliary: weight of the loss of a head on an earlier stage, which is dropped afterwards; 0: no head.
        auxiliary_stage: 3, 4 or 5.
        teacher: a weights file, a folder with label maps (``<image>_labels.png``), or None.
        teacher_architecture: of that weights file: zoo name or encoding; None: as the file says.
        teacher_share: share of the teacher in the loss.
        temperature: of scores in the distillation loss.
        mixed_precision: ``"auto"`` (on a GPU bfloat16, or float16 where it has none; on CPUs none) or one of
            ``"none"``, ``"bfloat16"``, ``"float16"``.
        device: ``"auto"`` (a GPU where torch finds one), ``"cpu"`` or ``"cuda"``.
        validation_images: scenes: how many (None: 100); trees: at most so many (None: all).
        scene_seed: seed of the series of scenes; not the seed of the trainings.
        cache: folder for painted scenes, or None; no part of the record.
        threads: of torch; results are repeatable for equal numbers of threads.

    Raises:
        InputError: naming the option that is out of range.
    """

    data: str = "scenes"
    preset: str | None = None
    epochs: int = 30
    image_size: tuple[int, int] | None = None
    crop_size: tuple[int, int] | None = None
    batch_size: int = 8
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    power: float = 0.9
    scales: tuple[float, float] = (1.0, 1.5)
    flip: bool = True
    class_weights: str = "enet"
    loss_at: str = "output"
    ohem: float | None = None
    ohem_keep: float = 0.0625
    auxiliary: float = 0.4
    auxiliary_stage: int = 4
    teacher: str | None = None
    teacher_architecture: str | None = None
    teacher_share: float = 0.5
    temperature: float = 2.0
    mixed_precision: str = "auto"
    device: str = "auto"
    validation_images: int | None = None
    scene_seed: int = 0
    cache: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        self._check_texts()
        for name, least, most in (
            ("epochs", 1, 100_000),
            ("batch_size", 2, 65536),
            ("threads", 1, 1024),
            ("scene_seed", 0, 2**32 - 1),
            ("validation_images", 1, 100_000),
        ):
            value = getattr(self, name)
            if name == "validation_images" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"{name} is {value!r}", hint=f"a whole number from {least} to {most}")
        for name, below in (
            ("learning_rate", math.inf),
            ("momentum", 1.0),
            ("weight_decay", math.inf),
            ("warm_up", 1.0),
            ("power", math.inf),
            ("ohem", 1.0),
            ("ohem_keep", 1.0),
            ("auxiliary", math.inf),
            ("teacher_share", math.nextafter(1.0, 2.0)),
        ):
            value = getattr(self, name)
            if name == "ohem" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value < below:
                raise InputError(f"{name} is {value!r}", hint=f"a number from 0, below {below:g}")
        if not isinstance(self.temperature, (int, float)) or not 0.0 < self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature!r}", hint="a number above 0")
        if not isinstance(self.flip, bool):
            raise InputError(f"flip is {self.flip!r}", hint="true or false")
        object.__setattr__(self, "image_size", parse_extent("image_size", self.image_size))
        object.__setattr__(self, "crop_size", parse_extent("crop_size", self.crop_size))
        object.__setattr__(self, "scales", _parse_scales(self.scales))

    def _check_texts(self) -> None:
        if not isinstance(self.data, str) or not self.data:
            raise InputError(f"data {self.data!r} is neither a name nor a path")
        for name in ("teacher", "teacher_architecture", "cache"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise InputError(f"{name} is {value!r}", hint="a text, or nothing")
        for name, known in (
            ("class_weights", CLASS_WEIGHTS),
            ("loss_at", LOSS_AT),
            ("mixed_precision", MIXED_PRECISION),
            ("device", DEVICES),
            ("auxiliary_stage", STAGES),
            ("preset", (None, *PRESETS)),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or value not in known:
                raise InputError(f"{name} is {value!r}", hint=f"one of: {', '.join(map(str, known))}")
        if self.teacher_architecture is not None and self.teacher is None:
            raise InputError("teacher_architecture is given, and no teacher", hint="give teacher=WEIGHTS_FILE")

    @classmethod
    def make(cls, options: dict[str, Any]) -> SegmentationOptions:
        """Return options by name: those given, over the preset's, over the defaults.

        Raises:
            InputError: if one is unknown or out of range.
        """
        names = [item.name for item in fields(cls)]
        unknown = sorted(set(options) - set(names))
        if unknown:
            raise InputError(f"segmentation has no option {unknown[0]!r}", hint=f"its options: {', '.join(names)}")
        preset = options.get("preset")
        if preset is not None and preset not in PRESETS:
            raise InputError(f"preset is {preset!r}", hint=f"one of: {', '.join(PRESETS)}")
        return cls(**{**({} if preset is None else PRESETS[preset]), **options})

    @property
    def teacher_masks(self) -> Path | None:
        """The folder of a teacher's label maps, if the teacher is one."""
        if self.teacher is None or not Path(self.teacher).expanduser().is_dir():
            return None
        return Path(self.teacher).expanduser()

    def describe(self) -> dict[str, Any]:
        """Return the options for a record; JSON-able. The data and the teacher describe themselves."""
        document = asdict(self)
        for name in ("data", "image_size", "validation_images", "scene_seed", "cache", "teacher"):
            del document[name]
        return {
            **document,
            "crop_size": None if self.crop_size is None else list(self.crop_size),
            "scales": list(self.scales),
            "optimiser": "SGD with Nesterov momentum, linear warm-up, poly schedule",
        }


def parse_extent(name: str, value: Any) -> tuple[int, int] | None:
    """Read a width and height: None, a pair, or a text such as ``256x128``.

    Raises:
        InputError: naming the option.
    """
    if value is None:
        return None
    pair = value
    if isinstance(value, str):
        pair = [int(part) if part.isascii() and part.isdigit() and len(part) < 6 else 0 for part in value.split("x")]
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(type(item) is int and item > 0 for item in pair):
        return int(pair[0]), int(pair[1])
    raise InputError(f"{name} is {value!r}", hint="width and height, for example 256x128")


def _parse_scales(value: Any) -> tuple[float, float]:
    if (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
        and 0.1 <= value[0] <= value[1] <= 10.0
    ):
        return float(value[0]), float(value[1])
    raise InputError(f"scales is {value!r}", hint="least and greatest factor, 0.1 to 10, for example [0.75, 1.5]")

"""The zoo: the published networks as encodings, with the numbers their authors published kept beside them."""

from __future__ import annotations

from dataclasses import dataclass

from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.published import PUBLISHED, Published
from dfmobile.errors import InputError, quoted

_DF1 = "df/64,64,64/128,128,128/256,256,256,512"
_DF2 = f"df/64,64,128/{','.join(['128'] * 10)},256/256,256,256,256,512,512"
_DFLITE = "df/64,64/128,128/256,512"
_CLASSIFICATION, _CITYSCAPES, _PHONE = (224, 224), (2048, 1024), (640, 384)

_ENTRIES: dict[str, tuple[str, tuple[int, int]]] = {
    "DF1": (_DF1, _CLASSIFICATION),
    "DF2": (_DF2, _CLASSIFICATION),
    "DF2A": ("dfb/64,64,128/128x10,256/256x4,512x2", _CLASSIFICATION),
    "DFlite": (_DFLITE, _CLASSIFICATION),
    "DF1-Seg": (f"{_DF1}+seg:19,32,128", _CITYSCAPES),
    "DF1-Seg-d8": (f"{_DF1}+seg:19,32,128:d8", _CITYSCAPES),
    "DF2-Seg1": (f"{_DF2}+seg:19,19,32", _CITYSCAPES),
    "DF2-Seg2": (f"{_DF2}+seg:19,256,512", _CITYSCAPES),
    "DFlite-Seg": (f"{_DFLITE}+seg:32,32,512", _CITYSCAPES),
    "DFlite-Seg-d8": (f"{_DFLITE}+seg:32,32,512:d8", _CITYSCAPES),
    "PL1A-Seg": ("shuffle/4x48/8x96/4x192+seg:48,96,192", _PHONE),
    "ResNet-18": ("resnet/64x2/128x2/256x2/512x2", _CLASSIFICATION),
    "ResNet-50": ("resnetb/64x3/128x4/256x6/512x3", _CLASSIFICATION),
    "ResNet-101": ("resnetb/64x3/128x4/256x23/512x3", _CLASSIFICATION),
}

_NOTES = {
    "DF2A": (
        "The authors publish 1.97 G FLOPs (MACs); the architecture they published has 1.916 G at 224x224 by our "
        "count. Why they differ is unknown."
    ),
    "PL1A-Seg": (
        "Published mIoU is at 2048x1024, published FPS at 640x384: two different settings. The BN epsilon is "
        "unknown (only BN-folded weights were published)."
    ),
}


@dataclass(frozen=True)
class ZooEntry:
    """A published network.

    Attributes:
        name: as published.
        architecture: its encoding.
        width: default input width, pixels.
        height: default input height, pixels.
        published: numbers as published, each with its platform and resolution.
        note: what a reader must know; may be empty.
    """

    name: str
    architecture: Architecture
    width: int
    height: int
    published: tuple[Published, ...]
    note: str


def names() -> list[str]:
    """Return the names of all zoo networks."""
    return list(_ENTRIES)


def find(text: str) -> str | None:
    """Return the zoo name that a text means, whatever its case, or None."""
    return {name.lower(): name for name in _ENTRIES}.get(text.lower())


def get(name: str) -> ZooEntry:
    """Return a zoo network.

    Raises:
        InputError: if there is none of that name.
    """
    found = find(name)
    if found is None:
        raise InputError(f"unknown network {quoted(name)}", hint=f"known: {', '.join(_ENTRIES)}")
    encoding, (width, height) = _ENTRIES[found]
    architecture = Architecture.parse(encoding)
    return ZooEntry(found, architecture, width, height, PUBLISHED.get(found, ()), _NOTES.get(found, ""))


def default_input(architecture: Architecture) -> tuple[int, int]:
    """Return the default input (width, height) of an architecture that has none of its own.

    Classification 224x224 (32x32 where the total stride is below 32), DF-Seg 2048x1024, PL1A-Seg 640x384.
    """
    if architecture.decoder is not None:
        return _PHONE if architecture.family == "shuffle" else _CITYSCAPES
    return _CLASSIFICATION if architecture.total_stride >= 32 else (32, 32)

"""The architecture as a value, its encoding text and its JSON form.

Grammar (white space is not allowed)::

    encoding = family { "," option } "/" stage { "/" stage } [ "+seg:" width "," width "," width [ ":d" stride ] ]
    family   = "df" | "dfb" | "shuffle" | "resnet" | "resnetb"
    option   = "stem=" conv { "-" conv } | "classes=" number | "channels=" number
    conv     = width "s" stride
    stage    = item { "," item }          (all families but shuffle)     item = width [ "x" repeats ]
             | depth "x" width            (shuffle)

``df``: three stages (3, 4, 5) of basic blocks. ``dfb``: stage 3 basic, stages 4 and 5 bottleneck by mid width,
``out = min(4·mid, 1024)``. ``shuffle``: three stages of one width each, a shuffle down followed by ``depth - 1``
shuffle units. ``resnet``, ``resnetb``: four stages (2 to 5) of basic or bottleneck blocks (out = 4·mid), for
comparison. ``+seg`` adds pyramid pooling and a decoder with channel controllers on stages 3, 4 and 5; ``:d8``
leaves the scores at stride 8.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from dfmobile.errors import EncodingError, quoted

MAX_TEXT = 4096
MAX_WIDTH = 8192
MAX_BLOCKS = 512
MAX_CLASSES = 100_000

_STAGE_KINDS = {
    "df": ("basic", "basic", "basic"),
    "dfb": ("basic", "bottleneck", "bottleneck"),
    "shuffle": ("shuffle", "shuffle", "shuffle"),
    "resnet": ("basic", "basic", "basic", "basic"),
    "resnetb": ("bottleneck", "bottleneck", "bottleneck", "bottleneck"),
}
FAMILIES = tuple(_STAGE_KINDS)
_DEFAULT_STEM = {
    "df": ((32, 2), (64, 2)),
    "dfb": ((32, 2), (64, 2)),
    "shuffle": ((8, 2), (24, 2)),
    "resnet": ((64, 4),),  # 7x7 stride 2 and a 3x3 max pool of stride 2
    "resnetb": ((64, 4),),
}
_DEFAULT_OUTPUT_STRIDE = {"df": 1, "dfb": 1, "shuffle": 4}
_GRAMMAR_HINT = "for example df/64,64,64/128,128,128/256,256,256,512 or shuffle/4x48/8x96/4x192+seg:48,96,192"


@dataclass(frozen=True)
class Stage:
    """One stage of blocks; its first block halves the map.

    Attributes:
        kind: ``basic``, ``bottleneck`` or ``shuffle``.
        widths: per block the output width (bottleneck: the mid width); all equal for ``shuffle``.
    """

    kind: str
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Decoder:
    """Segmentation decoder.

    Attributes:
        controllers: widths of the channel controllers of stages 3, 4 and 5; a fusion node is as wide as its
            controller.
        output_stride: input size / score size: 1, 2, 4 or 8, and not more than the architecture's
            ``decoder_stride``.
    """

    controllers: tuple[int, int, int]
    output_stride: int


@dataclass(frozen=True)
class Architecture:
    """An encoded network, without weights and without an input size.

    Attributes:
        family: one of ``FAMILIES``.
        stages: blocks by stage, shallow to deep.
        stem: ``(width, stride)`` of each stem conv.
        decoder: None for classification.
        classes: width of the head.
        in_channels: channels of the image.

    Raises:
        EncodingError: if the parts do not make an architecture.
    """

    family: str
    stages: tuple[Stage, ...]
    stem: tuple[tuple[int, int], ...]
    decoder: Decoder | None = None
    classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        self._check_numbers()
        kinds = tuple(stage.kind for stage in self.stages)
        if self.family not in _STAGE_KINDS:
            raise EncodingError(f"unknown family {self.family!r}", hint=f"one of: {', '.join(FAMILIES)}")
        if kinds != _STAGE_KINDS[self.family]:
            raise EncodingError(
                f"family {self.family!r} has {len(_STAGE_KINDS[self.family])} stages "
                f"({', '.join(_STAGE_KINDS[self.family])}), got {len(kinds)} ({', '.join(kinds)})",
                hint=_GRAMMAR_HINT,
            )
        widths = list(itertools.chain.from_iterable(stage.widths for stage in self.stages))
        if len(widths) > MAX_BLOCKS:
            raise EncodingError(f"{len(widths)} blocks, at most {MAX_BLOCKS} are allowed")
        for before, after in itertools.pairwise(widths):
            if after < before:
                raise EncodingError(
                    f"widths narrow from {before} to {after}", hint="widths never decrease along the network"
                )
        if self.family == "shuffle" and any(width % 2 for width in widths):
            raise EncodingError("a shuffle unit splits its channels in halves: widths must be even")
        if self.family == "shuffle" and any(len(set(stage.widths)) > 1 for stage in self.stages):
            raise EncodingError("a stage of family 'shuffle' has one width", hint="for example 4x48: depth x width")
        if self.family.startswith("resnet") and self.stem != _DEFAULT_STEM[self.family]:
            raise EncodingError("the stem of a ResNet is fixed")
        if self.family == "shuffle" and len(self.stem) != 2:
            raise EncodingError("the separable stem of family 'shuffle' has two widths, for example stem=8s2-24s2")
        if self.decoder is not None:
            if self.family not in _DEFAULT_OUTPUT_STRIDE:
                raise EncodingError(f"family {self.family!r} has no segmentation decoder")
            if self.decoder_stride % self.decoder.output_stride:
                raise EncodingError(
                    f"scores at stride {self.decoder.output_stride}, but the decoder's last map is at stride "
                    f"{self.decoder_stride}",
                    hint=f"end the encoding with :d{self.decoder_stride}, or with less",
                )

    def _check_numbers(self) -> None:
        numbers = [width for stage in self.stages for width in stage.widths]
        numbers += [width for width, _ in self.stem]
        if self.decoder is not None:
            numbers += list(self.decoder.controllers)
            if self.decoder.output_stride not in (1, 2, 4, 8):
                raise EncodingError(
                    f"output stride {self.decoder.output_stride}",
                    hint="the scores are at stride 1, 2, 4 or 8",
                )
        if not all(stage.widths for stage in self.stages):
            raise EncodingError("a stage without blocks", hint=_GRAMMAR_HINT)
        # A ResNet's fixed stem is written as one conv of stride 4.
        fixed = self.stem == _DEFAULT_STEM.get(self.family)
        if not fixed and (not 1 <= len(self.stem) <= 8 or any(stride not in (1, 2) for _, stride in self.stem)):
            raise EncodingError("a stem has one to eight convs of stride 1 or 2", hint="for example stem=32s2-64s2")
        if min(numbers) < 1 or max(numbers) > MAX_WIDTH:
            bad = min(numbers) if min(numbers) < 1 else max(numbers)
            raise EncodingError(f"width {bad} is outside 1 to {MAX_WIDTH}")
        if not 1 <= self.classes <= MAX_CLASSES:
            raise EncodingError(f"{self.classes} classes are outside 1 to {MAX_CLASSES}")
        if not 1 <= self.in_channels <= 64:
            raise EncodingError(f"{self.in_channels} input channels are outside 1 to 64")

    @property
    def total_stride(self) -> int:
        """Input extent / extent of the last stage's map; input sizes must be multiples of it."""
        stride = 1
        for _, conv_stride in self.stem:
            stride *= conv_stride
        # A ResNet's first stage keeps the map.
        halvings = len(self.stages) - (1 if self.family.startswith("resnet") else 0)
        return int(stride * 2**halvings)

    @property
    def decoder_stride(self) -> int:
        """Input extent / extent of stage 3's map, at which a decoder ends: 8 with the published stems."""
        return self.total_stride // 4

    @property
    def text(self) -> str:
        """The canonical encoding text; ``Architecture.parse`` reads it back to an equal architecture."""
        parts = [self.family]
        if self.stem != _DEFAULT_STEM[self.family]:
            parts.append("stem=" + "-".join(f"{width}s{stride}" for width, stride in self.stem))
        if self.classes != (1000 if self.decoder is None else 19):
            parts.append(f"classes={self.classes}")
        if self.in_channels != 3:
            parts.append(f"channels={self.in_channels}")
        text = "/".join([",".join(parts), *(_stage_text(self.family, stage) for stage in self.stages)])
        if self.decoder is not None:
            text += "+seg:" + ",".join(str(width) for width in self.decoder.controllers)
            if self.decoder.output_stride != _DEFAULT_OUTPUT_STRIDE[self.family]:
                text += f":d{self.decoder.output_stride}"
        return text

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read an encoding text (the module's docstring has the grammar).

        Raises:
            EncodingError: saying which part is wrong.
        """
        if len(text) > MAX_TEXT:
            raise EncodingError(f"an encoding of {len(text)} characters; at most {MAX_TEXT} are read")
        body, plus, segment = text.partition("+")
        head, *stage_texts = body.split("/")
        family, *options = head.split(",")
        if family not in _STAGE_KINDS:
            raise EncodingError(
                f"malformed encoding {quoted(text)}: it begins with {quoted(family, 20)}, not with a family",
                hint=f"families: {', '.join(FAMILIES)}; {_GRAMMAR_HINT}",
            )
        kinds = _STAGE_KINDS[family]
        if len(stage_texts) != len(kinds):
            raise EncodingError(
                f"malformed encoding {quoted(text)}: family {family!r} has {len(kinds)} stages, got {len(stage_texts)}",
                hint=_GRAMMAR_HINT,
            )
        try:
            stages = tuple(Stage(kind, _widths(kind, part)) for kind, part in zip(kinds, stage_texts, strict=True))
            decoder = _decoder(family, segment) if plus else None
            chosen = _options(family, options)
            return cls(
                family=family,
                stages=stages,
                stem=chosen.get("stem", _DEFAULT_STEM[family]),
                decoder=decoder,
                classes=chosen.get("classes", 1000 if decoder is None else 19),
                in_channels=chosen.get("channels", 3),
            )
        except EncodingError as error:
            raise EncodingError(f"malformed encoding {quoted(text)}: {error}", error.hint or _GRAMMAR_HINT) from error

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; ``from_json`` reads it back."""
        document: dict[str, Any] = {
            "encoding": self.text,
            "family": self.family,
            "stem": [{"width": width, "stride": stride} for width, stride in self.stem],
            "stages": [{"kind": stage.kind, "widths": list(stage.widths)} for stage in self.stages],
            "decoder": None,
            "classes": self.classes,
            "channels": self.in_channels,
        }
        if self.decoder is not None:
            document["decoder"] = {
                "controllers": list(self.decoder.controllers),
                "output_stride": self.decoder.output_stride,
            }
        return document

    @classmethod
    def from_json(cls, document: Any) -> Architecture:
        """Read the JSON form: its ``encoding``, checked against the spelled-out fields where those are given.

        Raises:
            EncodingError: if it is not such a document, or its parts contradict each other.
        """
        if not isinstance(document, dict) or not isinstance(document.get("encoding"), str):
            raise EncodingError("not an architecture: a JSON object with a text field 'encoding' is expected")
        architecture = cls.parse(document["encoding"])
        for name, value in architecture.to_json().items():
            if name in document and document[name] != value and name != "encoding":
                raise EncodingError(
                    f"field {name!r} contradicts encoding {architecture.text!r}",
                    hint="edit the encoding and leave the other fields out",
                )
        return architecture


def _number(text: str, what: str) -> int:
    # Not int(): it takes "+1", "1_0" and other scripts' digits.
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise EncodingError(f"{quoted(text, 20)} is not a number ({what})")
    return int(text)


def _widths(kind: str, text: str) -> tuple[int, ...]:
    widths: list[int] = []
    if kind == "shuffle":
        depth, times, width = text.partition("x")
        if not times:
            raise EncodingError(f"stage {quoted(text, 20)} is not depth x width, for example 4x48")
        count = _number(depth, "depth")
        if not 1 <= count <= MAX_BLOCKS:
            raise EncodingError(f"depth {count} is outside 1 to {MAX_BLOCKS}")
        return (_number(width, "width"),) * count
    for item in text.split(","):
        width, times, repeats = item.partition("x")
        count = _number(repeats, "repeats") if times else 1
        if not 1 <= count <= MAX_BLOCKS:
            raise EncodingError(f"repeats {count} is outside 1 to {MAX_BLOCKS}")
        widths += [_number(width, "width")] * count
    return tuple(widths)


def _stage_text(family: str, stage: Stage) -> str:
    if stage.kind == "shuffle":
        return f"{len(stage.widths)}x{stage.widths[0]}"
    if family == "df" or (family == "dfb" and stage.kind == "basic"):
        return ",".join(str(width) for width in stage.widths)
    runs = [(width, len(list(group))) for width, group in itertools.groupby(stage.widths)]
    return ",".join(f"{width}x{count}" if count > 1 else str(width) for width, count in runs)


def _decoder(family: str, text: str) -> Decoder:
    keyword, *parts = text.split(":")
    if keyword != "seg" or not 1 <= len(parts) <= 2:
        raise EncodingError(
            f"{quoted('+' + text, 40)} is not a decoder", hint="for example +seg:19,32,128 or +seg:19,32,128:d8"
        )
    controllers = tuple(_number(part, "controller width") for part in parts[0].split(","))
    if len(controllers) != 3:
        raise EncodingError(f"a decoder has three controller widths (stages 3, 4, 5), got {len(controllers)}")
    stride = _DEFAULT_OUTPUT_STRIDE.get(family, 1)
    if len(parts) == 2:
        if not parts[1].startswith("d"):
            raise EncodingError(f"{quoted(parts[1], 20)} is not an output stride, for example d8")
        stride = _number(parts[1][1:], "output stride")
    return Decoder((controllers[0], controllers[1], controllers[2]), stride)


def _options(family: str, options: list[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in ("stem", "classes", "channels") or name in chosen:
            raise EncodingError(
                f"unknown or doubled option {quoted(option, 40)}", hint="options: stem=, classes=, channels="
            )
        if name == "stem":
            convs = []
            for part in value.split("-"):
                width, letter, stride = part.partition("s")
                if not letter:
                    raise EncodingError(f"stem conv {quoted(part, 20)} is not width s stride, for example 32s2")
                convs.append((_number(width, "stem width"), _number(stride, "stem stride")))
                if convs[-1][1] not in (1, 2):
                    raise EncodingError(f"stem stride {convs[-1][1]}; 1 or 2 are allowed")
            chosen[name] = tuple(convs)
        else:
            chosen[name] = _number(value, name)
    if family.startswith("resnet") and "stem" in chosen:
        raise EncodingError("the stem of a ResNet is fixed")
    return chosen

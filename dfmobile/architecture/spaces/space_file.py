"""A search space of one's own, as a YAML file: ``--space FILE.yaml`` wherever a space is named.

The file may come from anyone: ``careful_yaml`` reads it, and every value is bounded and checked. A space from a file is
called ``name@digest`` of its content, so that a table or campaign never takes one for another of the same name.
"""

from __future__ import annotations

import hashlib
import json
import os
from shlex import quote
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.decoders import DecoderChoices
from dfmobile.careful_yaml import MAX_FILE_BYTES, first_problem, parse_yaml
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import read_bytes

SCHEMA_VERSION = 1
SUFFIXES = (".yaml", ".yml")
_HINT = "docs/reference/spaces.md explains every field"
_Width = Annotated[int, Field(ge=1, le=8192)]
_Extent = Annotated[int, Field(ge=1, le=16_384)]
_Widths = Annotated[list[_Width], Field(min_length=1, max_length=8)]
_Encoding = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StemConv(_Part):
    """One conv of the stem.

    Attributes:
        width: output channels.
        stride: 1 or 2.
    """

    width: _Width
    stride: Literal[1, 2]


class InputSize(_Part):
    """Size of an input image, pixels.

    Attributes:
        width: of the image.
        height: of the image.
    """

    width: _Extent
    height: _Extent


class DecoderFields(_Part):
    """What the decoders of a segmentation space choose from.

    Attributes:
        controllers: widths of the channel controllers, ascending; or three such lists, one a controller.
        output_strides: input size / score size, ascending.
    """

    controllers: Annotated[list[_Width | _Widths], Field(min_length=1, max_length=8)]
    output_strides: Annotated[list[Literal[1, 2, 4, 8]], Field(min_length=1, max_length=4)]

    @model_validator(mode="after")
    def _check(self) -> DecoderFields:
        nested = [isinstance(item, list) for item in self.controllers]
        if any(nested) and nested != [True] * 3:
            raise ValueError("controllers are one list of widths, or three lists: of stages 3, 4 and 5")
        return self

    @property
    def choices(self) -> DecoderChoices:
        """The decoders.

        Raises:
            InputError: if the numbers do not ascend.
        """
        strides = tuple(self.output_strides)
        lists = tuple(tuple(item) for item in self.controllers if isinstance(item, list))
        if lists:
            return DecoderChoices.of_stages(lists, strides)
        return DecoderChoices(tuple(item for item in self.controllers if isinstance(item, int)), strides)


class SpaceDocument(_Part):
    """The fields of a space file.

    Attributes:
        schema_version: of this format.
        name: what to call the space.
        family: of its blocks: ``df``, ``dfb`` or ``shuffle``.
        widths: of its blocks, ascending (bottlenecks: mid widths).
        max_depth: most blocks a stage, unless ``--max-depth`` says otherwise.
        default_input: where a user names none.
        stem: convs; the family's own where left out.
        classes: width of the head, or of the scores.
        channels: of the image.
        decoders: makes it a segmentation space.
        members: encodings of the only members; one without a decoder stands for it with every decoder.
    """

    schema_version: Literal[1]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    family: Literal["df", "dfb", "shuffle"]
    widths: Annotated[list[_Width], Field(min_length=1, max_length=32)]
    max_depth: Annotated[int, Field(ge=1, le=24)]
    default_input: InputSize
    stem: Annotated[list[StemConv], Field(min_length=1, max_length=8)] | None = None
    classes: Annotated[int, Field(ge=1, le=100_000)] | None = None
    channels: Annotated[int, Field(ge=1, le=64)] = 3
    decoders: DecoderFields | None = None
    members: Annotated[list[_Encoding], Field(min_length=1, max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _check(self) -> SpaceDocument:
        if self.widths != sorted(set(self.widths)):
            raise ValueError(f"widths {self.widths} do not ascend")
        if self.family == "shuffle" and any(width % 2 for width in self.widths):
            raise ValueError("widths of family shuffle must be even: its units split channels in halves")
        return self

    @property
    def template(self) -> str:
        """Encoding of the smallest member."""
        options: list[str] = [self.family]
        if self.stem is not None:
            options.append("stem=" + "-".join(f"{conv.width}s{conv.stride}" for conv in self.stem))
        options += [] if self.classes is None else [f"classes={self.classes}"]
        options.append(f"channels={self.channels}")
        stage = f"1x{self.widths[0]}" if self.family == "shuffle" else str(self.widths[0])
        text = "/".join([",".join(options), stage, stage, stage])
        if self.decoders is not None:
            first = ",".join(str(widths[0]) for widths in self.decoders.choices.stages)
            text += f"+seg:{first}:d{self.decoders.output_strides[0]}"
        return text


class FileSpace(ChainSpace):
    """A chain space that a file describes.

    Args:
        document: the file's fields.
        max_depth: most blocks a stage; None: the file's.
        source: how a command names the space, normally the file's path.

    Raises:
        InputError: if the fields make no space.
    """

    def __init__(self, document: SpaceDocument, max_depth: int | None = None, source: str = "") -> None:
        fields = document.model_dump(mode="json", exclude_none=True)
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        name = f"{document.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        chosen = document.decoders
        decoders = None
        if chosen is not None:
            decoders = chosen.choices
        size = (document.default_input.width, document.default_input.height)
        template = Architecture.parse(document.template)
        depth = document.max_depth if max_depth is None else max_depth
        super().__init__(name, template, tuple(document.widths), depth, size, decoders)
        if any(extent % self.total_stride for extent in size):
            raise InputError(
                f"default_input {size[0]}x{size[1]} is not a multiple of the total stride, {self.total_stride}"
            )
        self._fields = fields
        self._source = source or name

    @property
    def source(self) -> str:
        """See base class."""
        return self._source

    @property
    def document(self) -> dict[str, Any]:
        """See base class."""
        return self._fields


def is_file_name(name: str) -> bool:
    """Tell whether a space is named by its file: it ends in ``.yaml`` or ``.yml``."""
    return name.lower().endswith(SUFFIXES)


def load_space(path: str | os.PathLike[str], max_depth: int | None = None) -> FileSpace:
    """Read a search space from its YAML file.

    Args:
        path: of the file.
        max_depth: most blocks a stage; None: the file's.

    Raises:
        StorageError: if the file cannot be read.
        FileFormatError: if it describes no space; the message names the line or the field.
        InputError: if ``max_depth`` makes no space.
    """
    origin = os.fspath(path)
    data = read_bytes(path, MAX_FILE_BYTES)
    return parse_space(parse_yaml(data, origin, "a search space", _HINT), max_depth, origin, source=quote(origin))


def parse_space(document: Any, max_depth: int | None, origin: str, *, source: str = "") -> FileSpace:
    """Make the search space of a document.

    Args:
        document: as in a YAML file.
        max_depth: most blocks a stage; None: the document's.
        origin: what to call the document in messages.
        source: how a command names the space; empty: by its name.

    Raises:
        FileFormatError: if it describes no space; the message names the field.
        InputError: if ``max_depth`` makes no space.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        text = str(version)[:40]
        raise FileFormatError(f"{origin}: schema_version is {text}, this dfmobile reads {SCHEMA_VERSION}", hint=_HINT)
    try:
        fields = SpaceDocument.model_validate(document)
    except ValidationError as error:
        raise FileFormatError(f"{origin}: {first_problem(error)}", hint=_HINT) from error
    kind = FileSpace if fields.members is None else _member_space()
    try:
        space = kind(fields, source=source)
    except InputError as error:
        raise FileFormatError(f"{origin}: {error}", hint=error.hint or _HINT) from error
    return space if max_depth is None else kind(fields, max_depth, source)


def _member_space() -> type[FileSpace]:
    from dfmobile.architecture.spaces.members import MemberSpace  # it builds on this module

    return MemberSpace


def space_document(space: ChainSpace, name: str) -> dict[str, Any]:
    """Return the document that describes a space, under another name and without ``members``.

    Args:
        space: registered or from a file.
        name: as the document is to call it.
    """
    template = space.template
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "family": template.family,
        "widths": list(space.widths),
        "max_depth": space.max_depth,
        "default_input": {"width": space.default_input[0], "height": space.default_input[1]},
        "stem": [{"width": width, "stride": stride} for width, stride in template.stem],
        "classes": template.classes,
        "channels": template.in_channels,
    }
    if space.decoders is not None:
        document["decoders"] = {
            "controllers": list(space.decoders.controllers)
            if space.decoders.by_stage is None
            else [list(widths) for widths in space.decoders.by_stage],
            "output_strides": list(space.decoders.output_strides),
        }
    return document

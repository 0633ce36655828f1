"""What a latency table belongs to, and how it says why a measurement does not belong to it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dfmobile import __version__
from dfmobile.errors import FileFormatError
from dfmobile.graph.exported import EXPORT_VERSION
from dfmobile.latency.backends.base import Backend

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
MAX_KEYS = 1_000_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TableHeader(_Model):
    """One table: one device fingerprint, backend and runtime version, precision, threads, affinity.

    Attributes:
        granularity: ``block`` (measured) or ``layer`` (recorded logs); a predictor never mixes them.
        device: URI.
        device_fingerprint: which hardware and operating system.
        device_summary: a line for people.
        device_profile: the whole profile, JSON.
        backend: registered name.
        runtime: of the runtime.
        runtime_version: of the runtime.
        library_sha256: of the runtime's library; None where it is not a file.
        flags: of the runtime.
        precision: e.g. ``fp32``.
        threads: of the runtime.
        affinity: mask of the cores, hexadecimal; None where there is none.
        created_by: dfmobile's version.
        export_version: ``graph.exported.EXPORT_VERSION`` of the model files that were measured; 1 where a table does
            not say.
    """

    granularity: Literal["block", "layer"]
    device: Text
    device_fingerprint: Text
    device_summary: Text
    device_profile: dict[str, Any]
    backend: Text
    runtime: Text
    runtime_version: Text
    library_sha256: Text | None
    flags: dict[str, Any]
    precision: Text
    threads: Annotated[int, Field(ge=1, le=256)]
    affinity: Text | None
    created_by: Text
    export_version: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @property
    def replay(self) -> bool:
        """Tell whether recorded logs were played instead of a device measured: then no time in it is a measurement."""
        return self.flags.get("replay") is True

    @classmethod
    def of(cls, backend: Backend) -> TableHeader:
        """Return the header of a table that this backend's measurements belong to."""
        from dfmobile.devices.profile import summary

        identity, device = backend.identity(), backend.device
        return cls(
            granularity="block",
            device=str(device.uri),
            device_fingerprint=device.fingerprint,
            device_summary=summary(device.profile),
            device_profile=device.profile.model_dump(mode="json"),
            backend=backend.name,
            runtime=identity.name,
            runtime_version=identity.version,
            library_sha256=identity.library_sha256,
            flags=identity.flags,
            precision=backend.precision,
            threads=backend.threads,
            affinity=backend.affinity(),
            created_by=__version__,
            export_version=EXPORT_VERSION,
        )

    def differences(self, other: TableHeader) -> list[str]:
        """Return what keeps measurements of ``other`` out of this table, e.g. ``threads: 1 here, 4 there``.

        The URI is not compared (a phone may be on a cable today and on the network tomorrow), nor is what is
        only for people.
        """
        names = ("granularity", "device_fingerprint", "backend", "runtime", "runtime_version", "library_sha256")
        flags = dict.fromkeys((*self.flags, *other.flags))
        pairs = [
            *((name.replace("_", " "), getattr(self, name), getattr(other, name)) for name in names),
            *((f"flag {name}", self.flags.get(name), other.flags.get(name)) for name in flags),
            *((name, getattr(self, name), getattr(other, name)) for name in ("precision", "threads", "affinity")),
            ("export version", self.export_version, other.export_version),
        ]
        return [
            f"{label} is {_short(mine)} in the table and {_short(theirs)} now"
            for label, mine, theirs in pairs
            if mine != theirs
        ]


class Build(_Model):
    """Something that was asked to be in the table.

    Attributes:
        space: name of the search space; None for a single network.
        network: encoding of the single network; None for a space.
        width: of the input image, pixels.
        height: of the input image, pixels.
        passes: asked for.
        latency_max_ms: blocks that alone take longer are skipped; None: none is.
        keys: LUT keys.
    """

    space: Text | None
    network: Text | None
    width: Annotated[int, Field(ge=1, le=2**20)]
    height: Annotated[int, Field(ge=1, le=2**20)]
    passes: Annotated[int, Field(ge=1, le=100_000)]
    latency_max_ms: Annotated[float, Field(gt=0, lt=math.inf)] | None
    keys: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=200_000)]], Field(max_length=MAX_KEYS)
    ]

    @property
    def target(self) -> str:
        """What was built, for people: a space, or an encoding."""
        return self.space or self.network or "?"

    @property
    def input_text(self) -> str:
        """Input size as users write it, e.g. ``640x384``."""
        return f"{self.width}x{self.height}"

    def same_target(self, other: Build) -> bool:
        """Tell whether both are the same space or network at the same input size."""
        mine = (self.space, self.network, self.width, self.height)
        return mine == (other.space, other.network, other.width, other.height)


def parse_header(document: Any, origin: str) -> TableHeader:
    """Read a header back.

    Raises:
        FileFormatError: naming the first field that cannot be.
    """
    try:
        return TableHeader.model_validate(document)
    except ValidationError as error:
        raise damaged(origin, "header", error) from error


def parse_builds(document: Any, origin: str) -> list[Build]:
    """Read the list of builds back.

    Raises:
        FileFormatError: naming the first field that cannot be.
    """
    if not isinstance(document, list) or len(document) > 10_000:
        raise FileFormatError(f"{origin}: the list of builds is damaged")
    try:
        return [Build.model_validate(item) for item in document]
    except ValidationError as error:
        raise damaged(origin, "builds", error) from error


def damaged(origin: str, what: str, error: ValidationError) -> FileFormatError:
    """Return the error that names the first field of a stored document that cannot be."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:40] for part in (what, *first["loc"]))
    return FileFormatError(f"{origin}: {where}: {first['msg']}", hint="build the table again: dfmobile lut build")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"

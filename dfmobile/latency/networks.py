"""Whole networks that were measured for a table: to correct its predictions, or to check them. Kept in the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dfmobile.architecture import Network
from dfmobile.errors import FileFormatError
from dfmobile.latency.header import Text, damaged
from dfmobile.latency.marginal import by_build, summarise_isolated
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.statistics import LatencyStatistics, quiet_latency, robust_half_width
from dfmobile.latency.table import LatencyTable

PREFIX = "network "


class _Pass(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    session: Annotated[int, Field(ge=1)]
    model_sha256: str
    drift: Annotated[float, Field(gt=0, lt=1000)] | None
    result: dict[str, Any]


class _Rejected(_Pass):
    after: Annotated[float, Field(gt=0, lt=1000)] | None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    encoding: Text
    width: Annotated[int, Field(ge=1, le=2**20)]
    height: Annotated[int, Field(ge=1, le=2**20)]
    blocks: Annotated[dict[Text, Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1, max_length=10_000)]
    passes: Annotated[list[_Pass], Field(max_length=10_000)]
    rejected: Annotated[list[_Rejected], Field(max_length=10_000)] = []


@dataclass
class MeasuredNetwork:
    """A network and its passes, in the order of measuring.

    Attributes:
        encoding: of the architecture.
        width: of the input image, pixels.
        height: of the input image, pixels.
        blocks: how often each block occurs, by digest of its key.
        passes: of the whole network.
        sessions: of each pass: number of the session in the table.
        drift: of each pass: fastest run of the anchor block measured last, over that of a usual pass of its entry;
            None without one.
        model_sha256: of each pass.
        rejected: passes beside an anchor that was disturbed, as the table keeps them; they count for nothing.
    """

    encoding: str
    width: int
    height: int
    blocks: dict[str, int]
    passes: list[PassResult] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    drift: list[float | None] = field(default_factory=list)
    model_sha256: list[str] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, network: Network) -> MeasuredNetwork:
        """Return a network without passes."""
        counts = Counter(block.digest for block in network.blocks)
        return cls(network.architecture.text, network.width, network.height, dict(counts))

    def add(self, result: PassResult, session: int, drift: float | None, model_sha256: str) -> None:
        """Add a pass."""
        self.passes.append(result)
        self.sessions.append(session)
        self.drift.append(drift)
        self.model_sha256.append(model_sha256)
        self.__dict__.pop("statistics", None)

    def reject(
        self, result: PassResult, session: int, drift: float | None, after: float | None, model_sha256: str
    ) -> None:
        """Keep a pass that does not count, with the anchors before and after it."""
        self.rejected.append(
            {
                "session": session,
                "model_sha256": model_sha256,
                "drift": drift,
                "after": after,
                "result": result.to_dict(),
            }
        )

    @cached_property
    def statistics(self) -> LatencyStatistics:
        """Of all passes."""
        return summarise_isolated(self.passes)

    @property
    def quiet_ms(self) -> float:
        """The undisturbed latency (see ``quiet_latency``)."""
        return self.statistics.quiet_ms

    @property
    def pass_fastest_ms(self) -> list[float]:
        """Fastest run of each pass, in the order of measuring."""
        return [min(item.hot_ms) for item in self.passes]

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of ``quiet_ms``, relative; infinite below three passes (or builds)."""
        return robust_half_width(by_build(self.passes, self.pass_fastest_ms)) / self.quiet_ms

    def halves_ms(self) -> tuple[float, float] | None:
        """Return the undisturbed latency by the earlier and by the later passes alone; None below two passes."""
        if len(self.passes) < 2:
            return None
        samples, middle = [item.hot_ms for item in self.passes], len(self.passes) // 2
        return quiet_latency(samples[:middle]), quiet_latency(samples[middle:])

    @property
    def document_name(self) -> str:
        """Under which name a table keeps it."""
        return f"{PREFIX}{self.width}x{self.height} {self.encoding}"

    def to_dict(self) -> dict[str, Any]:
        """Return the network as a JSON document."""
        rows = zip(self.sessions, self.model_sha256, self.drift, self.passes, strict=True)
        return {
            "encoding": self.encoding,
            "width": self.width,
            "height": self.height,
            "blocks": self.blocks,
            "passes": [
                {"session": session, "model_sha256": sha256, "drift": drift, "result": result.to_dict()}
                for session, sha256, drift, result in rows
            ],
            "rejected": self.rejected,
        }


def parse_network(document: Any, origin: str) -> MeasuredNetwork:
    """Read a measured network back.

    Raises:
        FileFormatError: naming the first field that cannot be.
    """
    try:
        parsed = _Document.model_validate(document)
    except ValidationError as error:
        raise damaged(origin, "measured network", error) from error
    found = MeasuredNetwork(parsed.encoding, parsed.width, parsed.height, dict(parsed.blocks))
    for number, item in enumerate(parsed.passes):
        result = PassResult.from_dict(item.result, f"{origin}, {parsed.encoding[:60]}, pass {number}")
        if not result.hot_ms:
            raise FileFormatError(f"{origin} is damaged: a pass of {parsed.encoding[:60]} has no samples")
        found.add(result, item.session, item.drift, item.model_sha256)
    found.rejected = [item.model_dump(mode="json") for item in parsed.rejected]
    return found


def stored_network(table: LatencyTable, network: Network) -> MeasuredNetwork:
    """Return what a table has of a network: without passes where it has none.

    Raises:
        FileFormatError: if it is damaged, or is of other blocks.
    """
    fresh = MeasuredNetwork.of(network)
    document = table.document(fresh.document_name)
    if document is None:
        return fresh
    found = parse_network(document, str(table.path))
    if (found.document_name, found.blocks) != (fresh.document_name, fresh.blocks):
        raise FileFormatError(
            f"{table.path}: the measured network {fresh.encoding} has other blocks than this dfmobile gives it",
            hint="the table was measured by another version: build a new one",
        )
    return found


def stored_networks(table: LatencyTable, width: int, height: int, encodings: Sequence[str]) -> list[MeasuredNetwork]:
    """Return measured networks by their encodings.

    Raises:
        FileFormatError: if one is not there, or damaged.
    """
    found = []
    for encoding in encodings:
        name = f"{PREFIX}{width}x{height} {encoding}"
        document = table.document(name)
        if document is None:
            raise FileFormatError(f"{table.path} is damaged: it lacks the measured network {encoding[:80]}")
        network = parse_network(document, str(table.path))
        if network.document_name != name:
            raise FileFormatError(f"{table.path} is damaged: {name[:80]!r} holds another network")
        found.append(network)
    return found

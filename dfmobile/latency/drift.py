"""Did the machine change its pace in the middle of a build? Anchors tell.

An anchor is a block of the build that is measured again and again, one pass before every sixteenth job. All its
measurements should be equal. Where one is not, within ``TOLERANCE`` of their median, the passes that were measured
next to it lie in a slow (or a fast) phase, and are measured again.

An anchor's time is its fastest run: a phase of seconds slows all runs of a pass down, a short disturbance does not.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dfmobile.architecture import PlacedBlock
from dfmobile.latency.contamination import TOLERANCE
from dfmobile.latency.header import Text, damaged
from dfmobile.latency.measurement import MAX_SAMPLE_MS, PassResult
from dfmobile.latency.provenance import utc_now
from dfmobile.latency.table import LatencyTable

PREFIX = "anchors "
EVERY = 16
ANCHORS = 3
# Shorter blocks do not repeat within the tolerance, longer ones cost too much.
RANGE_MS = (0.5, 15.0)
# A median needs some measurements, so shorter builds have no anchors.
LEAST_MEASUREMENTS = 3
LEAST_JOBS = LEAST_MEASUREMENTS * EVERY


class _Measurement(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: Annotated[str, Field(min_length=1, max_length=200_000)]
    text: Text
    fastest_ms: Annotated[float, Field(gt=0, le=MAX_SAMPLE_MS)]
    utc: Text


class AnchorSeries(BaseModel):
    """The anchors of one sitting, as a table keeps them.

    Attributes:
        measurements: in the order of measuring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    measurements: Annotated[list[_Measurement], Field(max_length=1_000_000)]


def stored_anchors(table: LatencyTable) -> list[AnchorSeries]:
    """Return the anchors of all sittings of a table.

    Raises:
        FileFormatError: if they are damaged.
    """
    found = []
    for name, document in table.documents(PREFIX).items():
        try:
            found.append(AnchorSeries.model_validate(document))
        except ValidationError as error:
            raise damaged(str(table.path), name, error) from error
    return found


def largest_deviation(series: Sequence[AnchorSeries]) -> tuple[int, float | None]:
    """Return how many anchor measurements there are, and the largest relative distance of one from their median."""
    by_key: dict[str, list[float]] = defaultdict(list)
    for item in series:
        for measurement in item.measurements:
            by_key[measurement.key].append(measurement.fastest_ms)
    found = [
        abs(value / statistics.median(values) - 1)
        for values in by_key.values()
        if len(values) >= LEAST_MEASUREMENTS
        for value in values
    ]
    return sum(map(len, by_key.values())), max(found, default=None)


class Anchors:
    """Anchors of one sitting, and which passes were measured between which of them.

    Args:
        table: keeps them.
        session: of the table.
        blocks: the anchors; empty for none.
        earlier: fastest runs in ms of earlier sittings, by key.
    """

    def __init__(
        self, table: LatencyTable, session: int, blocks: Sequence[PlacedBlock], earlier: Mapping[str, Sequence[float]]
    ) -> None:
        self._table, self._session, self._blocks, self._earlier = table, session, list(blocks), earlier
        self._asked: list[PlacedBlock] = []
        self._measured: dict[int, _Measurement] = {}
        self._members: dict[int, list[tuple[str, int]]] = defaultdict(list)
        self._jobs = 0

    @classmethod
    def choose(
        cls, table: LatencyTable, session: int, blocks: Sequence[PlacedBlock], run_ms: Mapping[str, float]
    ) -> Anchors:
        """Return anchors out of the blocks of a build: those of earlier sittings, else a few of middling length.

        Args:
            table: keeps them.
            session: of the table.
            blocks: of the build.
            run_ms: about how long each takes, by key.
        """
        earlier: dict[str, list[float]] = defaultdict(list)
        for series in stored_anchors(table):
            for measurement in series.measurements:
                earlier[measurement.key].append(measurement.fastest_ms)
        known = [block for block in blocks if min(earlier.get(block.key, [0.0])) >= RANGE_MS[0]]
        fit = [block for block in blocks if RANGE_MS[0] <= run_ms[block.key] <= RANGE_MS[1]]
        fit.sort(key=lambda block: (run_ms[block.key], block.key))
        spread = [fit[round(float(place))] for place in np.linspace(0, len(fit) - 1, min(ANCHORS, len(fit)))]
        return cls(table, session, known or spread, earlier)

    def before(self, key: str, pass_index: int) -> tuple[str, PlacedBlock] | None:
        """Take note that a pass is about to be measured; return (job id, block) of an anchor that is due first."""
        due = self._next() if self._jobs % EVERY == 0 else None
        self._jobs += 1
        self._members[len(self._asked) - 1].append((key, pass_index))
        return due

    def last(self) -> tuple[str, PlacedBlock] | None:
        """Return the anchor that closes a stream of jobs."""
        self._jobs = 0
        return self._next()

    def _next(self) -> tuple[str, PlacedBlock] | None:
        if not self._blocks:
            return None
        number = len(self._asked)
        self._asked.append(self._blocks[number % len(self._blocks)])
        return f"anchor-{number}", self._asked[number]

    def take(self, identifier: str, result: PassResult) -> bool:
        """Take a result if it is an anchor's, and tell whether it was."""
        kind, _, number = identifier.partition("-")
        if kind != "anchor":
            return False
        block = self._asked[int(number)]
        self._measured[int(number)] = _Measurement(
            key=block.key, text=block.text, fastest_ms=min(result.hot_ms), utc=utc_now()
        )
        if min(result.hot_ms) < RANGE_MS[0]:  # the estimate was wrong: this one is too short to tell anything
            self._blocks = [other for other in self._blocks if other.key != block.key]
        series = AnchorSeries(measurements=[self._measured[place] for place in sorted(self._measured)])
        self._table.set_document(f"{PREFIX}{self._session:06d}", series.model_dump(mode="json"))
        return True

    def suspects(self) -> dict[tuple[str, int], str]:
        """Return (key, pass index) of every pass next to an anchor that deviates, with the reason."""
        values = {key: list(known) for key, known in self._earlier.items()}
        for measurement in self._measured.values():
            values.setdefault(measurement.key, []).append(measurement.fastest_ms)
        found: dict[tuple[str, int], str] = {}
        for number, measurement in sorted(self._measured.items()):
            known = values[measurement.key]
            usual_ms = statistics.median(known)
            if len(known) < LEAST_MEASUREMENTS or usual_ms < RANGE_MS[0]:
                continue
            ratio = measurement.fastest_ms / usual_ms
            if abs(ratio - 1) > TOLERANCE:
                reason = f"the anchor next to it took {ratio:.2f} of its usual time ({measurement.text})"
                for member in (*self._members[number - 1], *self._members[number]):
                    found.setdefault(member, reason)
        return found

    def forget(self, passes: Sequence[tuple[str, int]]) -> None:
        """Take note that passes were withdrawn: where they lay before does not matter any more."""
        gone = set(passes)
        for number, members in self._members.items():
            self._members[number] = [member for member in members if member not in gone]

"""Measure whole networks for a table: interleaved with anchor blocks, to a stated precision, in any number of sittings.

Rounds have one pass of every network in a new random order, so the earlier and the later passes of each network lie
in separate halves of the run. Before every third network, one of a few blocks of the table (an anchor) is measured
again: its time over its entry says how far the machine is from where it was when the table was built.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dfmobile.architecture import Network, PlacedBlock
from dfmobile.errors import BackendError, InputError
from dfmobile.files import FileLock
from dfmobile.graph import Graph
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.backends.base import Backend, MeasureJob
from dfmobile.latency.header import TableHeader
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import ModelFolder
from dfmobile.latency.networks import PREFIX, MeasuredNetwork, parse_network, stored_network
from dfmobile.latency.provenance import session_provenance
from dfmobile.latency.table import LatencyTable, TableEntry

# A network runs longer than a block, so it needs fewer runs; passes are what tells how well it repeats.
NETWORK_PROTOCOL = Protocol(passes=4, runs=10, min_runs=3, hot_budget_ms=200.0, cold_runs=0, warm_up_ms=30.0)
ANCHOR_PROTOCOL = Protocol(passes=1, runs=8, min_runs=3, hot_budget_ms=60.0, cold_runs=0, warm_up_ms=15.0)
_ANCHORS = 3
_ANCHOR_EVERY = 3  # networks
_ANCHOR_RANGE_MS = (0.5, 15.0)
# An anchor repeats within 2 to 3 % on a machine that does nothing else; 10 % is a disturbance, as in a build's guard.
_DISTURBED = 0.10
_TRIES = 2
_LEAST_LEVELS, _REMEMBERED = 10, 200


@dataclass(frozen=True)
class NetworkModel:
    """A whole network as something to make a model file of.

    Attributes:
        network: the network.
    """

    network: Network

    @property
    def key(self) -> str:
        """Which model it is."""
        return f"network {self.network.width}x{self.network.height} {self.network.architecture.text}"

    @cached_property
    def digest(self) -> str:
        """Short name of the key, 12 hexadecimal digits."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    @property
    def graph(self) -> Graph:
        """Deployed graph; not kept, since hundreds of them would fill the memory."""
        return fold_batch_norm(self.network.graph)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        done: passes of networks recorded, earlier sittings included.
        total: passes that are known to be needed; more where networks turn out to need them.
        network: encoding of the one measured last; empty at first.
        drift: last anchor over its entry in the table; None without one.
    """

    done: int
    total: int
    network: str
    drift: float | None


def anchor_blocks(entries: Sequence[TableEntry], blocks: Sequence[PlacedBlock]) -> list[PlacedBlock]:
    """Return a few blocks of a table that take neither too short to repeat well nor too long to measure often.

    They are spread over the time that blocks take, and one has as many weights as any: what slows memory down and not
    the core (another program on another core) shows in that one only.
    """
    known = {entry.key: entry for entry in entries}
    low, high = _ANCHOR_RANGE_MS
    found = sorted((known[block.key].hot_ms, block.key, block) for block in blocks if block.key in known)
    middle = [item for item in found if low <= item[0] <= high] or found[-_ANCHORS:]
    if not middle:
        return []
    heaviest = max(middle, key=lambda item: (known[item[1]].weight_bytes, item[1]))
    others = [item for item in middle if item is not heaviest]
    places = np.linspace(0, len(others) - 1, min(_ANCHORS - 1, len(others)))
    return [*(others[round(place)][2] for place in places), heaviest[2]]


def measure_networks(
    path: str | os.PathLike[str],
    networks: Sequence[Network],
    backend: Backend,
    *,
    anchors: Sequence[PlacedBlock] = (),
    protocol: Protocol = NETWORK_PROTOCOL,
    half_width: float | None = None,
    max_passes: int | None = None,
    seed: int = 0,
    progress: Callable[[RunProgress], None] | None = None,
) -> list[MeasuredNetwork]:
    """Measure what a table lacks of whole networks; run again, it goes on where it was stopped in any way.

    Args:
        path: of the table; it must be of this backend.
        networks: distinct.
        backend: of the table.
        anchors: blocks of the table, measured in turn, one before every third network.
        protocol: of each pass; ``passes`` is how many a network gets at least.
        half_width: go on, round by round, with those whose latency is not known to within this share (95 %).
        max_passes: with ``half_width``: at most so many a network; None: twice ``protocol.passes``.
        seed: of the order of measuring.
        progress: called before the first pass and after each.

    Returns:
        One measured network each, in the order given.

    Raises:
        InputError: if the table belongs to another device, backend, version, precision, threads or affinity.
        LockedError: if another process writes to the table.
        StorageError, BackendError, DeviceError, FileFormatError: as ``build_table``.
    """
    path = Path(path)
    tell = progress or (lambda _: None)
    with FileLock(path, "measuring networks for the table"), open_for(path, backend) as table:
        found = [stored_network(table, network) for network in networks]
        run = _Run(table, backend, dataclasses.replace(protocol, threads=backend.threads), anchors, seed)
        least = protocol.passes
        most = max(least, max_passes or 2 * least) if half_width is not None else least
        with ModelFolder(
            path.with_name(f".{path.name}.networks"),
            backend.model_format,
            backend.file_precision,
            opset=backend.file_options.opset,
        ) as models:
            run.models = models
            done = sum(len(item.passes) for item in found)
            total = sum(max(len(item.passes), least) for item in found)
            tell(RunProgress(done, total, "", None))
            for round_index in range(most):
                todo = [
                    (network, item)
                    for network, item in zip(networks, found, strict=True)
                    if len(item.passes) <= round_index
                    and (round_index < least or (half_width is not None and item.half_width > half_width))
                ]
                if not todo and round_index >= least:
                    break
                total += len(todo) if round_index >= least else 0
                for item in run.round(todo, round_index):
                    done += 1
                    tell(RunProgress(done, total, item.encoding, item.drift[-1]))
    return found


def open_for(path: Path, backend: Backend) -> LatencyTable:
    """Open a table to add measurements of a backend.

    Raises:
        InputError: if they do not belong into it.
    """
    table = LatencyTable.open(path)
    differences = table.header.differences(TableHeader.of(backend))
    if differences:
        table.close()
        raise InputError(
            f"{path} holds other measurements: {'; '.join(differences)}",
            hint="measure with what the table was built with, or build another table",
        )
    return table


@dataclass(frozen=True)
class _Waiting:
    """A pass that waits for the anchor after it."""

    network: Network
    item: MeasuredNetwork
    result: PassResult
    sha256: str
    before: float | None


class _Run:
    """One process's share of measuring networks."""

    def __init__(
        self,
        table: LatencyTable,
        backend: Backend,
        protocol: Protocol,
        anchors: Sequence[PlacedBlock],
        seed: int,
    ) -> None:
        self._table, self._backend, self._protocol, self._seed = table, backend, protocol, seed
        self._anchor_protocol = dataclasses.replace(ANCHOR_PROTOCOL, threads=backend.threads)
        self._anchors = list(anchors)
        # Like is compared with like: the fastest run of one pass, with that of a usual pass of the table.
        passes = table.passes() if self._anchors else {}
        self._anchor_ms = [
            float(np.median([min(result.hot_ms) for _, result in passes[block.key]])) for block in self._anchors
        ]
        self._levels = known_levels(table) if self._anchors else []
        self._turn = 0
        self._drift: float | None = None
        self._session: int | None = None
        self.models: ModelFolder

    def round(self, todo: Sequence[tuple[Network, MeasuredNetwork]], round_index: int) -> Iterator[MeasuredNetwork]:
        """Measure one pass of each network, store it, and yield the network.

        A pass beside an anchor that is far from the usual level is measured again, at most ``_TRIES`` times: whatever
        disturbed the anchor disturbed it. Where the level stays, it becomes the usual one.
        """
        order = np.random.default_rng([self._seed, round_index]).permutation(len(todo))
        queue = deque(int(position) for position in order)
        tries: Counter[int] = Counter()
        under_way: dict[str, tuple[int, str]] = {}
        waiting: list[tuple[int, _Waiting]] = []

        def jobs() -> Iterator[MeasureJob]:
            place = 0
            while queue:
                if self._anchors and place % _ANCHOR_EVERY == 0:
                    yield self._anchor_job()
                place += 1
                position = queue.popleft()
                model = self.models.model(NetworkModel(todo[position][0]))
                under_way[f"network-{position}"] = (position, model.sha256)
                yield MeasureJob(f"network-{position}", model.path, self._protocol, repetition=round_index)
            if self._anchors:
                yield self._anchor_job()

        def settle(after: float | None) -> Iterator[MeasuredNetwork]:
            while waiting:
                position, found = waiting.pop(0)
                if tries[position] < _TRIES and self._disturbed(found.before, after):
                    tries[position] += 1
                    self._reject(found, after)
                    queue.append(position)
                else:
                    self._store(found)
                    self.models.release(NetworkModel(found.network), last=False)
                    yield found.item

        try:
            while queue:
                for identifier, result in self._backend.measure(jobs()):
                    kind, _, rest = identifier.partition("-")
                    if kind == "anchor":
                        self._drift = min(result.hot_ms) / self._anchor_ms[int(rest.rpartition("-")[2])]
                        yield from settle(self._drift)
                        self._levels.append(self._drift)
                        continue
                    if identifier not in under_way:
                        raise BackendError(
                            f"backend {self._backend.name} returned a result for unknown job {identifier!r}"
                        )
                    position, sha256 = under_way.pop(identifier)
                    network, item = todo[position]
                    waiting.append((position, _Waiting(network, item, result, sha256, self._drift)))
                    if not self._anchors:
                        yield from settle(None)
                if under_way:
                    raise BackendError(
                        f"backend {self._backend.name} ended with {len(under_way)} networks not measured",
                        hint="run the command again: what is recorded stays",
                    )
                yield from settle(None)
        finally:
            for _, found in waiting:  # interrupted: what was measured is kept
                self._store(found)

    def _anchor_job(self) -> MeasureJob:
        number = self._turn % len(self._anchors)
        self._turn += 1
        model = self.models.model(self._anchors[number])
        return MeasureJob(f"anchor-{self._turn}-{number}", model.path, self._anchor_protocol)

    def _disturbed(self, *anchors: float | None) -> bool:
        """Tell whether one of the anchors beside a pass is far from the usual level."""
        if len(self._levels) < _LEAST_LEVELS:
            return False
        usual = float(np.median(self._levels[-_REMEMBERED:]))
        return any(abs(value / usual - 1) > _DISTURBED for value in anchors if value is not None)

    def _store(self, found: _Waiting) -> None:
        item, result = found.item, found.result
        if not result.hot_ms or not all(math.isfinite(value) for value in result.hot_ms):
            raise BackendError(f"backend {self._backend.name} gave no samples of {item.encoding}")
        item.add(result, self._started(), found.before, found.sha256)
        self._table.set_document(item.document_name, item.to_dict())

    def _reject(self, found: _Waiting, after: float | None) -> None:
        found.item.reject(found.result, self._started(), found.before, after, found.sha256)
        self._table.set_document(found.item.document_name, found.item.to_dict())

    def _started(self) -> int:
        if self._session is None:
            self._session = self._table.start_session(session_provenance(self._backend, self._protocol, self._seed))
        return self._session


def known_levels(table: LatencyTable) -> list[float]:
    """Return the anchors that earlier sittings measured beside networks, over their entries.

    Raises:
        FileFormatError: if a network is damaged.
    """
    networks = [parse_network(document, str(table.path)) for document in table.documents(PREFIX).values()]
    return [value for network in networks for value in network.drift if value is not None]

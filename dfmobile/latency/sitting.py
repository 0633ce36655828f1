"""One process's share of building a table: which pass is next, and what becomes of what it gave."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dfmobile.architecture import PlacedBlock
from dfmobile.errors import BackendError
from dfmobile.latency.adaptive import Adaptive, Reached
from dfmobile.latency.backends.base import Backend, JobContext, MeasureJob
from dfmobile.latency.context import ContextGraph, prefix_of, with_prefix
from dfmobile.latency.guards import Guards
from dfmobile.latency.header import Build
from dfmobile.latency.marginal import cost_samples
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import BlockModel, ModelFolder
from dfmobile.latency.network_runs import ANCHOR_PROTOCOL
from dfmobile.latency.output_check import check_outputs
from dfmobile.latency.provenance import session_provenance
from dfmobile.latency.schedule import Remaining, TimeModel, interleave, shuffled
from dfmobile.latency.table import LatencyTable


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        done: passes recorded or settled, earlier sittings included.
        total: passes of the build.
        block: what was measured last, for people; empty in the first report, before anything is measured.
        seconds_left: estimate.
    """

    done: int
    total: int
    block: str
    seconds_left: float


@dataclass(frozen=True)
class _Pending:
    block: PlacedBlock
    pass_index: int
    model: BlockModel
    limited: bool


class Sitting:
    """Measures and records what a table lacks.

    Args:
        table: to complete.
        backend: measures.
        protocol: of each pass.
        build: what is asked for.
        blocks: of the build, by key.
        models: for their files.
        seed: of the order of measuring.

    Attributes:
        guards: set before ``run``.
        adaptive: chooses further passes; None for none.
        deadline: by ``time.monotonic``; no pass begins later.
        passes: measured, rejected ones included.
        unsteady: passes whose warm-up did not become steady.
        unchecked: blocks whose outputs could not be checked.
        kernel_ms: all runs of models, anchors included, by the clock that measures.
        kernel_wall_ms: the same runs by the wall clock.
        estimated_s: how long it was thought to take.
    """

    guards: Guards
    adaptive: Adaptive | None
    deadline: float

    def __init__(
        self,
        table: LatencyTable,
        backend: Backend,
        protocol: Protocol,
        build: Build,
        blocks: dict[str, PlacedBlock],
        models: ModelFolder,
        seed: int,
    ) -> None:
        self._table, self._backend, self._protocol, self._models = table, backend, protocol, models
        self.blocks, self.adaptive, self.deadline = blocks, None, math.inf
        self._limit_ms = build.latency_max_ms
        self._recorded = {key for key, _ in table.recorded()}
        self._checked = set(self._recorded)  # by the sitting that recorded it
        self._too_slow = set()
        if self._limit_ms is not None:
            skipped = {item.key for item in table.skipped() if item.measured_ms > self._limit_ms}
            self._too_slow = (skipped & blocks.keys()) - self._recorded
        order = interleave(list(blocks.values()), protocol.passes, seed)
        there = table.recorded()
        self._queue = deque(
            (block, number)
            for block, number in order
            if (block.key, number) not in there and block.key not in self._too_slow
        )
        self._total = len(order)
        self._left = Counter(block.key for block, _ in self._queue)
        self._in_flight: dict[str, _Pending] = {}
        self._contexts: dict[str, list[ContextGraph]] = {}
        self._seed, self._turn = seed, 0
        self._seconds: dict[str, float] = {}
        self.passes, self.unsteady, self.unchecked = 0, 0, 0
        self.kernel_ms, self.kernel_wall_ms, self.estimated_s = 0.0, 0.0, 0.0

    def run(self, progress: Callable[[BuildProgress], None]) -> None:
        """Measure and record until nothing is left."""
        limited = dataclasses.replace(self._protocol, stop_above_ms=self._limit_ms)
        pending = [block for block, _ in self._queue]
        model = TimeModel.of_entries(self._table.entries())
        if model is None and pending:
            model = TimeModel.of_probe(pending, self._backend, self._models, self._protocol)
        if model is not None:
            beyond_s = self._backend.pass_overhead_ms(limited) / 1000
            self._seconds = {key: beyond_s + model.pass_seconds(block, limited) for key, block in self.blocks.items()}
        if not self._queue and not self._late():
            self._refill()
        if model is None or not self._queue:
            progress(BuildProgress(self._total, self._total, "", 0.0))
            return
        self._remaining = Remaining([self._seconds[block.key] for block, _ in self._queue])
        self.estimated_s = self._remaining.total_s
        session = self._table.start_session(session_provenance(self._backend, self._protocol, self._seed))
        run_ms = {key: model.ms_per_mac * block.macs for key, block in self.blocks.items()}
        self.guards.start(session, run_ms, len(self._queue))
        progress(BuildProgress(self._total - sum(self._left.values()), self._total, "", self.estimated_s))
        while self._queue:
            for identifier, result in self._backend.measure(self._jobs()):
                if self.guards.take_anchor(identifier, result):
                    self._count(result)
                    continue
                job = self._in_flight.pop(identifier, None)
                if job is None:
                    raise BackendError(f"backend {self._backend.name} returned a result for unknown job {identifier!r}")
                before = sum(self._left.values())
                self._take(job, result, session)
                seconds_left = 0.0
                for _ in range(before - sum(self._left.values())):
                    seconds_left = self._remaining.done(self._seconds[job.block.key])
                done = self._total - sum(self._left.values())
                progress(BuildProgress(done, self._total, job.block.text, seconds_left))
            if self._in_flight:
                raise BackendError(
                    f"backend {self._backend.name} ended with {len(self._in_flight)} models not measured",
                    hint="run the command again: what is recorded stays",
                )
            if not self._queue and not self._late():
                self._remaining.add([self._seconds[block.key] for block, _ in self._refill()])

    def reached(self) -> Reached | None:
        """Return how precise the table is now, where a precision was asked for."""
        return None if self.adaptive is None else self.adaptive.reached(self._too_slow, out_of_time=self._late())

    def _refill(self) -> list[tuple[PlacedBlock, int]]:
        """Queue what the guards want to have measured again; where they are content, what a target still needs."""
        again = self.guards.review()
        if not again and self.adaptive is not None:
            again = self.adaptive.next_passes(self._too_slow, self._seconds)
            self._total += len(again)
        self._left.update(key for key, _ in again)
        self._turn += 1
        self._queue.extend(shuffled([(self.blocks[key], number) for key, number in again], [self._seed, self._turn]))
        return list(self._queue)

    def _late(self) -> bool:
        return time.monotonic() >= self.deadline

    def _count(self, result: PassResult) -> None:
        self.kernel_ms += result.kernel_ms
        self.kernel_wall_ms += result.kernel_wall_ms

    def _jobs(self) -> Iterator[MeasureJob]:
        while self._queue:
            block, number = self._queue.popleft()
            if block.key in self._too_slow:
                continue
            if self._late():
                self._queue.clear()
                return
            anchor = self.guards.anchor_before(block.key, number)
            if anchor is not None:
                yield self._anchor_job(*anchor)
            # Only a block's first pass decides whether it is skipped: later ones would do so by noise.
            limited = self._limit_ms is not None and block.key not in self._recorded
            protocol = dataclasses.replace(self._protocol, stop_above_ms=self._limit_ms if limited else None)
            if number >= self._protocol.passes:  # added for the precision of the hot median
                protocol = dataclasses.replace(protocol, cold_runs=0)
            identifier = f"{block.digest}-{number}"
            self._in_flight[identifier] = _Pending(block, number, self._models.model(block), limited)
            path = self._in_flight[identifier].model.path
            yield MeasureJob(identifier, path, protocol, repetition=number, context=self._context(block))
        anchor = self.guards.last_anchor()
        if anchor is not None:
            yield self._anchor_job(*anchor)

    def _context_graphs(self, block: PlacedBlock) -> list[ContextGraph]:
        """Return what a block is timed with besides itself: behind its prefix, and the prefix; empty for none."""
        if self._backend.block_measure == "isolated":
            return []
        if block.key not in self._contexts:
            prefix = prefix_of(block)
            self._contexts[block.key] = [] if prefix is None else [with_prefix(block), prefix]
        return self._contexts[block.key]

    def _context(self, block: PlacedBlock) -> JobContext | None:
        if self._backend.block_measure == "isolated":
            return None
        paths = [self._models.model(graph).path for graph in self._context_graphs(block)]
        return JobContext(*paths) if paths else JobContext(self._models.model(block).path, None)

    def _release(self, block: PlacedBlock, *, last: bool) -> None:
        self._models.release(block, last=last)
        for graph in self._context_graphs(block)[:1]:  # the prefix is other blocks' too
            self._models.release(graph, last=last)

    def _anchor_job(self, identifier: str, block: PlacedBlock) -> MeasureJob:
        protocol = dataclasses.replace(ANCHOR_PROTOCOL, threads=self._protocol.threads)
        return MeasureJob(identifier, self._models.model(block).path, protocol)

    def _take(self, job: _Pending, result: PassResult, session: int) -> None:
        block, key, model_sha256 = job.block, job.block.key, job.model.sha256
        self.passes += 1
        self._count(result)
        self.unsteady += not result.steady
        if key in self._too_slow:  # a backend that works ahead had this one under way
            return
        if self.guards.refuse(block, job.pass_index, result, session, model_sha256):
            self._queue.append((block, job.pass_index))
            return
        # A stopped warm-up has slower runs ahead, so its fastest run is what it proves.
        measured_ms = min(result.warm_up_ms) if result.stopped else float(np.median(cost_samples(result)))
        if result.stopped and key in self._recorded:
            self._queue.append((block, job.pass_index))  # an earlier pass was below the limit: measure this one too
        elif job.limited and key not in self._recorded and self._limit_ms is not None and measured_ms > self._limit_ms:
            self._too_slow.add(key)
            self._left[key] = 0
            self._table.record_skip(
                block,
                result,
                limit_ms=self._limit_ms,
                measured_ms=measured_ms,
                session=session,
                sha256=model_sha256,
            )
            self._release(block, last=True)
        else:
            if key not in self._checked:  # before anything of it is recorded
                self.unchecked += not check_outputs(block, job.model.path, self._backend)
                self._checked.add(key)
            self._table.record_pass(block, job.pass_index, result, session=session, model_sha256=model_sha256)
            self._recorded.add(key)
            self._left[key] -= 1
            self._release(block, last=self._left[key] == 0 and self.adaptive is None)

"""Build a latency table: measure every block of a space (or of one network), in any number of sittings."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.architecture import Network, PlacedBlock
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError, InputError
from dfmobile.files import FileLock
from dfmobile.latency.backends.base import Backend, MeasureJob, as_backend
from dfmobile.latency.coverage import Coverage, coverage
from dfmobile.latency.header import Build, TableHeader
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import BlockModel, ModelFolder
from dfmobile.latency.output_check import check_outputs
from dfmobile.latency.provenance import session_provenance
from dfmobile.latency.schedule import Remaining, TimeModel, interleave
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
class BuildReport:
    """What a build did.

    Kernel time is all runs of models together, warm-up and cold ones included. By the wall clock it compares with
    ``wall_s`` (what does this tool add?) also on a machine that others use; by CPU time it is what the models need.

    Attributes:
        path: of the table.
        coverage: of the table for what was asked, all sittings.
        passes: measured in this sitting.
        estimated_s: how long it was thought to take, before it began.
        wall_s: how long it took.
        kernel_s: kernel time by the wall clock.
        kernel_clock_s: kernel time by the clock that measures: CPU time for one thread.
        unsteady_passes: passes whose warm-up did not become steady within its limit.
        unchecked_blocks: blocks recorded in this sitting whose outputs the backend could not give back to be checked.
    """

    path: Path
    coverage: Coverage
    passes: int
    estimated_s: float
    wall_s: float
    kernel_s: float
    kernel_clock_s: float
    unsteady_passes: int
    unchecked_blocks: int

    @property
    def ratio(self) -> float | None:
        """Wall time over kernel time; None where nothing was measured."""
        return self.wall_s / self.kernel_s if self.kernel_s else None

    @property
    def overhead_ms_a_pass(self) -> float | None:
        """Wall time beyond the runs themselves, for each pass; None where nothing was measured."""
        return 1000 * (self.wall_s - self.kernel_s) / self.passes if self.passes else None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "table": str(self.path),
            "coverage": self.coverage.to_dict(),
            "passes": self.passes,
            "estimated_s": self.estimated_s,
            "wall_s": self.wall_s,
            "kernel_s": self.kernel_s,
            "kernel_clock_s": self.kernel_clock_s,
            "ratio": self.ratio,
            "overhead_ms_a_pass": self.overhead_ms_a_pass,
            "unsteady_passes": self.unsteady_passes,
            "unchecked_blocks": self.unchecked_blocks,
        }

    @property
    def text(self) -> str:
        """One line for people."""
        if self.ratio is None:
            return f"{self.coverage.text}; nothing was left to measure"
        return (
            f"{self.coverage.text}; {self.passes} passes in {self.wall_s:.1f} s"
            f" (kernels {self.kernel_s:.1f} s, ratio {self.ratio:.2f}; by CPU time {self.kernel_clock_s:.1f} s)"
            + (f"; outputs of {self.unchecked_blocks} blocks not checked" if self.unchecked_blocks else "")
        )


def build_table(
    path: str | os.PathLike[str],
    source: SearchSpace | Network,
    width: int,
    height: int,
    device: Device,
    backend: Backend | str,
    protocol: Protocol,
    *,
    precision: str = "fp32",
    latency_max_ms: float | None = None,
    seed: int = 0,
    progress: Callable[[BuildProgress], None] | None = None,
) -> BuildReport:
    """Measure what a table lacks of a space or network; run again, it goes on where it was stopped in any way.

    Args:
        path: of the table; made if it is not there. Blocks of several spaces and input sizes may share one.
        source: what is to be predicted from the table.
        width: of the input image, pixels.
        height: of the input image, pixels.
        device: where to measure.
        backend: with what: a registered name, or an object that fits device, protocol and precision.
        protocol: how.
        precision: of the backend, where it is given by name.
        latency_max_ms: blocks that alone take longer are recorded as skipped, after one short pass.
        seed: of the order of measuring.
        progress: called before the first pass and after each.

    Raises:
        InputError: if the table belongs to another device, backend, version, precision, threads or affinity.
        LockedError: if another process is building it; the message names its pid.
        StorageError: if something cannot be written; every pass recorded so far stays.
        FileFormatError: if the table is damaged or of another schema version.
        BackendError: if a block cannot be measured, or its outputs are wrong.
        DeviceError: if the device is gone.
    """
    start = time.monotonic()
    path = Path(path)
    backend = as_backend(backend, device, protocol, precision)
    if isinstance(source, Network) and (source.width, source.height) != (width, height):
        raise InputError(f"the network was built for {source.width}x{source.height}, not for {width}x{height}")
    blocks = source.blocks if isinstance(source, Network) else source.blocks(width, height)
    build = Build(
        space=None if isinstance(source, Network) else source.name,
        network=source.architecture.text if isinstance(source, Network) else None,
        width=width,
        height=height,
        passes=protocol.passes,
        latency_max_ms=dataclasses.replace(protocol, stop_above_ms=latency_max_ms).stop_above_ms,
        keys=list({block.key: None for block in blocks}),
    )
    with FileLock(path, "building the table"), _open_or_create(path, backend) as table:
        table.note_build(build)
        folder = path.with_name(f".{path.name}.models")
        with ModelFolder(folder, backend.model_format, backend.file_precision) as models:
            sitting = _Sitting(table, backend, protocol, build, {block.key: block for block in blocks}, models, seed)
            sitting.run(progress or (lambda _: None))
        return BuildReport(
            path=path,
            coverage=coverage(table, build),
            passes=sitting.passes,
            estimated_s=sitting.estimated_s,
            wall_s=time.monotonic() - start,
            kernel_s=sitting.kernel_wall_ms / 1000,
            kernel_clock_s=sitting.kernel_ms / 1000,
            unsteady_passes=sitting.unsteady,
            unchecked_blocks=sitting.unchecked,
        )


def _open_or_create(path: Path, backend: Backend) -> LatencyTable:
    header = TableHeader.of(backend)
    if not path.exists():
        return LatencyTable.create(path, header)
    table = LatencyTable.open(path)
    differences = table.header.differences(header)
    if differences:
        table.close()
        raise InputError(
            f"{path} holds other measurements: {'; '.join(differences)}",
            hint="what was measured otherwise goes into another file: choose another -o",
        )
    return table


@dataclass(frozen=True)
class _Pending:
    block: PlacedBlock
    pass_index: int
    model: BlockModel
    limited: bool


class _Sitting:
    """One process's share of a build."""

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
        self._seed = seed
        self.passes, self.unsteady, self.unchecked = 0, 0, 0
        self.kernel_ms, self.kernel_wall_ms, self.estimated_s = 0.0, 0.0, 0.0

    def run(self, progress: Callable[[BuildProgress], None]) -> None:
        """Measure and record until nothing is left."""
        limited = dataclasses.replace(self._protocol, stop_above_ms=self._limit_ms)
        if not self._queue:
            progress(BuildProgress(self._total, self._total, "", 0.0))
            return
        pending = [block for block, _ in self._queue]
        model = TimeModel.of_entries(self._table.entries())
        if model is None:
            model = TimeModel.of_probe(pending, self._backend, self._models, self._protocol)
        estimates = {block.key: model.pass_seconds(block, limited) for block in pending}
        remaining = Remaining([estimates[block.key] for block in pending])
        self.estimated_s = remaining.total_s
        session = self._table.start_session(session_provenance(self._backend, self._protocol, self._seed))
        progress(BuildProgress(self._total - sum(self._left.values()), self._total, "", remaining.total_s))
        while self._queue:
            for identifier, result in self._backend.measure(self._jobs()):
                job = self._in_flight.pop(identifier, None)
                if job is None:
                    raise BackendError(f"backend {self._backend.name} returned a result for unknown job {identifier!r}")
                before = sum(self._left.values())
                self._take(job, result, session)
                seconds_left = 0.0
                for _ in range(before - sum(self._left.values())):
                    seconds_left = remaining.done(estimates[job.block.key])
                done = self._total - sum(self._left.values())
                progress(BuildProgress(done, self._total, job.block.text, seconds_left))
            if self._in_flight:
                raise BackendError(
                    f"backend {self._backend.name} ended with {len(self._in_flight)} models not measured",
                    hint="run the command again: what is recorded stays",
                )

    def _jobs(self) -> Iterator[MeasureJob]:
        while self._queue:
            block, number = self._queue.popleft()
            if block.key in self._too_slow:
                continue
            # Only a block's first pass decides whether it is skipped: later ones would do so by noise.
            limited = self._limit_ms is not None and block.key not in self._recorded
            protocol = dataclasses.replace(self._protocol, stop_above_ms=self._limit_ms if limited else None)
            identifier = f"{block.digest}-{number}"
            self._in_flight[identifier] = _Pending(block, number, self._models.model(block), limited)
            yield MeasureJob(identifier, self._in_flight[identifier].model.path, protocol)

    def _take(self, job: _Pending, result: PassResult, session: int) -> None:
        block, key, model_sha256 = job.block, job.block.key, job.model.sha256
        self.passes += 1
        self.kernel_ms += result.kernel_ms
        self.kernel_wall_ms += result.kernel_wall_ms
        self.unsteady += not result.steady
        if key in self._too_slow:  # a backend that works ahead had this one under way
            return
        # A stopped warm-up has slower runs ahead, so its fastest run is what it proves.
        measured_ms = min(result.warm_up_ms) if result.stopped else float(np.median(result.hot_ms))
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
            self._models.release(block, last=True)
        else:
            if key not in self._checked:  # before anything of it is recorded
                self.unchecked += not check_outputs(block, job.model.path, self._backend)
                self._checked.add(key)
            self._table.record_pass(block, job.pass_index, result, session=session, model_sha256=model_sha256)
            self._recorded.add(key)
            self._left[key] -= 1
            self._models.release(block, last=self._left[key] == 0)

"""Build a latency table: measure every block of a space (or of one network), in any number of sittings."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfmobile.architecture import Network
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.devices.device import Device
from dfmobile.errors import InputError
from dfmobile.files import FileLock
from dfmobile.latency.adaptive import Adaptive, Reached, Target
from dfmobile.latency.backends.base import Backend, as_backend
from dfmobile.latency.coverage import Coverage, coverage
from dfmobile.latency.guards import GuardReport, Guards
from dfmobile.latency.header import Build, TableHeader
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.models import ModelFolder
from dfmobile.latency.sitting import BuildProgress, Sitting
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.working_set import ensure_working_set, eviction_bytes, stored_working_set

__all__ = ["BuildProgress", "BuildReport", "build_table"]


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
        guards: what the guards rejected in this sitting, and what they still find.
        reached: how precise the table is; None where no precision was asked for.
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
    guards: GuardReport
    reached: Reached | None

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
            "guards": self.guards.to_dict(),
            "reached": None if self.reached is None else self.reached.to_dict(),
        }

    @property
    def text(self) -> str:
        """One line for people."""
        if self.ratio is None:
            return f"{self.coverage.text}; nothing was left to measure"
        return (
            f"{self.coverage.text}; {self.passes} passes in {self.wall_s:.1f} s"
            f" (kernels {self.kernel_s:.1f} s, ratio {self.ratio:.2f}"
            + (")" if self.kernel_clock_s == self.kernel_s else f"; by CPU time {self.kernel_clock_s:.1f} s)")
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
    target: Target | None = None,
    seed: int = 0,
    progress: Callable[[BuildProgress], None] | None = None,
    measure_caches: bool = False,
    tell: Callable[[str], None] | None = None,
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
        target: go on after the first passes until this is reached, or its time is used; None: do not.
        seed: of the order of measuring.
        progress: called before the first pass and after each.
        measure_caches: first measure how much the device's caches keep, where the table lacks it (CPUs; see
            ``working_set``): rule ``cache-aware`` needs it, and cold runs evict just that much.
        tell: told a line now and then.

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
    if protocol.passes < backend.least_passes:
        if target is None:
            raise InputError(
                f"{protocol.passes} passes a block are too few for backend {backend.name}: each has an engine of its "
                "own, and engines of one block differ in speed",
                hint=f"--passes {backend.least_passes} or more",
            )
        protocol = dataclasses.replace(protocol, passes=backend.least_passes)
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
        caches = measure_caches and backend.processor == "cpu"
        working_set = ensure_working_set(table, backend, tell) if caches else stored_working_set(table)
        protocol = dataclasses.replace(protocol, evict_bytes=eviction_bytes(working_set, device.profile))
        folder = path.with_name(f".{path.name}.models")
        opset = backend.file_options.opset
        with ModelFolder(folder, backend.model_format, backend.file_precision, opset=opset) as models:
            sitting = Sitting(table, backend, protocol, build, {block.key: block for block in blocks}, models, seed)
            sitting.guards = Guards(table, sitting.blocks)
            if target is not None:
                sitting.adaptive = Adaptive(table, source, width, height, target)
                sitting.deadline = start + (target.time_budget_s or math.inf)
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
            guards=sitting.guards.report(),
            reached=sitting.reached(),
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

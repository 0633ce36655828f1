"""Things that the latency tests share: a backend whose timings are known, and a tiny table."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dfmobile.architecture import Network, build, resolve
from dfmobile.devices.device import Device, open_device
from dfmobile.latency.backends.base import Backend, MeasureJob, RuntimeIdentity
from dfmobile.latency.builder import BuildReport, build_table
from dfmobile.latency.measurement import PassResult, Protocol

QUICK = Protocol(passes=2, runs=2, cold_runs=1, warm_up_ms=0.0, warm_up_limit_ms=5.0)
MINI = "df,stem=8s1,classes=10,channels=1/8/8,16/16"


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """Yield a temporary folder, in memory where there is such a place: on a busy disk a pass takes 20 ms to record."""
    memory = Path("/dev/shm")  # noqa: S108
    usable = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**26
    with tempfile.TemporaryDirectory(dir=memory if usable else None) as folder:
        yield Path(folder)


def result_of(*hot_ms: float, **changes: Any) -> PassResult:
    """Return a pass with these hot samples."""
    fields: dict[str, Any] = {
        "hot_ms": list(hot_ms),
        "cold_ms": [2 * value for value in hot_ms[:1]],
        "clock": "thread-cpu",
        "warm_up_ms": list(hot_ms[:1]) or [1.0],
        "warm_up_runs": 1,
        "steady": True,
        "init_ms": 1.0,
        "kernel_ms": 3 * sum(hot_ms),
        "kernel_wall_ms": 3 * sum(hot_ms),
        "cpu_wall_ratio": 1.0,
        "involuntary_switches": 0,
        "started_utc": "2026-01-01T00:00:00+00:00",
        "conditions_before": {"temperature_c": {"cpu": 40.5}},
        "conditions_after": {"temperature_c": {"cpu": 41.0}},
    }
    return PassResult(**{**fields, **changes})


class KnownBackend(Backend):
    """Says that a model takes as many ms as its file has kilobytes, and remembers what it was asked."""

    name = "known"
    model_format = "tflite"

    def __init__(self, device: Device, *, threads: int = 1, precision: str = "fp32", version: str = "1.0") -> None:
        super().__init__(device, threads=threads, precision=precision)
        self.version = version
        self.measured: list[str] = []
        self.before_result: Callable[[MeasureJob], None] = lambda job: None
        self.pace: Callable[[MeasureJob], float] = lambda job: 1.0  # times the known time
        self.changes: Callable[[MeasureJob], dict[str, Any]] = lambda job: {}  # to the pass

    def identity(self) -> RuntimeIdentity:
        """See base class."""
        return RuntimeIdentity("Known", self.version, "ab" * 32, {"honest": True})

    def affinity(self) -> str | None:
        """See base class."""
        return "01"

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """See base class."""
        for job in jobs:
            self.before_result(job)
            time_ms = job.model_path.stat().st_size / 1000 * self.pace(job)
            self.measured.append(job.id)
            limit = job.protocol.stop_above_ms
            if limit is not None and time_ms > limit:
                yield job.id, result_of(stopped=True, cold_ms=[], warm_up_ms=[time_ms])
            else:
                yield job.id, result_of(*[time_ms] * job.protocol.runs, **self.changes(job))


class AheadBackend(KnownBackend):
    """Takes four jobs at a time and returns them backwards, as a backend that drives a phone may."""

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """See base class."""
        batch: list[MeasureJob] = []
        for job in jobs:
            batch.append(job)
            if len(batch) == 4:
                yield from super().measure(reversed(batch))
                batch = []
        yield from super().measure(reversed(batch))


def mini_network(size: int = 32) -> Network:
    """Return a small network of the df-mini space: five distinct blocks and more."""
    return build(resolve(MINI), size, size)


def build_mini(path: Path, backend: Backend | None = None, **options: Any) -> BuildReport:
    """Build a table of the mini network with a known backend."""
    device = open_device("local")
    network = options.pop("network", None) or mini_network()
    protocol = options.pop("protocol", QUICK)
    return build_table(
        path, network, network.width, network.height, device, backend or KnownBackend(device), protocol, **options
    )

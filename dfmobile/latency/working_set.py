"""How much a device really keeps in its caches, and what a call of the runtime costs: measured, kept in the table.

The last-level cache of a data sheet is shared, sliced, or behind another one, so its size says little about when
weights are still there at the next inference. What counts is measured through the backend itself, on any device it
drives: a chain of fully connected layers reads every weight once a run, so its time a byte is flat while the weights
stay in the cache, flat again when all come from memory, and in between lies the *effective* last-level cache.

The same sweep gives the *curve*: which share of the weights comes from memory at each working set.

A model of one ReLU on one number costs nothing but the call: each block measured alone pays it, a network pays it once.
It is measured with evicted caches too: what the runtime itself pays then is no part of a block's cold time that a
network would pay for each of its blocks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dfmobile.devices.profile import DeviceProfile
from dfmobile.errors import BackendError
from dfmobile.graph import Graph, GraphBuilder
from dfmobile.graph.cost import FLOAT32_BYTES, params
from dfmobile.latency.backends.base import Backend, MeasureJob
from dfmobile.latency.cache_curve import CacheCurve, curve_of, non_decreasing
from dfmobile.latency.header import Text, damaged
from dfmobile.latency.measurement import MAX_EVICTION_BYTES, MAX_SAMPLE_MS, PassResult, Protocol
from dfmobile.latency.models import ModelFolder
from dfmobile.latency.provenance import session_provenance, utc_now
from dfmobile.latency.statistics import quiet_latency
from dfmobile.latency.table import LatencyTable

DOCUMENT = "working-set"
SWEEP_PROTOCOL = Protocol(
    passes=3, runs=20, min_runs=5, hot_budget_ms=60.0, cold_runs=0, min_warm_up_runs=3, warm_up_ms=10.0
)
_COLD_CALL_PROTOCOL = Protocol(passes=3, runs=10, cold_runs=5, cold_budget_ms=1.0, warm_up_ms=10.0)
# Channels and layers of each model of the sweep: float32 weights of 0.26 MB to 134 MB.
_SWEEP = (
    (256, 1), (384, 1), (512, 1), (640, 1), (512, 2), (800, 1), (512, 3), (1024, 1), (512, 6), (1024, 2), (1024, 3),
    (1024, 4), (1024, 5), (1024, 6), (1024, 8), (1024, 12), (1024, 16), (1024, 24), (1024, 32),
)  # fmt: skip
_LEAST_SWEEP_BYTES, _MOST_SWEEP_BYTES = 16 * 2**20, 128 * 2**20
_PLATEAU_BYTES = 0.5e6  # below, calls and short loops count for more than bytes
_LEAST_STEP = 1.15
# A buffer of a cache's size leaves lines behind, since replacement is not strictly least-recent; four times does not.
_EVICTION_FACTOR, _LEAST_EVICTION_BYTES = 4, 4 * 2**20


class _Point(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    weight_bytes: Annotated[int, Field(ge=1, le=2**40)]
    hot_ms: Annotated[float, Field(gt=0, le=MAX_SAMPLE_MS)]


class WorkingSet(BaseModel):
    """What the sweep found.

    Attributes:
        effective_llc_bytes: footprint at which half of the weights come from memory; None where the time a byte does
            not rise by ``_LEAST_STEP``: then memory is no slower than caches for this runtime, or the sweep too small.
        call_overhead_ms: one call of the runtime.
        cold_call_ms: what evicted caches add to it; 0 in tables of earlier versions, which did not measure it.
        points: the sweep: weights, and the undisturbed time of a run.
        fast_ms_per_mb: time a megabyte while all weights stay in caches.
        slow_ms_per_mb: time a megabyte when all come from memory.
        measured_utc: when.
        session: of the table, with the provenance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    effective_llc_bytes: Annotated[float, Field(gt=0, le=2**40)] | None
    call_overhead_ms: Annotated[float, Field(ge=0, le=1000)]
    cold_call_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    points: Annotated[list[_Point], Field(min_length=1, max_length=1000)]
    fast_ms_per_mb: Annotated[float, Field(gt=0, le=MAX_SAMPLE_MS)]
    slow_ms_per_mb: Annotated[float, Field(gt=0, le=MAX_SAMPLE_MS)]
    measured_utc: Text
    session: Annotated[int, Field(ge=1)]

    @property
    def curve(self) -> CacheCurve | None:
        """Share of the cold time that a working set pays; None where there is no step from cache to memory."""
        if self.effective_llc_bytes is None:
            return None
        points = sorted((point.weight_bytes, point.hot_ms - self.call_overhead_ms) for point in self.points)
        sizes, rates = rates_of([size for size, _ in points], [time_ms for _, time_ms in points])
        return curve_of(sizes, rates, self.fast_ms_per_mb, self.slow_ms_per_mb) if len(sizes) else None

    @property
    def text(self) -> str:
        """One line for people."""
        call = f"a call costs {1000 * self.call_overhead_ms:.1f} µs"
        if self.effective_llc_bytes is None:
            return f"no step from cache to memory seen up to {self.points[-1].weight_bytes / 1e6:.0f} MB; {call}"
        ratio = self.slow_ms_per_mb / self.fast_ms_per_mb
        return (
            f"effective last-level cache {self.effective_llc_bytes / 1e6:.1f} MB (memory {ratio:.1f}x slower); {call}"
        )


def eviction_bytes(working_set: WorkingSet | None, profile: DeviceProfile) -> int | None:
    """Return how much to write before a cold run, so that weights lie where they do in a network that is too large.

    That is beyond the *effective* last-level cache, and no further: behind it there may be another one (a server's L3
    of hundreds of megabytes) from which networks of any usual size still read.

    Args:
        working_set: of the device.
        profile: of the device: twice its last-level cache is the most.

    Returns:
        Bytes; None for twice the last-level cache: where there is no working set, or no step in it.
    """
    if working_set is None or working_set.effective_llc_bytes is None:
        return None
    nominal = max((cache.size_bytes or 0 for cache in profile.caches), default=0)
    most = min(MAX_EVICTION_BYTES, 2 * nominal or MAX_EVICTION_BYTES)
    return min(most, max(_LEAST_EVICTION_BYTES, round(_EVICTION_FACTOR * working_set.effective_llc_bytes)))


@dataclass(frozen=True)
class _Model:
    name: str
    graph: Graph

    @property
    def key(self) -> str:
        """Which model it is."""
        return self.graph.key

    @property
    def digest(self) -> str:
        """Short name of the key."""
        return self.graph.digest


def stored_working_set(table: LatencyTable) -> WorkingSet | None:
    """Return what a table has; None where nothing was measured.

    Raises:
        FileFormatError: if it is damaged.
    """
    document = table.document(DOCUMENT)
    if document is None:
        return None
    try:
        return WorkingSet.model_validate(document)
    except ValidationError as error:
        raise damaged(str(table.path), "working set", error) from error


def ensure_working_set(
    table: LatencyTable, backend: Backend, progress: Callable[[str], None] | None = None
) -> WorkingSet:
    """Return a table's working set; measure and store it first where there is none.

    Args:
        table: of the backend; the caller holds its lock.
        backend: measures.
        progress: told a line before it begins.

    Raises:
        BackendError, DeviceError, StorageError: as for any measurement.
    """
    found = stored_working_set(table)
    if found is None:
        if progress is not None:
            progress("measuring how much the caches keep")
        found = measure_working_set(table, backend)
        table.set_document(DOCUMENT, found.model_dump(mode="json"))
    return found


def measure_working_set(table: LatencyTable, backend: Backend) -> WorkingSet:
    """Measure the sweep and the call; nothing is stored but a session.

    Raises:
        BackendError: if the backend leaves out a model.
    """
    protocol = dataclasses.replace(SWEEP_PROTOCOL, threads=backend.threads)
    models = [_null_model(), *(_chain(channels, layers) for channels, layers in _sizes(backend))]
    passes: list[list[PassResult]] = [[] for _ in models]
    with ModelFolder(
        table.path.with_name(f".{table.path.name}.sweep"), backend.model_format, backend.file_precision
    ) as folder:
        for turn in range(protocol.passes):
            order = np.random.default_rng(turn).permutation(len(models))
            jobs = (MeasureJob(f"sweep-{turn}-{n}", folder.model(models[n]).path, protocol) for n in order)
            for identifier, result in backend.measure(jobs):
                passes[int(identifier.rpartition("-")[2])].append(result)
    if not all(len(found) == protocol.passes for found in passes):
        raise BackendError(f"backend {backend.name} did not return all models of the working-set sweep")
    times = [quiet_latency([item.hot_ms for item in found]) for found in passes]
    sizes = [FLOAT32_BYTES * params(model.graph) for model in models[1:]]
    effective, fast, slow = effective_cache_bytes(sizes, [time - times[0] for time in times[1:]])
    found = WorkingSet(
        effective_llc_bytes=effective,
        call_overhead_ms=times[0],
        points=[_Point(weight_bytes=size, hot_ms=time) for size, time in zip(sizes, times[1:], strict=True)],
        fast_ms_per_mb=fast,
        slow_ms_per_mb=slow,
        measured_utc=utc_now(),
        session=table.start_session(session_provenance(backend, protocol, 0)),
    )
    if effective is None:
        return found
    return found.model_copy(update={"cold_call_ms": _cold_call_ms(table, backend, found)})


def _cold_call_ms(table: LatencyTable, backend: Backend, found: WorkingSet) -> float:
    """Return what evicted caches add to a call that computes nothing; 0 from backends that have no cold runs."""
    protocol = dataclasses.replace(
        _COLD_CALL_PROTOCOL,
        threads=backend.threads,
        evict_bytes=eviction_bytes(found, backend.device.profile),
    )
    with ModelFolder(
        table.path.with_name(f".{table.path.name}.sweep"), backend.model_format, backend.file_precision
    ) as folder:
        model = folder.model(_null_model()).path
        jobs = [MeasureJob(f"cold-call-{turn}", model, protocol) for turn in range(protocol.passes)]
        passes = [result for _, result in backend.measure(jobs)]
    added = [float(np.median(item.cold_ms)) - min(item.hot_ms) for item in passes if item.cold_ms]
    return max(0.0, float(np.median(added))) if added else 0.0


def effective_cache_bytes(sizes: Sequence[int], times_ms: Sequence[float]) -> tuple[float | None, float, float]:
    """Return the working set at which the time a byte is half-way from caches to memory, and both ends in ms a MB.

    The time a byte is first made non-decreasing (isotonic regression: a larger working set is never better cached),
    then read off between two sizes, linear in the logarithm of the size.

    Args:
        sizes: bytes, ascending.
        times_ms: of one run, without the call.

    Returns:
        (bytes, or None where there is no step; fast; slow).
    """
    size, rate = rates_of(sizes, times_ms)
    if len(rate) < 3:
        raise BackendError("the working-set sweep gave too few usable sizes", hint="run the command again")
    fast, slow = float(rate[0]), float(np.median(rate[-3:]))
    if slow < _LEAST_STEP * fast:
        return None, fast, slow
    level = math.sqrt(fast * slow)
    above = int(np.argmax(rate >= level))
    if above == 0:
        return float(size[0]), fast, slow
    low, high = rate[above - 1], rate[above]
    share = (level - low) / (high - low)
    return float(size[above - 1] * (size[above] / size[above - 1]) ** share), fast, slow


def rates_of(
    sizes: Sequence[float], times_ms: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the working sets that are large enough to tell, and ms a megabyte of each, made non-decreasing.

    Args:
        sizes: bytes, ascending.
        times_ms: of one run, without the call.
    """
    pairs = [(size, time) for size, time in zip(sizes, times_ms, strict=True) if size >= _PLATEAU_BYTES and time > 0]
    size = np.array([item for item, _ in pairs], np.float64)
    return size, non_decreasing(np.array([1e6 * time / item for item, time in pairs]))


def _sizes(backend: Backend) -> list[tuple[int, int]]:
    """Return the models of the sweep, up to four times the cache of the device profile."""
    nominal = max((cache.size_bytes or 0 for cache in backend.device.profile.caches), default=0) or 32 * 2**20
    most = min(_MOST_SWEEP_BYTES, max(_LEAST_SWEEP_BYTES, 4 * nominal))
    return [(c, n) for c, n in _SWEEP if FLOAT32_BYTES * c * c * n <= most]


def _chain(channels: int, layers: int) -> _Model:
    builder = GraphBuilder()
    value = builder.input("input0", (1, channels, 1, 1))
    for _ in range(layers):
        value = builder.conv(value, channels, 1, bias=True)
    return _Model(f"{channels}x{layers}", builder.build(value))


def _null_model() -> _Model:
    builder = GraphBuilder()
    return _Model("null", builder.build(builder.relu(builder.input("input0", (1, 1, 1, 1)))))

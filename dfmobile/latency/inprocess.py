"""Time a model inside this process: what every backend does whose runtime is a Python package.

The runtime is behind ``ModelRunner``; this module knows clocks, warm-up, cache eviction and contamination
evidence, and no runtime.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dfmobile.devices.profile import DeviceProfile
from dfmobile.errors import BackendError
from dfmobile.latency.measurement import MAX_EVICTION_BYTES, Clock, PassResult, Protocol
from dfmobile.runtimes.base import Array, ModelRunner

RunnerT = TypeVar("RunnerT", bound=ModelRunner)

KEPT_WARM_UP_RUNS = 32
DEFAULT_LAST_LEVEL_CACHE_BYTES = 32 * 2**20
_POOL_SIZE = 1_000_003  # prime: tiled values repeat at no power of two


class CacheEvictor:
    """Drives a device's caches full of something else, by writing a buffer.

    Args:
        profile: device profile, for the size of the cache.

    Attributes:
        default_bytes: twice the last-level cache: what is written where a protocol does not say.
        source: where the cache size is from, for the record.
    """

    def __init__(self, profile: DeviceProfile) -> None:
        sizes = [(cache.level, cache.size_bytes) for cache in profile.caches if cache.size_bytes]
        level, size = max(sizes, default=(0, DEFAULT_LAST_LEVEL_CACHE_BYTES))
        self.source = f"twice the L{level} of the device profile" if sizes else "default: cache size unknown"
        self.default_bytes = min(MAX_EVICTION_BYTES, 2 * size)
        self._buffer: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def evict(self, size_bytes: int | None = None) -> None:
        """Touch and dirty every cache line of a buffer.

        Args:
            size_bytes: of the buffer; None for the default.
        """
        length = -(-(self.default_bytes if size_bytes is None else size_bytes) // 8)
        if len(self._buffer) < length:
            self._buffer = np.ones(length, np.int64)
        self._buffer[:length] += 1


@lru_cache(maxsize=2)
def random_pool(seed: int) -> npt.NDArray[np.float32]:
    """Return standard normal values to tile tensors with; none is denormal, which some CPUs compute slowly."""
    values = np.random.default_rng(seed).standard_normal(_POOL_SIZE, np.float32)
    values[np.abs(values) < 1e-6] = 1e-6
    values.setflags(write=False)  # one array for all callers
    return values


def random_inputs(shapes: Sequence[tuple[int, ...]]) -> list[npt.NDArray[np.float32]]:
    """Return an input ``[N, C, H, W]`` a shape, the same ones every time."""
    pool = random_pool(seed=1)
    return [np.resize(pool[7 * position :], shape) for position, shape in enumerate(shapes)]


class Stopwatch:
    """Times single runs by CPU time of this thread (one thread) or by the wall clock (several).

    Attributes:
        clock: which of the two.
        kernel_ms: all runs so far by that clock.
        kernel_wall_ms: all runs so far by the wall clock.
    """

    def __init__(self, threads: int) -> None:
        self.clock: Clock = "thread-cpu" if threads == 1 else "wall"
        self.kernel_ms = 0.0
        self.kernel_wall_ms = 0.0
        self._now_ns = time.thread_time_ns if threads == 1 else time.perf_counter_ns

    def time_ms(self, run: Callable[[], object]) -> float:
        """Run once and return how long it took."""
        now_ns = self._now_ns
        wall = time.perf_counter_ns()
        start = now_ns()
        run()
        elapsed_ms = (now_ns() - start) / 1e6
        self.kernel_wall_ms += (time.perf_counter_ns() - wall) / 1e6
        self.kernel_ms += elapsed_ms
        return elapsed_ms


def run_pass(
    open_runner: Callable[[], RunnerT],
    protocol: Protocol,
    evictor: CacheEvictor,
    read_conditions: Callable[[], dict[str, Any]],
    *,
    input_shapes: Callable[[RunnerT], Sequence[tuple[int, ...]]],
    inspect: Callable[[RunnerT], dict[str, Any]] = lambda runner: {},
    keep_outputs: Callable[[RunnerT, list[Array]], None] = lambda runner, outputs: None,
    not_finite: str = "its weights are damaged",
) -> PassResult:
    """Measure one pass on a fresh runner, with ``random_inputs`` as inputs.

    The inputs are written again after each eviction: in a network a block finds its activations where the block
    before it left them, while its weights have been driven out.

    Args:
        open_runner: loads the model anew.
        protocol: run counts, warm-up, threads.
        evictor: for the cold runs.
        read_conditions: state of the device, before and after.
        input_shapes: gives the shapes, ``[N, C, H, W]``, that the runner's ``set_inputs`` takes.
        inspect: gives what is worth recording of the loaded model, JSON values (``PassResult.extra``).
        keep_outputs: is given the outputs of the last hot run.
        not_finite: hint where the model returns infinities.

    Raises:
        BackendError: if the model cannot be loaded or run, or returns values that are not finite.
    """
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    before = read_conditions()
    load_start = time.perf_counter_ns()
    runner = open_runner()
    with runner:
        init_ms = (time.perf_counter_ns() - load_start) / 1e6
        inputs = random_inputs(input_shapes(runner))
        runner.set_inputs(inputs)
        extra = inspect(runner)
        watch = Stopwatch(protocol.threads)
        warm_up, steady = _warm_up(runner, protocol, watch)
        fastest = min(warm_up)
        stopped = protocol.stop_above_ms is not None and fastest > protocol.stop_above_ms
        hot: list[float] = []
        cold: list[float] = []
        switches, ratio = None, None
        if not stopped:
            count = protocol.hot_runs_for(fastest)
            hot, switches, ratio = _hot_runs(runner, count, protocol.threads, watch)
            outputs = runner.outputs()
            keep_outputs(runner, outputs)
            if not all(np.isfinite(output).all() for output in outputs):
                raise BackendError("the model returned values that are not finite", hint=not_finite)
            for _ in range(protocol.cold_runs_for(fastest)):
                evictor.evict(protocol.evict_bytes)
                runner.set_inputs(inputs)
                cold.append(watch.time_ms(runner.invoke))
    return PassResult(
        hot_ms=hot,
        cold_ms=cold,
        clock=watch.clock,
        warm_up_ms=warm_up[:KEPT_WARM_UP_RUNS],
        warm_up_runs=len(warm_up),
        steady=steady,
        init_ms=init_ms,
        kernel_ms=watch.kernel_ms,
        kernel_wall_ms=watch.kernel_wall_ms,
        cpu_wall_ratio=ratio,
        involuntary_switches=switches,
        started_utc=started,
        conditions_before=before,
        conditions_after=read_conditions(),
        stopped=stopped,
        extra=extra,
    )


def _warm_up(runner: ModelRunner, protocol: Protocol, watch: Stopwatch) -> tuple[list[float], bool]:
    """Run until the time is up and the last run is about as fast as the fastest; return the runs, and whether so."""
    runs: list[float] = []
    fastest = math.inf
    start = time.perf_counter()
    while True:
        runs.append(watch.time_ms(runner.invoke))
        total = 1000 * (time.perf_counter() - start)  # wall clock: caches and clocks warm up in real time
        fastest = min(fastest, runs[-1])
        if len(runs) < protocol.min_warm_up_runs:
            continue
        too_slow = protocol.stop_above_ms is not None and fastest > protocol.stop_above_ms
        steady = runs[-1] <= protocol.steady_ratio * fastest
        if too_slow or total >= max(protocol.warm_up_ms, protocol.warm_up_limit_ms):
            return runs, steady
        if steady and total >= protocol.warm_up_ms:
            return runs, True


def _hot_runs(
    runner: ModelRunner, count: int, threads: int, watch: Stopwatch
) -> tuple[list[float], int | None, float | None]:
    """Return back-to-back samples, involuntary context switches, and CPU time over wall time."""
    cpu_now_ns = time.thread_time_ns if threads == 1 else time.process_time_ns
    switches = _involuntary_switches(threads)
    cpu, wall = cpu_now_ns(), time.perf_counter_ns()
    samples = [watch.time_ms(runner.invoke) for _ in range(count)]
    wall_spent = time.perf_counter_ns() - wall
    ratio = (cpu_now_ns() - cpu) / wall_spent if wall_spent else None
    after = _involuntary_switches(threads)
    return samples, None if switches is None or after is None else after - switches, ratio


def _involuntary_switches(threads: int) -> int | None:
    """Return the scheduler's count for this thread, or for the whole process where the runtime has several."""
    import resource

    who = getattr(resource, "RUSAGE_THREAD", None) if threads == 1 else resource.RUSAGE_SELF  # Linux only
    return None if who is None else resource.getrusage(who).ru_nivcsw


def call_overhead_ms(
    open_runner: Callable[[], RunnerT],
    input_shapes: Callable[[RunnerT], Sequence[tuple[int, ...]]],
    runs: int = 200,
) -> float:
    """Return the median time of calling a runtime from Python, from a model that computes next to nothing.

    It is evidence for readers of a table. Rules that subtract calls use the table's own, measured through the backend
    (``working_set``).
    """
    runner = open_runner()
    with runner:
        runner.set_inputs(random_inputs(input_shapes(runner)))
        watch = Stopwatch(threads=1)
        samples = [watch.time_ms(runner.invoke) for _ in range(runs)]
    return float(np.median(samples[runs // 2 :]))

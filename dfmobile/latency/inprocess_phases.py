"""Keep a model running inside this process, in phases: for every backend whose runtime is a Python package."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dfmobile.errors import BackendError
from dfmobile.latency.inprocess import RunnerT, random_inputs
from dfmobile.latency.phases import Phase, PhaseResult, PhasesResult
from dfmobile.latency.provenance import utc_now


class Timer:
    """The clocks of this machine; tests put others in their place."""

    def wall_ns(self) -> int:
        """Return the wall clock, monotonic."""
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """Return the CPU time of this thread."""
        return time.thread_time_ns()

    def sleep(self, seconds: float) -> None:
        """Give the CPU up for a while."""
        time.sleep(seconds)


def run_phases(
    open_runner: Callable[[], RunnerT],
    phases: Sequence[Phase],
    read_conditions: Callable[[], dict[str, Any]],
    *,
    threads: int,
    input_shapes: Callable[[RunnerT], Sequence[tuple[int, ...]]],
    inspect: Callable[[RunnerT], dict[str, Any]] = lambda runner: {},
    timer: Timer | None = None,
) -> PhasesResult:
    """Load a model once and run it phase after phase.

    Args:
        open_runner: loads the model.
        phases: in order; the first is usually a warm-up.
        read_conditions: state of the device.
        threads: of the runtime; the CPU time of a run is kept for one thread only.
        input_shapes: gives the shapes, ``[N, C, H, W]``, that the runner's ``set_inputs`` takes.
        inspect: gives what is worth recording of the loaded model, JSON values.
        timer: clocks.

    Raises:
        BackendError: if the model cannot be loaded or run, or returns values that are not finite.
    """
    clocks = timer or Timer()
    started = utc_now()
    load_start = clocks.wall_ns()
    runner = open_runner()
    with runner:
        init_ms = (clocks.wall_ns() - load_start) / 1e6
        inputs = random_inputs(input_shapes(runner))
        runner.set_inputs(inputs)

        def query() -> None:
            runner.set_inputs(inputs)
            runner.invoke()
            runner.outputs()

        extra = inspect(runner)
        found = [
            _run_phase(query if phase.whole_query else runner.invoke, phase, read_conditions, threads == 1, clocks)
            for phase in phases
        ]
        if not all(np.isfinite(output).all() for output in runner.outputs()):
            raise BackendError("the model returned values that are not finite", hint="its weights are damaged")
    return PhasesResult(found, init_ms, started, extra=extra)


def _run_phase(
    run: Callable[[], None], phase: Phase, read_conditions: Callable[[], dict[str, Any]], with_cpu: bool, clocks: Timer
) -> PhaseResult:
    found = PhaseResult(phase.name, conditions=[(0.0, read_conditions())])
    begin = clocks.wall_ns()
    last_kept, next_conditions, slot = -math.inf, phase.conditions_every_s or math.inf, 0
    while True:
        now_s = (clocks.wall_ns() - begin) / 1e9
        if now_s >= phase.least_s and found.runs >= phase.least_runs:
            break
        if now_s >= next_conditions:
            found.conditions.append((now_s, read_conditions()))
            next_conditions = now_s + (phase.conditions_every_s or math.inf)
        if phase.period_s is not None:
            slot = _wait_for_slot(slot, phase.period_s, begin, found, clocks)
        start = clocks.wall_ns()
        cpu = clocks.cpu_ns() if with_cpu else 0
        run()
        cpu = clocks.cpu_ns() - cpu if with_cpu else 0
        end = clocks.wall_ns()
        found.runs += 1
        start_s = (start - begin) / 1e9
        if start_s - last_kept >= phase.keep_every_s:
            last_kept = start_s
            found.start_s.append(start_s)
            found.wall_ms.append((end - start) / 1e6)
            if with_cpu:
                found.cpu_ms.append(cpu / 1e6)
    found.seconds = (clocks.wall_ns() - begin) / 1e9
    found.conditions.append((found.seconds, read_conditions()))
    return found


def _wait_for_slot(slot: int, period_s: float, begin_ns: int, found: PhaseResult, clocks: Timer) -> int:
    """Sleep until the next multiple of the period, and return which one comes after it.

    A frame that came while the model was running is gone, as a camera's is: the next one is taken.
    """
    now_s = (clocks.wall_ns() - begin_ns) / 1e9
    due = max(slot, math.ceil(now_s / period_s - 1e-9))
    found.missed += due - slot
    while (left_s := due * period_s - (clocks.wall_ns() - begin_ns) / 1e9) > 0:
        clocks.sleep(left_s)
    return due + 1

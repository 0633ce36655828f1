"""Was a pass disturbed? Evidence that a backend leaves behind, turned into a reason to measure again.

Thresholds. One pass of one interpreter repeats with a standard deviation of 2 to 3 % on a quiet machine, and what a
table says is a median of passes. So what shifts a pass by less than ``TOLERANCE`` (10 %, three to four standard
deviations) cannot be told from ordinary noise and is what the interval is for; what shifts it by more is rejected.

By the thread-CPU clock, preemption does not count as time, so involuntary switches and CPU over wall time are kept as
evidence and reject nothing. By the wall clock they do. Frequency, temperature and time that a hypervisor takes reach
both clocks.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dfmobile.latency.measurement import PassResult

TOLERANCE = 0.10
# A median of runs is not touched before half of the runs are.
DISTURBED_RUNS = 0.5
# CPUs slow themselves down from about here on (Snapdragon 845: 95 °C; x86: 95 to 105 °C; Jetson: 97 to 99 °C).
HOT_C = 95.0
# A pass takes a second or so: no CPU warms up so much by one, so something else heats it.
RISE_C = 15.0
# The kernel counts stolen time in ticks of 10 ms.
LEAST_STOLEN_MS = 30.0
LEAST_REFERENCES = 3
# What tegrastats counts is off by some MHz.
GPU_CLOCK_TOLERANCE = 0.03


def contamination(result: PassResult, others: Sequence[PassResult] = ()) -> str | None:
    """Return why a pass does not tell the truth, one line for people; None where nothing speaks against it.

    What a backend or device cannot tell (None, absent) is never held against a pass.

    Args:
        result: the pass.
        others: undisturbed passes of the same sitting, any blocks: what the clock and the CPU share usually are.
    """
    return (
        _preempted(result, others)
        or _frequency(result, others)
        or _gpu_clock(result)
        or _governor(result)
        or _temperature(result)
        or _stolen(result)
    )


def _preempted(result: PassResult, others: Sequence[PassResult]) -> str | None:
    if result.clock != "wall" or not result.hot_ms:
        return None
    switches = result.involuntary_switches
    if switches is not None and switches >= max(2.0, DISTURBED_RUNS * len(result.hot_ms)):
        return f"the scheduler took the CPU away {switches} times in {len(result.hot_ms)} runs by the wall clock"
    # How much CPU time several threads use depends on the model too, so only a large gap counts.
    usual = [item.cpu_wall_ratio for item in others if item.clock == "wall" and item.cpu_wall_ratio is not None]
    if result.cpu_wall_ratio is None or len(usual) < LEAST_REFERENCES:
        return None
    typical = statistics.median(usual)
    if result.cpu_wall_ratio < 0.5 * typical:
        return f"CPU time was {result.cpu_wall_ratio:.2f} of the wall time, usually {typical:.2f}"
    return None


def _frequency(result: PassResult, others: Sequence[PassResult]) -> str | None:
    """Look at the fastest core: which one a pass ran on is not known, and idle cores slow down by themselves.

    A clock that rises within a pass is a governor that follows the load, in the warm-up; one that falls is not.
    """
    before, after = _fastest_khz(result.conditions_before), _fastest_khz(result.conditions_after)
    if before is not None and after is not None and after < (1 - TOLERANCE) * before:
        return f"the clock fell from {before / 1000:.0f} to {after / 1000:.0f} MHz"
    usual = [khz for item in others if (khz := _fastest_khz(item.conditions_after)) is not None]
    if after is None or len(usual) < LEAST_REFERENCES:
        return None
    typical = statistics.median(usual)
    if abs(after - typical) > TOLERANCE * typical:
        return f"the clock was {after / 1000:.0f} MHz, usually {typical / 1000:.0f} MHz"
    return None


def _gpu_clock(result: PassResult) -> str | None:
    """Look at the GPU's clock while it was timed: here it counts both ways, since kernels ran all the while.

    Boards step it by some 5 to 10 %, so ``TOLERANCE`` would miss a step.
    """
    clock = result.extra.get("gpu_clock_mhz")
    if not isinstance(clock, Mapping):
        return None
    low, high = _number(clock.get("min")), _number(clock.get("max"))
    if low is None or high is None or low >= (1 - GPU_CLOCK_TOLERANCE) * high:
        return None
    return f"the GPU's clock went between {low:.0f} and {high:.0f} MHz"


def _governor(result: PassResult) -> str | None:
    before, after = result.conditions_before.get("governor"), result.conditions_after.get("governor")
    if isinstance(before, Mapping) and isinstance(after, Mapping) and dict(before) != dict(after):
        return "the frequency governor was changed"
    return None


def _temperature(result: PassResult) -> str | None:
    before = _numbers(result.conditions_before.get("temperature_c"))
    after = _numbers(result.conditions_after.get("temperature_c"))
    for zone, value in after.items():
        if value >= HOT_C:
            return f"{zone} was at {value:.0f} °C"
        if zone in before and value - before[zone] > RISE_C:
            return f"{zone} went from {before[zone]:.0f} to {value:.0f} °C"
    return None


def _stolen(result: PassResult) -> str | None:
    before, after = result.conditions_before, result.conditions_after
    stolen_ms = [_number(item.get("steal_ms")) for item in (before, after)]
    times = [_time(item.get("time_utc")) for item in (before, after)]
    if stolen_ms[0] is None or stolen_ms[1] is None or times[0] is None or times[1] is None:
        return None
    spent_ms = 1000 * (times[1] - times[0]).total_seconds()
    taken_ms = stolen_ms[1] - stolen_ms[0]
    if taken_ms >= max(LEAST_STOLEN_MS, TOLERANCE * spent_ms):
        return f"the hypervisor gave {taken_ms:.0f} of {spent_ms:.0f} ms to others"
    return None


def _fastest_khz(conditions: Mapping[str, Any]) -> float | None:
    return max(_numbers(conditions.get("frequency_khz")).values(), default=None)


def _numbers(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): number for name, item in value.items() if (number := _number(item)) is not None}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None

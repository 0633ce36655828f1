"""Power, clocks and temperatures of a board over the time of one command, and what follows for an inference.

Energy here is the integral of a rail's power over a window, divided by the inferences in it. What it is not: the
sensors average over some milliseconds of their own and are read some ten times a second, so only windows of a second
or more of steady work say something, never a single inference; and it is all that the rail feeds, idle power included,
not what the inference adds. Knows no transport.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from dfmobile.devices.jetson_facts import input_rails
from dfmobile.devices.tegrastats import TegrastatsSample
from dfmobile.errors import DeviceError, InputError

MIN_WINDOW_SAMPLES = 3

_EDGE_INTERVALS = 3.0  # a window's edge may be this far from the next sample
_BURST = 0.25  # lines that come this much faster than the interval were held back in a buffer


@dataclass(frozen=True)
class PowerSample:
    """One line of tegrastats in its time.

    Attributes:
        time_ms: since the command began; negative before it.
        stats: what the line says.
        gpu_khz: the GPU's clock from sysfs, which needs no rights; None where no file says it.
    """

    time_ms: float
    stats: TegrastatsSample
    gpu_khz: int | None = None

    @property
    def gpu_clock_khz(self) -> int | None:
        """The GPU's clock: from sysfs, else the largest that tegrastats gives."""
        if self.gpu_khz is not None:
            return self.gpu_khz
        most = max(self.stats.gpu_mhz, default=0)
        return most * 1000 or None


@dataclass(frozen=True)
class PowerTrace:
    """Samples over the time of one command.

    Attributes:
        samples: in the order of time.
        interval_ms: time between two samples that was asked for.
        timing: ``arrival``: each sample's time is when its line came (resolution 10 ms). ``index``: lines came in
            bursts, so samples are placed by their number times the interval, counted back from the last one.
        duration_ms: of the command; None where it was killed.
        exit_code: of the command; None where it was killed.
        problems: what tegrastats wrote that is no sample, e.g. why it did not run.
    """

    samples: tuple[PowerSample, ...]
    interval_ms: int
    timing: Literal["arrival", "index"]
    duration_ms: float | None
    exit_code: int | None
    problems: tuple[str, ...] = ()

    def window(self, start_ms: float, end_ms: float) -> tuple[PowerSample, ...]:
        """Return the samples of a window, its edges included.

        Raises:
            InputError: if the window has no length.
        """
        _check_window(start_ms, end_ms)
        return tuple(sample for sample in self.samples if start_ms <= sample.time_ms <= end_ms)

    def temperatures_c(self, time_ms: float) -> dict[str, float]:
        """Return the temperatures of the sample that is nearest to a time; empty where there is no sample."""
        if not self.samples:
            return {}
        return dict(min(self.samples, key=lambda sample: abs(sample.time_ms - time_ms)).stats.temperature_c)


@dataclass(frozen=True)
class Energy:
    """Energy of an inference over a window.

    Attributes:
        rails_mj: rail to millijoules an inference. Rails may feed each other: never add them up.
        input_rails: rails whose sum is what the module takes in; empty where that is not known of this board.
        input_mj: millijoules an inference that the module takes in; None where that is not known.
        mean_power_mw: rail to its mean power in the window.
        samples: how many samples the window has.
        window_ms: its length.
    """

    rails_mj: dict[str, float]
    input_rails: tuple[str, ...]
    input_mj: float | None
    mean_power_mw: dict[str, float]
    samples: int
    window_ms: float


def energy_per_inference_mj(trace: PowerTrace, start_ms: float, end_ms: float, inferences: int) -> Energy:
    """Return the energy of one inference: the integral of power over the window, divided by the inferences in it.

    Power between two samples is taken as a straight line; at the edges of the window, the same.

    Args:
        trace: of the command.
        start_ms: when the first of the inferences began, since the start of the command.
        end_ms: when the last one ended.
        inferences: how many there were.

    Raises:
        InputError: if the window has no length, or there are no inferences.
        DeviceError: if the trace has too few samples in the window, or does not reach over it, or has no rails.
    """
    if inferences < 1:
        raise InputError(f"energy of {inferences} inferences", hint="give the number of inferences in the window")
    power = mean_power_mw(trace, start_ms, end_ms)
    length_ms = end_ms - start_ms
    rails = {rail: milliwatts * length_ms / 1000 / inferences for rail, milliwatts in power.items()}
    wanted = input_rails(rails)
    return Energy(
        rails_mj=rails,
        input_rails=wanted,
        input_mj=math.fsum(rails[rail] for rail in wanted) if wanted else None,
        mean_power_mw=power,
        samples=len(trace.window(start_ms, end_ms)),
        window_ms=length_ms,
    )


def mean_power_mw(trace: PowerTrace, start_ms: float, end_ms: float) -> dict[str, float]:
    """Return the mean power of each rail that every sample of the window has, in milliwatts.

    Raises:
        InputError, DeviceError: as ``energy_per_inference_mj``.
    """
    inside = trace.window(start_ms, end_ms)
    if len(inside) < MIN_WINDOW_SAMPLES:
        why = f"; tegrastats wrote: {trace.problems[0]}" if trace.problems and not trace.samples else ""
        raise DeviceError(
            f"no power for {end_ms - start_ms:.0f} ms: {len(inside)} samples of tegrastats in it, "
            f"{MIN_WINDOW_SAMPLES} are needed{why}",
            hint=f"let the measurement run longer (10 intervals of {trace.interval_ms} ms or more)",
        )
    slack = _EDGE_INTERVALS * trace.interval_ms
    if inside[0].time_ms - start_ms > slack or end_ms - inside[-1].time_ms > slack:
        raise DeviceError(
            "no power for this window: the samples of tegrastats do not reach over it",
            hint="let tegrastats run as long as the measurement",
        )
    common = set(inside[0].stats.rails).intersection(*(sample.stats.rails for sample in inside))
    if not common:
        raise DeviceError("tegrastats shows no power: this board has no rails with a sensor", hint="measure without")
    return {rail: _mean(_points(trace, rail), start_ms, end_ms) for rail in inside[0].stats.rails if rail in common}


def gpu_clock_range_khz(trace: PowerTrace, start_ms: float, end_ms: float) -> tuple[int, int] | None:
    """Return the lowest and the highest clock of the GPU in a window; None where no sample has one."""
    clocks = [clock for sample in trace.window(start_ms, end_ms) if (clock := sample.gpu_clock_khz) is not None]
    return (min(clocks), max(clocks)) if clocks else None


def placed(arrivals_ms: Sequence[float], interval_ms: int) -> tuple[list[float], Literal["arrival", "index"]]:
    """Return the times of samples from when their lines came; by their number where they came in bursts.

    A program that writes into a pipe may hold lines back until its buffer is full; then many lines come at once.
    """
    steps = [later - earlier for earlier, later in pairwise(arrivals_ms)]
    ordered = all(step >= 0 for step in steps)
    # The clock has steps of 10 ms: an interval of that size cannot be told from a burst.
    if ordered and (not steps or interval_ms < 40 or median(steps) >= _BURST * interval_ms):
        return list(arrivals_ms), "arrival"
    last = max(arrivals_ms)
    return [last - (len(arrivals_ms) - 1 - index) * interval_ms for index in range(len(arrivals_ms))], "index"


def _points(trace: PowerTrace, rail: str) -> list[tuple[float, float]]:
    return [
        (sample.time_ms, float(sample.stats.rails[rail].now_mw))
        for sample in trace.samples
        if rail in sample.stats.rails
    ]


def _mean(points: list[tuple[float, float]], start_ms: float, end_ms: float) -> float:
    """Mean of a piecewise linear curve over a window; before its first and after its last point it is level."""
    inner = [point for point in points if start_ms < point[0] < end_ms]
    curve = [(start_ms, _at(points, start_ms)), *inner, (end_ms, _at(points, end_ms))]
    area = math.fsum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in pairwise(curve))
    return area / (end_ms - start_ms)


def _at(points: list[tuple[float, float]], time_ms: float) -> float:
    before = [point for point in points if point[0] <= time_ms]
    after = [point for point in points if point[0] >= time_ms]
    if not before:
        return after[0][1]
    if not after:
        return before[-1][1]
    (left, low), (right, high) = before[-1], after[0]
    return low if right == left else low + (high - low) * (time_ms - left) / (right - left)


def _check_window(start_ms: float, end_ms: float) -> None:
    if not (math.isfinite(start_ms) and math.isfinite(end_ms) and start_ms < end_ms):
        raise InputError(f"a window from {start_ms} to {end_ms} ms has no length", hint="give its start before its end")
